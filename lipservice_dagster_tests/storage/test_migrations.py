"""The migrations make the tables that the code describes, also when several processes run them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from lipservice_dagster.storage.database import Database, DatabaseError, alembic_config, head
from lipservice_dagster.storage.tables import TEAM_DAY_TABLES, VERSION_TABLE, metadata


def test_the_migrated_tables_are_those_of_the_code(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        partitioned = set(connection.execute(sa.text("SELECT relname FROM pg_class WHERE relkind = 'p'")).scalars())
    assert partitioned == set(TEAM_DAY_TABLES)


def test_every_revision_is_undone_by_its_downgrade_and_done_again(database: Database) -> None:
    with database.engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        seen = [_schema(connection)]
        steps = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        for revision in [*steps[1:], "base"]:
            command.downgrade(config, revision)
            connection.commit()
            seen.append(_schema(connection))
        assert seen[-1] == []
        for revision, before in zip(reversed(steps), reversed(seen[:-1]), strict=True):
            command.upgrade(config, revision)
            connection.commit()
            assert _schema(connection) == before, revision
    database.require_current()


def _schema(connection: sa.Connection) -> list[tuple[object, ...]]:
    """Every column, constraint and index of our tables."""
    statement = f"""
        SELECT 'column', table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default)
          FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '{VERSION_TABLE}'
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
          FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> '{VERSION_TABLE}'
        UNION ALL SELECT 'index', tablename, indexname, indexdef
          FROM pg_indexes WHERE schemaname = 'public' AND tablename <> '{VERSION_TABLE}'
         ORDER BY 1, 2, 3"""
    return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_an_old_database_is_refused_with_the_way_out(database: Database) -> None:
    database.require_current()
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0000'"))
    with pytest.raises(DatabaseError, match="lipservice db upgrade"):
        database.require_current()


def test_upgrades_at_once_take_turns(database: Database, dsn: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: Database(dsn).upgrade(), range(4))) == {head()}
    database.require_current()


def test_without_a_dsn_the_error_says_what_to_set() -> None:
    with pytest.raises(DatabaseError, match="LIPSERVICE_POSTGRES_DSN"):
        _ = Database(None).engine
