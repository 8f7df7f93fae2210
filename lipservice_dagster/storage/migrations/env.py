"""Alembic's entry: runs the migrations on the connection that `Database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from lipservice_dagster.storage.tables import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, transaction_per_migration=True, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
