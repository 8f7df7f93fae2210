"""What is tried again and what is not, and the limits that the embedded stack gives Dagster."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.instance.config import dagster_instance_config

from lipservice_dagster.defs.raw_logs import LOG_STORE_POOL
from lipservice_dagster.defs.team_day_asset import may_pass
from lipservice_dagster.local.in_process import RunError
from lipservice_dagster.local.stack import write_dagster_yaml
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.sources.clickhouse import ClickHouseSource, embedded
from lipservice_dagster_tests.defs.conftest import World


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (LogSourceError("did not answer"), True),
        (ConnectionResetError(), True),
        (sa.exc.OperationalError("q", {}, Exception("server closed the connection unexpectedly")), True),
        (adbc.OperationalError("too many clients already", status_code=0), True),
        (LogSourceRefusedError("Code: 516"), False),
        (PermissionError(), False),
        (FileNotFoundError(), False),
        (sa.exc.OperationalError("q", {}, Exception('FATAL: password authentication failed for user "x"')), False),
        (sa.exc.OperationalError("q", {}, Exception('FATAL: database "x" does not exist')), False),
        (KeyError("x"), False),
    ],
)
def test_what_may_pass_by_itself_is_tried_again_and_bad_configuration_is_not(error: Exception, passes: bool) -> None:
    assert may_pass(error) == passes


class Refusing(ClickHouseSource):
    """A source whose table is not there."""

    def groups(self, team_days: Any, bounds: Any) -> Any:
        self.query("SELECT * FROM no_such_table")


def test_a_refused_question_fails_its_run_at_once(world: Callable[..., World], tmp_path: Path) -> None:
    source = embedded(tmp_path)
    source.__class__ = Refusing
    found = world(source=source)
    with pytest.raises(RunError, match="no_such_table"):
        found.run(1, date(2026, 9, 10))
    assert not any(
        e.dagster_event and e.dagster_event.event_type == dg.DagsterEventType.STEP_RESTARTED
        for run in found.instance.get_runs()
        for e in found.instance.all_logs(run.run_id)
    )


def test_the_embedded_stack_limits_runs_and_dagster_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPSERVICE_DAGSTER_POSTGRES_URL", "postgresql+psycopg2://u@h/d")
    chosen = Settings(_env_file=None, home=tmp_path, concurrent_runs=5, max_runtime_minutes=7)  # type: ignore[call-arg]
    home = write_dagster_yaml(chosen)
    config, _ = dagster_instance_config(str(home))
    assert config == json.loads((home / "dagster.yaml").read_text().split("\n", 1)[1])
    runs = config["concurrency"]["runs"]
    assert runs["max_concurrent_runs"] == 5
    assert {limit["key"]: limit["limit"] for limit in runs["tag_concurrency_limits"]} == {
        "lipservice/team": 1,
        "dagster/partition/team": 1,
    }
    assert config["run_monitoring"]["max_runtime_seconds"] == 420


def test_the_log_store_is_read_in_its_pool(world: Callable[..., World]) -> None:
    job = world().graph.definitions.resolve_job_def("team_day")
    assert job.tags["dagster/max_runtime"] == "7200"
    assert {op.name for op in job.graph.node_defs if op.pools == {LOG_STORE_POOL}} == {"raw_logs"}
