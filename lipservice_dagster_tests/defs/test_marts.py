"""The marts, made by real dbt in a real PostgreSQL: what they hold, when they are made, what checks them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import create_run_for_test

from lipservice_dagster.defs import marts as marts_defs
from lipservice_dagster.defs.marts import MOST_ATTEMPTS, SENSOR, Asked, plan
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.in_process import RunError
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import TEAMS_NAME
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import dbt, marts
from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.defs.conftest import World

LAST = date(2026, 9, 10)
DAYS = 2
FIRST = LAST - timedelta(days=DAYS - 1)
NAMES = ("savings_by_day", "noisiest_patterns", "anomalies_by_service", "policy_history")
Make = Callable[..., World]


@pytest.fixture
def filled(world: Make) -> World:
    """Two teams' days through the graph; of the last, one service is live and its anomalies are known."""
    found = world(marts_patterns=5)
    with LogWriter(found.store) as writer:
        for team in (1, 2):
            for back in range(DAYS):
                day = LAST - timedelta(days=back)
                writer.add(team, generate(team, day, until=LAST, days=DAYS, logs_per_day=400))
    found.make((1, 2), FIRST, LAST)
    with found.database.engine.begin() as connection:
        # Rows that days as few as these do not bring.
        connection.execute(
            sa.text(
                "INSERT INTO savings SELECT team_id, day, service, environment, version, 24, logs, bytes, 10, 1000,"
                " kept_logs, kept_bytes FROM policies WHERE team_id = 1 AND day = :day"
            ),
            {"day": LAST},
        )
        for hour, severity in ((3, "high"), (9, "low")):
            connection.execute(
                sa.text(
                    "INSERT INTO anomalies SELECT team_id, day, service, environment, 'service', '', '', 'rate_spike',"
                    " :hour, :hour + 2, 50, 10, 5, 8, 0.001, 0.9, :severity, 'logged five times as much', '{3}'"
                    " FROM policies WHERE team_id = 2 AND day = :day"
                ),
                {"day": LAST, "hour": hour, "severity": severity},
            )
    return found


def rows(database: Database, mart: str) -> list[str]:
    with database.engine.connect() as connection:
        return list(connection.execute(sa.text(f"SELECT t::text FROM marts.{mart} AS t ORDER BY 1")).scalars())


def values(database: Database, query: str) -> list[Any]:
    with database.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def checks_of(world: World, run_id: str) -> dict[str, bool]:
    entries = world.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [e.dagster_event.asset_check_evaluation_data for e in entries if e.dagster_event]
    return {c.check_name: c.passed for c in found}


def test_the_marts_totals_are_those_of_the_tables_and_they_follow_their_changes(filled: World) -> None:
    database = filled.database
    run_id = filled.graph.make_marts(FIRST, LAST)
    by_team_day = "GROUP BY team_id, day ORDER BY team_id, day"
    for mart, table in (
        ("sum(policy_bytes - policy_kept_bytes)::numeric(20, 3)", "sum(bytes - kept_bytes)::numeric(20, 3)"),
        ("sum(policy_logs)::numeric(20, 3)", "sum(logs)::numeric(20, 3)"),
    ):
        expected = values(database, f"SELECT team_id, day, {table} FROM policies {by_team_day}")
        assert values(database, f"SELECT team_id, day, {mart} FROM marts.savings_by_day {by_team_day}") == expected
        assert len(expected) == 2 * DAYS
    measured = values(database, "SELECT sum(bytes - kept_bytes)::bigint, count(*) FROM savings")
    assert values(database, "SELECT sum(live_saved_bytes)::bigint, count(live_bytes) FROM marts.savings_by_day") == (
        measured
    )
    totals = "SELECT team_id, day, sum(logs)::bigint, sum(bytes)::bigint, {} FROM {} " + by_team_day
    assert values(database, totals.format("sum(patterns)::bigint", "marts.noisiest_patterns")) == values(
        database, totals.format("count(*)", "signatures")
    )
    places = "SELECT team_id, day, max(place), count(*) FROM marts.noisiest_patterns " + by_team_day
    assert {row[2:] for row in values(database, places)} == {(5, 6)}
    found = "SELECT team_id, day, sum({}), sum({}) FROM {} " + by_team_day
    assert values(database, found.format("anomalies", "high", "marts.anomalies_by_service")) == values(
        database, found.format("1", "(severity = 'high')::int", "anomalies")
    )
    history = "SELECT version, releases, state FROM marts.policy_history WHERE team_id = 1 ORDER BY 1"
    assert {row[0] for row in values(database, history)} == {
        row[0] for row in values(database, "SELECT version FROM policies WHERE team_id = 1")
    }

    checks = checks_of(filled, run_id)
    assert len(checks) >= 20
    assert all(checks.values())
    assert filled.graph.stale_marts() == []
    assert "hold what" in str(filled.tick(SENSOR).skip_message)

    # A person's release makes its day, and it alone, stale; made again, its rows are replaced and not doubled.
    before = {name: rows(database, name) for name in NAMES}
    with database.engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO releases (team_id, service, environment, day, version, state, document, actor, reason,"
                " by_hand) SELECT team_id, service, environment, day, version, 'live', document, 'ada', 'checked', true"
                " FROM policies WHERE team_id = 1 AND day = :day ORDER BY service LIMIT 1"
            ),
            {"day": LAST},
        )
    assert filled.graph.stale_marts() == [LAST]
    asked = filled.tick(SENSOR)
    assert [r.partition_key for r in asked.run_requests] == [LAST.isoformat()]
    filled.graph.make_marts(LAST, LAST)
    released = "SELECT day, state, actor FROM marts.policy_history WHERE actor = 'ada'"
    assert values(database, released) == [(LAST, "live", "ada")]
    after = {name: rows(database, name) for name in NAMES}
    assert [name for name in NAMES if after[name] != before[name]] == ["policy_history"]
    assert len(after["policy_history"]) == len(before["policy_history"])
    assert filled.graph.stale_marts() == []


