"""Connections: transactions that end whole, and a server that was away for a moment."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from lipservice_dagster.storage.database import Database


def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.frames() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE half AS SELECT 1")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    with database.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT to_regclass('half')")).scalar() is None


def test_a_connection_that_the_server_has_dropped_is_replaced(database: Database) -> None:
    with database.frames() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with database.engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    with database.frames() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_the_session_speaks_utc(database: Database) -> None:
    with database.frames() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('timezone')")
        assert cursor.fetchone() == ("UTC",)
    with database.engine.connect() as connection:
        assert connection.execute(sa.text("SHOW timezone")).scalar() == "UTC"
