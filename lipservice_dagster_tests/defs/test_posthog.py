"""The graph over PostHog's API: the same tables as over ClickHouse, and what a run says while it reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from pydantic import SecretStr

from lipservice_dagster.local import postgres
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.source_requests import take
from lipservice_dagster_tests.clickhouse_server import PASSWORD, USER, clickhouse_server
from lipservice_dagster_tests.conftest import fresh_database
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store
from lipservice_dagster_tests.posthog_server import KEY, posthog_server

LAST = date(2026, 9, 10)
FIRST = LAST - timedelta(days=2)
ASSETS = ("raw_logs", "signatures", "clusters", "anomaly_reports", "policies")


def _logs(root: Path) -> None:
    """Three small demo days; on the last there is a burst of errors that were not there before."""
    with LogWriter(root) as writer:
        for back in range(3):
            day = LAST - timedelta(days=back)
            writer.add(1, generate(1, day, until=LAST, days=3, logs_per_day=250))
    of = {"service.name": "checkout"}
    burst = [
        log(
            f"charge {i} declined by bank",
            timestamp=at(13 + i / 400, LAST),
            severity="error",
            resource=of,
            service=b"checkout",
        )
        for i in range(120)
    ]
    store(root, {1: burst})


def test_files_sql_hogql_and_pages_make_byte_equal_tables(
    world: Callable[..., World], server: postgres.Layout, tmp_path: Path
) -> None:
    tables = {}
    _logs(Settings(_env_file=None, home=tmp_path).embedded_logs)  # type: ignore[call-arg]
    with posthog_server() as posthog, clickhouse_server() as clickhouse:
        posthog.insert(1, Settings(_env_file=None, home=tmp_path).embedded_logs)  # type: ignore[call-arg]
        api = {"logs_dsn": f"posthog+{posthog.url}/project/1", "posthog_api_key": SecretStr(KEY)}
        sql = f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:{clickhouse.port}/default?table={posthog.table}"
        ways: dict[str, dict[str, object]] = {"files": {}, "sql": {"logs_dsn": sql}, "hogql": api, "pages": api}
        for way, of in ways.items():
            posthog.refused = {"sumMap"} if way == "pages" else set()
            home = tmp_path if way == "files" else tmp_path / way
            with fresh_database(server) as database:
                found = world(on=database, home=home, **of)
                found.make([1], FIRST, LAST, *ASSETS)
                tables[way] = found.tables()
                if way == "hogql":
                    said = _said(found)
                    assert posthog.queries == 3 + 1  # the days, and their count
                    assert take(database, f"{posthog.url[7:]}/1/queries", 4) > 0  # taken from the common budget
        assert any(posthog.table in query for query in clickhouse.asked)
    for name in ASSETS:
        assert tables["files"][name]
        for way in ("sql", "hogql", "pages"):
            assert tables[way][name] == tables["files"][name]
    assert posthog.pages >= 3 * 24
    assert any("project 1: 2026-09-10 read in 1 requests" in message for message in said)
    assert KEY not in "\n".join(said)


def _said(found: World) -> list[str]:
    (run,) = found.instance.get_runs()
    return [entry.user_message for entry in found.instance.all_logs(run.run_id)]