def test_a_test_of_dbt_that_fails_is_a_failed_check_and_the_day_stays_to_be_made(filled: World) -> None:
    with filled.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE anomalies SET kind = 'unheard_of'"))
    with pytest.raises(RunError, match="kinds_of_anomalies_are_known"):
        filled.graph.make_marts(LAST, LAST)
    checks = checks_of(filled, filled.instance.get_run_records(limit=1)[0].dagster_run.run_id)
    assert [name for name, passed in checks.items() if not passed] == ["kinds_of_anomalies_are_known"]
    assert LAST in filled.graph.stale_marts()


def test_a_day_is_made_once_its_teams_are_done_and_given_up_after_some_attempts() -> None:
    stale = {FIRST: "a", LAST: "b"}
    ready, asked = plan(stale, {LAST}, {})
    assert ready == [FIRST]
    for _ in range(MOST_ATTEMPTS - 1):
        ready, asked = plan(stale, {LAST}, asked)
        assert ready == [FIRST]
    assert plan(stale, {LAST}, asked)[0] == []
    assert plan(stale, set(), asked)[0] == [LAST]
    assert plan({FIRST: "changed"}, set(), asked) == ([FIRST], asked | {FIRST.isoformat(): Asked("changed", 1)})


def test_the_days_of_runs_at_work_wait(world: Make) -> None:
    found = world()
    found.instance.add_dynamic_partitions(TEAMS_NAME, ["7", "8", "9"])
    ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    for tags in (
        {"dagster/partition": "2026-09-01|7"},
        dict(zip(ends, ("2026-09-04|7", "2026-09-06|9"), strict=True)),
        {"dagster/partition": "2026-09-10"},
    ):
        job = found.graph.definitions.resolve_job_def("team_day")
        found.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    asset = {"asset_selection": {dg.AssetKey("policies")}, "tags": {"dagster/partition": "2026-09-12|7"}}
    others = {"tags": {"dagster/partition": "2026-09-20-10:00"}, "asset_selection": {dg.AssetKey("sales")}}
    for words in (asset, others):
        create_run_for_test(found.instance, "__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, **words)
    days = {date(2026, 9, d) for d in (1, 4, 5, 6, 10, 12)}
    assert marts_defs.busy_days(found.instance) == days


def test_the_marts_follow_the_days_of_all_teams_in_the_lineage(world: Make) -> None:
    graph = world().graph.definitions.resolve_asset_graph()
    savings = dg.AssetKey(["marts", "savings_by_day"])
    assert graph.get(savings).parent_keys == {dg.AssetKey("policies"), dg.AssetKey("savings")}
    history = graph.get(dg.AssetKey(["marts", "policy_history"])).parent_keys
    assert history == {dg.AssetKey(k) for k in ("policies", "backtests", "policy_releases")}
    assert {k.path[-1] for k in graph.materializable_asset_keys if k.path[0] == "marts"} == set(NAMES)
    read = set().union(*(graph.get(dg.AssetKey(["marts", n])).parent_keys for n in NAMES))
    assert {k.to_user_string() for k in read} == {*marts.READ, "policy_releases"}


def test_another_price_or_another_project_makes_every_day_stale() -> None:
    def basis(**given: object) -> str:
        return marts_defs.basis_of(Settings(_env_file=None, **given))  # type: ignore[call-arg,arg-type]

    assert basis() == basis()
    assert len({basis(), basis(price_per_gb=1.0), basis(marts_patterns=3), basis(marts_schema="m")}) == 4


def test_the_manifest_is_made_once_for_a_state_of_the_project(tmp_path: Path) -> None:
    assert dbt.manifest(tmp_path)["nodes"]
    kept = next(f for f in (dbt.PROJECT / "target", tmp_path / "dbt") if f.is_dir())
    path = kept / f"manifest-{dbt.fingerprint()}.json"
    before = os.stat(path)
    assert dbt.manifest(tmp_path)["nodes"]
    assert os.stat(path) == before


def test_the_code_location_loads_without_what_only_runs_need() -> None:
    code = (
        "import sys; from lipservice_dagster.definitions import defs; defs().get_repository_def(); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lipservice_dagster.defs.marts" in loaded
    heavy = {"dbt", "dagster_dbt", "alembic", "clickhouse_connect", "chdb", "anthropic", "sklearn", "scipy.special"}
    assert not heavy & set(loaded)


def test_dbt_is_told_where_postgresql_is_by_its_environment_alone(dsn: str) -> None:
    told = dbt.environment(Database(dsn), "m")
    assert told["LIPSERVICE_DBT_SCHEMA"] == "m"
    assert told["LIPSERVICE_DBT_TABLES_SCHEMA"] == "public"
    url = sa.make_url(dsn)
    assert told["LIPSERVICE_DBT_DATABASE"] == url.database
    assert told["LIPSERVICE_DBT_HOST"] == (url.host or url.query["host"])
