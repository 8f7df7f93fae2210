"""The graph over a log store, a database and a Dagster instance of the test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.local.in_process import Graph
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
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

    def run(self, team_id: int, first: date, last: date | None = None, *, replace: bool = False) -> str:
        return self.graph.run(team_id, first, last or first, replace=replace)

    def make(self, teams: Sequence[int], first: date, last: date, *assets: str) -> None:
        """All assets, or these, of neighbouring teams and days in one run, as a backfill does."""
        self.instance.add_dynamic_partitions(TEAMS_NAME, [str(t) for t in teams])
        ends = str(TeamDay(teams[0], first)), str(TeamDay(teams[-1], last))
        tags = dict(
            zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), ends, strict=True)
        )
        self._execute(assets or None, None, tags)

    def settle(self) -> list[dg.RunRequest]:
        """Run what the sensor of stale reports asks for until it asks for nothing; all that it asked for."""
        every: list[dg.RunRequest] = []
        cursor = None
        while (answer := self.tick("stale_reports", cursor)).run_requests:
            assert len(every) < 40
            cursor = answer.cursor
            for request in answer.run_requests:
                self.ask(request)
            every += answer.run_requests
        return every

    def tables(self) -> dict[str, list[str]]:
        """Every row of every table by team-day as text, sorted."""
        with self.database.engine.connect() as connection:
            return {
                name: list(connection.execute(sa.text(f"SELECT t::text FROM {name} AS t ORDER BY 1")).scalars())
                for name in TEAM_DAY_TABLES
            }

    def materialise(self, team_id: int, on: date, *assets: str) -> None:
        """Only these assets of a team-day, as somebody does in the UI."""
        self._execute(assets, TeamDay(team_id, on).key, {})

    def tick(self, sensor: str, cursor: str | None = None) -> Any:
        """What a sensor of the graph answers now; nothing that it asks for is run."""
        graph = self.graph.definitions.get_repository_def()
        # Dagster looks teams up only where it is told of an instance on disk; the answers are those of our own.
        with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as on_disk:
            context = dg.build_sensor_context(
                self.instance,
                instance_ref=on_disk.get_ref(),
                cursor=cursor,
                repository_def=graph,
                resources={"database": self.database, "log_source": self.graph.definitions.resources["log_source"]},  # type: ignore[index]
            )
        return graph.get_sensor_def(sensor).evaluate_tick(context)

    def ask(self, request: dg.RunRequest, sensor: str = "stale_reports") -> None:
        """Run what a sensor asked for, with the tags that the daemon gives it."""
        assets = [key.to_user_string() for key in request.asset_selection or []]
        tags = {"dagster/sensor_name": sensor, "dagster/run_key": str(request.run_key)}
        self._execute(assets, request.partition_key, dict(request.tags) | tags)

    def _execute(self, assets: Iterable[str] | None, partition_key: str | None, tags: dict[str, str]) -> None:
        done = self.graph.definitions.resolve_job_def(JOB).execute_in_process(
            instance=self.instance,
            asset_selection=None if assets is None else [dg.AssetKey(a) for a in assets],
            partition_key=partition_key,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert done.success

    def ledger(self) -> list[tuple[str, date, str, str]]:
        """service, day, state, generated_by of every release, oldest first."""
        with self.database.engine.connect() as connection:
            rows = connection.execute(sa.select(releases).order_by(releases.c.id)).all()
        return [(r.service, r.day, r.state, r.document["generated_by"]) for r in rows]


def world_of(
    database: Database, instance: dg.DagsterInstance, source: LogSource | None = None, **settings: object
) -> World:
    """A graph with these settings, of which `home` is one; a source may stand in for the log store's own."""
    values: dict[str, object] = {"first_day": date(2026, 8, 1), "window_days": 5} | settings
    found = Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]
    return World(Graph(found, database, instance, log_source=source), database, found.embedded_logs, instance)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a world; a source may stand in for the log store's own."""
    instances = []

    def make(*, on: Database = database, source: LogSource | None = None, **settings: object) -> World:
        instances.append(dg.DagsterInstance.ephemeral())
        return world_of(on, instances[-1], source, **({"home": tmp_path} | settings))

    yield make
    for instance in instances:
        instance.dispose()
