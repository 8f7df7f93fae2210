"""The graph over PostHog's API: the same tables as over ClickHouse, and what a run says while it reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from pydantic import SecretStr

from lipservice_dagster.local import postgres
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import TEAMS_NAME
from lipservice_dagster.storage.source_requests import take
from lipservice_dagster_tests.conftest import fresh_database
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.posthog_server import KEY, posthog_server

LAST = date(2026, 9, 10)
ASSETS = ("raw_logs", "signatures", "anomaly_reports", "policies")


def test_sql_hogql_and_pages_make_byte_equal_tables(
    world: Callable[..., World], server: postgres.Layout, tmp_path: Path
) -> None:
    tables = {}
    with posthog_server() as posthog:
        for way in ("sql", "hogql", "pages"):
            with fresh_database(server) as database:
                if way == "sql":
                    found = world(on=database)
                    with LogWriter(found.store) as writer:
                        writer.add(1, generate(1, LAST, until=LAST, days=2, logs_per_day=600))
                    posthog.insert(1, found.store)
                else:
                    posthog.refused = {"sumMap"} if way == "pages" else set()
                    of = {
                        "logs_dsn": SecretStr(f"posthog+{posthog.url}/project/1"),
                        "posthog_api_key": SecretStr(KEY),
                        "home": tmp_path / way,
                    }
                    found = world(on=database, **of)
                found.instance.add_dynamic_partitions(TEAMS_NAME, ["1"])
                found.materialise(1, LAST, *ASSETS)
                tables[way] = found.tables()
                if way == "hogql":
                    said = _said(found)
                    assert posthog.queries == 2  # the day, and its count
                    assert take(database, f"{posthog.url[7:]}/1/queries", 2) > 0  # taken from the common budget
    for name in ASSETS:
        assert tables["sql"][name] or name == "anomaly_reports"
        assert tables["hogql"][name] == tables["sql"][name]
        assert tables["pages"][name] == tables["sql"][name]
    assert posthog.pages >= 24
    assert any("project 1: 2026-09-10 read in 1 requests" in message for message in said)
    assert KEY not in "\n".join(said)


def _said(found: World) -> list[str]:
    (run,) = found.instance.get_runs()
    return [entry.user_message for entry in found.instance.all_logs(run.run_id)]
