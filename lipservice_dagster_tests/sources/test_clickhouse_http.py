"""The ClickHouse driver over real HTTP: the answers of the embedded store, and what is told where HTTP fails."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.sources.clickhouse import ClickHouseSource, connect, embedded
from lipservice_dagster.sources.limits import QueryLimits
from lipservice_dagster_tests.clickhouse_server import PASSWORD, USER, ClickHouse, clickhouse_server
from lipservice_dagster_tests.logs import DAY, at, log, store

TEAM_DAY = TeamDay(7, DAY)
LATER = Bounds(datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [log(f"user {i} opened page {chr(97 + i % 26)}", timestamp=at(i % 24)) for i in range(200)]
    return store(tmp_path_factory.mktemp("logs"), {7: records})


@pytest.fixture(scope="module")
def table(root: Path) -> Iterator[tuple[ClickHouse, str]]:
    name = f"logs_{uuid.uuid4().hex}"
    with clickhouse_server() as server:
        server.engine.command(
            f"CREATE TABLE {name} ENGINE = MergeTree ORDER BY (team_id, time_bucket) AS SELECT"
            " toInt32(team_id) AS team_id,"
            " toDateTime(day, 'UTC') AS time_bucket, timestamp, observed_timestamp, body, severity_text,"
            " severity_number, service_name, resource_attributes, attributes"
            f" FROM file('{root}/logs/team_id=*/day=*/*.parquet', 'Parquet')"
        )
        yield server, name
        server.engine.command(f"DROP TABLE {name}")


def source(server: ClickHouse, name: str, password: str = PASSWORD, seconds: int = 30) -> ClickHouseSource:
    dsn = f"clickhouse://{USER}:{password}@127.0.0.1:{server.port}/default?table={name}"
    return connect(dsn, QueryLimits(timeout_seconds=seconds))


def test_a_server_gives_what_the_embedded_store_gives(table: tuple[ClickHouse, str], root: Path) -> None:
    ours, theirs = embedded(root), source(*table)
    assert "ClickHouse at 127.0.0.1:" in theirs.ping()
    pd.testing.assert_frame_equal(theirs.groups([TEAM_DAY], LATER), ours.groups([TEAM_DAY], LATER))
    pd.testing.assert_frame_equal(theirs.counts([TEAM_DAY], LATER), ours.counts([TEAM_DAY], LATER))
    assert theirs.day_volumes(DAY, DAY) == ours.day_volumes(DAY, DAY)
    assert theirs.latest_logs(at(0)) == ours.latest_logs(at(0))


@pytest.mark.parametrize(
    ("fault", "seconds", "told"),
    [
        ("cut", 30, "did not answer"),
        ("midway", 30, "did not answer: .*Memory limit"),
        ("rubbish", 30, "did not answer: its answer broke off"),
        ("silent", 1, "did not answer: .*[Tt]ime"),
        ("gone", 30, "did not answer"),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_and_the_next_question_is_answered(
    table: tuple[ClickHouse, str], fault: str, seconds: int, told: str
) -> None:
    server, name = table
    found = source(server, name, seconds=seconds)
    server.faults[:] = [fault] * 20  # the driver itself tries a connection that broke again
    with pytest.raises(LogSourceError, match=told) as error:
        found.counts([TEAM_DAY], LATER)
    assert not isinstance(error.value, LogSourceRefusedError)
    assert PASSWORD not in str(error.value)
    server.faults.clear()
    assert found.counts([TEAM_DAY], LATER)["logs"].tolist() == [200]


def test_a_wrong_password_and_a_table_that_is_not_there_are_refusals(table: tuple[ClickHouse, str]) -> None:
    server, name = table
    with pytest.raises(LogSourceRefusedError, match="Authentication failed") as error:
        source(server, name, "wr0ng").counts([TEAM_DAY], LATER)
    assert "wr0ng" not in str(error.value)
    with pytest.raises(LogSourceRefusedError, match="no_such_table"):
        source(server, "no_such_table").counts([TEAM_DAY], LATER)
