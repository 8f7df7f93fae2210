"""Connections to PostgreSQL, and the migrations.

Frames move through ADBC (a million rows a second); everything else through SQLAlchemy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import adbc_driver_postgresql.dbapi as adbc
import sqlalchemy as sa

from lipservice_dagster.storage.tables import VERSION_TABLE

if TYPE_CHECKING:  # only migrations need it, and importing it takes a tenth of what loading the graph does
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
_UPGRADE_LOCK = 6_020_000_000_001  # any constant of ours: two upgrades at once take turns

# What a row's text looks like must not depend on a server's defaults: fingerprints are made of it.
_SESSION = ("SET TIME ZONE 'UTC'", "SET datestyle = 'ISO, YMD'", "SET extra_float_digits = 1")


class DatabaseError(Exception):
    """PostgreSQL is not there or not as it should be; the message says what to do."""


class Database:
    """LipService's PostgreSQL, by its DSN; connects when first asked.

    Without a DSN it can be built (the code location loads) but not asked: then DatabaseError says what to set.
    """

    def __init__(self, dsn: str | None):
        self._dsn = dsn
        # A new ADBC connection first reads the server's types (60 ms); idle ones are kept for the next user.
        self._idle: deque[adbc.Connection] = deque()

    @property
    def dsn(self) -> str:
        """The DSN."""
        if self._dsn is None:
            raise DatabaseError(
                "No PostgreSQL is set: start LipService with `lipservice dev` (which brings its own), or set"
                " LIPSERVICE_POSTGRES_DSN"
            )
        return self._dsn

    @cached_property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine."""
        # dagster-postgres needs psycopg2 beside it, and one driver is enough.
        url = sa.make_url(self.dsn).set(drivername="postgresql+psycopg2")
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=2, max_overflow=8)
        sa.event.listen(engine, "connect", _prepare)
        return engine

    def dispose(self) -> None:
        """Close the connections that are pooled."""
        if self._dsn is not None:
            self.engine.dispose()
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def frames(self) -> Iterator[adbc.Connection]:
        """A connection that moves Arrow tables: one transaction, committed on success, undone on an error."""
        connection = self._connection()
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.close()  # which undoes the transaction
            raise
        self._idle.append(connection)

    def _connection(self) -> adbc.Connection:
        while self._idle:
            connection = self._idle.pop()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except adbc.Error:
                connection.close()  # the server was restarted meanwhile, say
            else:
                return connection
        connection = adbc.connect(self.dsn)
        with connection.cursor() as cursor:
            for statement in _SESSION:
                cursor.execute(statement)
        connection.commit()
        return connection

    def revision(self) -> str | None:
        """The migration that the database is at; None for an empty one."""
        from alembic.runtime import migration

        with self.engine.connect() as connection:
            found = migration.MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            return found.get_current_revision()

    def upgrade(self) -> str:
        """Bring the tables to the newest migration and return its name; safe to repeat and to race."""
        from alembic import command

        with self.engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _UPGRADE_LOCK})
            try:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _UPGRADE_LOCK})
                connection.commit()
        return head()

    def require_current(self) -> None:
        """Raise DatabaseError where the tables are older or newer than this code."""
        try:
            found = self.revision()
        except sa.exc.OperationalError as error:
            raise DatabaseError(f"PostgreSQL does not answer: {str(error.orig).strip()}") from error
        if found != head():
            raise DatabaseError(
                f"The database is at migration {found or '(none)'}, this code needs {head()}:"
                " run `lipservice db upgrade`"
            )


def head() -> str:
    """The newest migration of this code."""
    from alembic.script import ScriptDirectory

    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if revision is None:
        raise DatabaseError(f"{_MIGRATIONS} holds no migration")
    return revision


def alembic_config() -> Config:
    """Alembic's configuration for our migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _prepare(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        for statement in _SESSION:
            cursor.execute(statement)
    connection.commit()
