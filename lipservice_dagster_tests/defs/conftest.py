"""The graph over a log store, a database and a Dagster instance of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from lipservice_dagster.local.in_process import Graph
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import TEAM_DAY_TABLES, releases


@dataclass
class World:
    """A graph and what it writes to."""

    graph: Graph
    database: Database
    store: Path
    instance: dg.DagsterInstance

    def run(self, team_id: int, first: date, last: date | None = None) -> str:
        return self.graph.run(team_id, first, last or first)

    def tables(self) -> dict[str, list[str]]:
        """Every row of every table by team-day as text, sorted."""
        with self.database.engine.connect() as connection:
            return {
                name: list(connection.execute(sa.text(f"SELECT t::text FROM {name} AS t ORDER BY 1")).scalars())
                for name in TEAM_DAY_TABLES
            }

    def ledger(self) -> list[tuple[str, date, str, str]]:
        """service, day, state, generated_by of every release, oldest first."""
        with self.database.engine.connect() as connection:
            rows = connection.execute(sa.select(releases).order_by(releases.c.id)).all()
        return [(r.service, r.day, r.state, r.document["generated_by"]) for r in rows]


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a world; a source may stand in for the log store's own."""
    instances = []

    def make(*, on: Database = database, source: LogSource | None = None, **settings: object) -> World:
        values: dict[str, object] = {"home": tmp_path, "first_day": date(2026, 8, 1), "window_days": 5} | settings
        found = Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]
        instance = dg.DagsterInstance.ephemeral()
        instances.append(instance)
        return World(Graph(found, on, instance, log_source=source), on, found.embedded_logs, instance)

    yield make
    for instance in instances:
        instance.dispose()
