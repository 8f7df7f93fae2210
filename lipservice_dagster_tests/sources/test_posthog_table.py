"""The same questions over a table as PostHog makes it: the same rows as over the embedded store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import clickhouse_connect
import pandas as pd
import pytest

from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources import sql, volumes_sql
from lipservice_dagster.sources.clickhouse import ClickHouseSource, embedded
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster_tests.logs import at, log, store

LAST = date(2026, 9, 10)
LATER = Bounds(datetime(2026, 11, 1, tzinfo=UTC))

# The columns that are asked for, as PostHog declares them: a day's bucket that is materialized, attributes by alias.
_DDL = """
CREATE TABLE {name} (
    team_id Int32,
    time_bucket DateTime MATERIALIZED toStartOfDay(timestamp, 'UTC'),
    timestamp DateTime64(6) CODEC(DoubleDelta),
    observed_timestamp DateTime64(6),
    body String,
    severity_text LowCardinality(String),
    severity_number Int32,
    service_name LowCardinality(String),
    resource_attributes Map(LowCardinality(String), String),
    resource_fingerprint UInt64 MATERIALIZED cityHash64(resource_attributes),
    attributes_map_str Map(LowCardinality(String), String),
    attributes Map(String, String) ALIAS mapApply((k, v) -> (replaceRegexpOne(k, '__str$', ''), v), attributes_map_str)
) ENGINE = MergeTree
ORDER BY (team_id, time_bucket, service_name, resource_fingerprint, severity_text, timestamp)
"""


@pytest.fixture
def table() -> Iterator[str]:
    client = clickhouse_connect.get_client(interface="chdb", settings={"session_timezone": "UTC"})
    name = f"logs_{uuid.uuid4().hex}"
    client.command(_DDL.format(name=name))
    yield name
    client.command(f"DROP TABLE {name}")


def copy(root: Path, table: str) -> ClickHouseSource:
    """The store's logs in the table, and a source over it."""
    client = clickhouse_connect.get_client(interface="chdb", settings={"session_timezone": "UTC"})
    columns = (
        "team_id, timestamp, observed_timestamp, body, severity_text, severity_number, service_name,"
        " resource_attributes, attributes_map_str"
    )
    read = columns.replace("attributes_map_str", "mapApply((k, v) -> (concat(k, '__str'), v), attributes)")
    client.command(
        f"INSERT INTO {table} ({columns}) SELECT {read} FROM file('{root}/logs/team_id=*/day=*/*.parquet', 'Parquet')"
    )
    return ClickHouseSource(
        {"interface": "chdb"}, sql.records(table), volumes_sql.from_logs(table), name="a table like PostHog's"
    )


def test_a_table_like_posthogs_gives_the_rows_of_the_embedded_store(tmp_path: Path, table: str) -> None:
    days = [TeamDay(team, LAST - timedelta(days=back)) for team in (1, 2) for back in (0, 1)]
    with LogWriter(tmp_path) as writer:
        for d in days:
            writer.add(d.team_id, generate(d.team_id, d.day, until=LAST, days=2, logs_per_day=2000))
    odd = [
        log(b"bad \xff\x00 body", timestamp=at(3, LAST), attributes={"lipservice.sample_rate": "0.1"}),
        log("x" * 70_000, timestamp=at(4, LAST), resource={"environment": "e", "deployment.environment": ""}),
        log(
            "é" * 9000,
            timestamp=at(5, LAST),
            severity="Weird",
            severity_number=14,
            attributes={"sampling.threshold": "8"},
        ),
        log("", timestamp=at(6, LAST), service=b"", severity="", attributes={"sample_rate": '"20"', "k": "v"}),
    ]
    store(tmp_path, {1: odd})
    ours, theirs = embedded(tmp_path), copy(tmp_path, table)
    for wanted in (days, days[:1], [days[0], days[3]]):
        expected = ours.groups(wanted, LATER)
        assert len(expected) > 50
        pd.testing.assert_frame_equal(theirs.groups(wanted, LATER), expected)
        pd.testing.assert_frame_equal(theirs.counts(wanted, LATER), ours.counts(wanted, LATER))
    span = Span(at(12, LAST), at(13, LAST), days=1)
    assert theirs.latest_logs(at(0, LAST)) == ours.latest_logs(at(0, LAST))
    assert theirs.day_volumes(LAST, LAST) == ours.day_volumes(LAST, LAST)
    pd.testing.assert_frame_equal(theirs.compared_volumes([1, 2], span), ours.compared_volumes([1, 2], span))


def test_a_team_day_reads_its_own_part_of_the_table_alone(tmp_path: Path, table: str) -> None:
    for back in range(3):
        store(tmp_path, {team: [log("a", timestamp=at(9, LAST - timedelta(days=back)))] * 20_000 for team in (1, 2)})
    copy(tmp_path, table)
    client = clickhouse_connect.get_client(interface="chdb", settings={"session_timezone": "UTC"})
    query = sql.groups(sql.records(table), [TeamDay(1, LAST)], LATER, 1000)
    plan = "\n".join(row[0] for row in client.query(f"EXPLAIN indexes = 1 {query}").result_rows)
    read, of = map(int, plan.split("Granules: ")[-1].split()[0].split("/"))
    assert read < of / 2
