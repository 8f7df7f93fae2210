"""The tables that `deploy/clickhouse` makes: the volumes keep up with the logs, and a cluster answers as one server."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pandas as pd

from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources import sql, volumes_sql
from lipservice_dagster.sources.clickhouse import ClickHouseSource, embedded
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster_tests.logs import at

DAY = date(2026, 11, 20)
TEAMS = [1, 2]  # which the key of the cluster puts on different shards
LATER = Bounds(datetime(2026, 11, 30, tzinfo=UTC))
PROJECT = Path(__file__).parents[2]

# Two shards, which the engine takes for itself by their address. Each has the logs of all teams: counts are right only
# where each is asked for its own teams alone.
_CLUSTER = """<clickhouse><tcp_port>9000</tcp_port><remote_servers><logs>
<shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard>
<shard><replica><host>localhost</host><port>9000</port></replica></shard>
</logs></remote_servers></clickhouse>"""


def test_deployed_tables_and_a_cluster_of_them_give_what_the_embedded_store_gives(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        for team in TEAMS:
            writer.add(team, generate(team, DAY, until=DAY, days=1, logs_per_day=2000))
    (tmp_path / "cluster.xml").write_text(_CLUSTER)
    # An engine has its configuration for the life of its process: this one's is another.
    command = [sys.executable, "-m", "lipservice_dagster_tests.sources.test_deployed_tables", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _statements(folder: str) -> list[str]:
    found = []
    for path in sorted((PROJECT / "deploy/clickhouse" / folder).glob("*.sql")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("--")]
        found += [s for s in "\n".join(lines).split(";\n") if s.strip(" ;\n")]
    return found


def _compare(root: Path) -> None:
    connection: dict[str, Any] = {"interface": "chdb", "path": f":memory:?config-file={root}/cluster.xml"}
    client = clickhouse_connect.get_client(**connection, settings={"session_timezone": "UTC"})
    for statement in (*_statements("single"), *_statements("cluster")):
        client.command(statement)
    # Expired parts would leave the table.
    client.command("SYSTEM STOP TTL MERGES")
    client.command(
        "INSERT INTO posthog.logs (team_id, timestamp, observed_timestamp, body, severity_text, severity_number,"
        " service_name, resource_attributes, attributes_map_str) SELECT team_id, timestamp, observed_timestamp, body,"
        " severity_text, severity_number, service_name, resource_attributes,"
        " mapApply((k, v) -> (concat(k, '__str'), v), attributes)"
        f" FROM file('{root}/logs/team_id=*/day=*/*.parquet', 'Parquet')"
    )
    store = embedded(root)
    store._connection = connection
    days = [TeamDay(team, DAY) for team in TEAMS]
    expected, counts = store.groups(days, LATER), store.counts(days, LATER)
    spans = [Span(at(6, DAY), at(20, DAY), days=2), Span(at(24, DAY) - timedelta(hours=2), at(24, DAY), days=2)]
    volumes = [store.compared_volumes(TEAMS, span) for span in spans]
    assert all(v["logs_now"].sum() or v["logs_before"].map(sum).sum() for v in volumes)
    assert len(expected) > 50
    for suffix in ("", "_distributed"):
        source = ClickHouseSource(
            connection,
            sql.records(f"posthog.logs{suffix}"),
            volumes_sql.rollup(f"posthog.logs_volume_buckets{suffix}"),
            name="deployed",
        )
        pd.testing.assert_frame_equal(source.groups(days, LATER), expected)
        pd.testing.assert_frame_equal(source.counts(days, LATER), counts)
        # Shards have no team in common, and ClickHouse counts on it; these two have all.
        assert source.latest_logs(at(0, DAY)) == store.latest_logs(at(0, DAY))
        assert set(source.latest_logs(at(0, DAY))) == set(TEAMS)
        if not suffix:  # the question names no team, and both shards answer it
            assert source.day_volumes(DAY, DAY) == store.day_volumes(DAY, DAY)
        for span, expected_volumes in zip(spans, volumes, strict=True):
            pd.testing.assert_frame_equal(source.compared_volumes(TEAMS, span), expected_volumes)
    # Groups are made on the shards: what travels is groups, not rows.
    query = sql.groups(sql.records("posthog.logs_distributed"), days, LATER, 100)
    plan = [row[0].strip().split()[0] for row in client.query(f"EXPLAIN distributed = 1 {query}").result_rows]
    assert plan.index("MergingAggregated") < plan.index("ReadFromMergeTree")
    assert plan.count("ReadFromMergeTree") == 2


if __name__ == "__main__":
    _compare(Path(sys.argv[1]))
