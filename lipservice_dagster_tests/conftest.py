"""What all tests share: a real PostgreSQL for each worker, a fresh database for each test, an embedded log store."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings

from lipservice_dagster.local import postgres
from lipservice_dagster.storage.database import Database

# A key in the environment is for the test that asks for it by name; no other shall call a paid API.
os.environ["LIPSERVICE_ADVISOR"] = "rules"

# A slow moment of a shared machine is no failure.
settings.register_profile("lipservice", deadline=None)
settings.load_profile("lipservice")


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Layout]:
    """An embedded PostgreSQL of this worker's own."""
    home = Path(tempfile.mkdtemp(prefix="lipservice-tests-"))
    home.chmod(0o755)  # as root the server runs as another user, who must get in
    try:
        with postgres.running(home) as layout:
            template = Database(layout.dsn("template_lipservice"))
            _create(layout, "template_lipservice")
            template.upgrade()
            template.dispose()
            yield layout
    finally:
        shutil.rmtree(home)


@contextmanager
def fresh_dsn(server: postgres.Layout) -> Iterator[str]:
    """The DSN of a database with our tables that goes with its block."""
    name = f"test_{uuid.uuid4().hex}"
    _create(server, name, template="template_lipservice")
    yield server.dsn(name)
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def fresh_database(server: postgres.Layout) -> Iterator[Database]:
    """A database with our tables that goes with its block."""
    with fresh_dsn(server) as dsn:
        found = Database(dsn)
        yield found
        found.dispose()


@pytest.fixture
def another_database(server: postgres.Layout) -> Iterator[Database]:
    """A second fresh database with our tables."""
    with fresh_database(server) as found:
        yield found


@pytest.fixture
def dsn(server: postgres.Layout) -> Iterator[str]:
    """The DSN of a fresh database with our tables."""
    with fresh_dsn(server) as found:
        yield found


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """A fresh database with our tables."""
    found = Database(dsn)
    yield found
    found.dispose()


def _create(layout: postgres.Layout, name: str, template: str = "template1") -> None:
    _administer(layout, f"CREATE DATABASE {name} TEMPLATE {template}")


def _administer(layout: postgres.Layout, statement: str) -> None:
    url = sa.make_url(layout.dsn("postgres")).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
