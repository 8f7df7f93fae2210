"""Asset backfills, as somebody asks for them in the UI: planned by the daemon's own code, days in order, wide runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context, instance_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration

from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.defs.conftest import World

LAST = date(2026, 9, 10)
ALL = (
    "raw_logs",
    "signatures",
    "clusters",
    "anomaly_reports",
    "policies",
    "replays",
    "backtests",
    "policy_releases",
    "savings",
)
Make = Callable[..., World]


@pytest.fixture
def daemon(
    another_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkspaceProcessContext]:
    """The workspace of a daemon over the code location as it is deployed; runs are executed where they are launched."""
    for name, value in {
        "HOME": str(tmp_path),
        "POSTGRES_DSN": another_database.dsn,
        "FIRST_DAY": "2026-08-01",
        "WINDOW_DAYS": "5",
        "BACKTEST_MIN_DAYS": "1",
    }.items():
        monkeypatch.setenv(f"LIPSERVICE_{name}", value)
    launcher = {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    }
    with (
        instance_for_test(overrides={"run_launcher": launcher, "telemetry": {"enabled": False}}) as instance,
        create_test_daemon_workspace_context(
            ModuleTarget("lipservice_dagster.definitions", None, None, None), instance
        ) as context,
    ):
        yield context


def backfill(context: WorkspaceProcessContext, team_days: list[TeamDay], *assets: str) -> list[set[str]]:
    """Let the daemon do a backfill to its end; the assets of each of its runs, in their order."""
    instance, name = context.instance, f"{time.time_ns():x}"
    instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            backfill_id=name,
            asset_graph=context.create_request_context().asset_graph,
            partition_names=[str(at) for at in team_days],
            asset_selection=[dg.AssetKey(a) for a in assets],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    )
    for _ in range(60):
        for _error in execute_backfill_iteration(context, logging.getLogger("backfill")):
            pass
        found = instance.get_backfill(name)
        if found is None or found.status != BulkActionStatus.REQUESTED:
            break
    assert found is not None
    assert found.status == BulkActionStatus.COMPLETED_SUCCESS, found.error
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": name}))
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    return [{key.to_user_string() for key in run.asset_selection or ()} for run in reversed(runs)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("teams", "days"), [(1, 4), (3, 2)])
def test_a_backfill_of_all_assets_gives_what_days_in_order_give(
    world: Make, daemon: WorkspaceProcessContext, another_database: Database, teams: int, days: int
) -> None:
    ordered = world(backtest_min_days=1)
    names, dates = range(1, teams + 1), [LAST - timedelta(days=n) for n in reversed(range(days))]
    with LogWriter(ordered.store) as writer:
        for team in names:
            for day in dates:
                writer.add(team, generate(team, day, until=LAST, days=days, logs_per_day=300))
    for team in names:
        ordered.run(team, dates[0], LAST)
    filled = World(ordered.graph, another_database, ordered.store, daemon.instance)
    daemon.instance.add_dynamic_partitions(TEAMS_NAME, [str(team) for team in names])
    wanted = [TeamDay(team, day) for day in dates for team in names]
    runs = backfill(daemon, wanted, *ALL)
    assert filled.tables() == ordered.tables()
    assert sorted(filled.ledger()) == sorted(ordered.ledger())
    assert filled.tables()["replays"]
    for asset in ALL:
        assert daemon.instance.get_materialized_partitions(dg.AssetKey(asset)) == {str(at) for at in wanted}
    assert len(runs) <= 6 * min(teams, days)  # wide ones
    before = filled.tables(), filled.ledger()
    backfill(daemon, wanted, "replays", "backtests", "policy_releases", "savings")
    assert (filled.tables(), filled.ledger()) == before
