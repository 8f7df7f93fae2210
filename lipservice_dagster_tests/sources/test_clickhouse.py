"""The questions to the log store, asked of the real engine: groups, counts, weights, bounds, and odd input."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lipservice_dagster.core import frames
from lipservice_dagster.defs.raw_logs import disagreements
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources import sql
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.sources.clickhouse import ClickHouseSource, connect, embedded
from lipservice_dagster.sources.limits import QueryLimits
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster_tests.logs import DAY, at, log, store
from lipservice_sampler.masks import mask
from lipservice_sampler.text import message_id, repair

TEAM_DAY = TeamDay(7, DAY)
LATER = Bounds(datetime(2026, 11, 1, tzinfo=UTC))


def groups(root: Path, *team_days: TeamDay, bounds: Bounds = LATER, **limits: int) -> pd.DataFrame:
    return embedded(root, QueryLimits(**limits)).groups(team_days or (TEAM_DAY,), bounds)


def test_logs_are_grouped_by_service_environment_severity_and_masked_message(tmp_path: Path) -> None:
    production = {"deployment.environment.name": "production"}
    rows = groups(
        store(
            tmp_path,
            {
                7: [
                    log("paid order 17 in 20 ms", timestamp=at(3), resource=production),
                    log("paid order 99321 in 4 ms", timestamp=at(3.5), resource=production),
                    log("paid order 1 in 4 ms", timestamp=at(23.9), severity="ERROR", resource=production),
                    log("paid order 1 in 4 ms", service=b"other"),
                ]
            },
        )
    )
    assert list(rows.columns) == list(frames.RAW_LOGS)
    found = {(r.service, r.environment, r.severity): r for r in rows.itertuples()}
    assert set(found) == {("shop", "production", "info"), ("shop", "production", "error"), ("other", "", "info")}
    two = found["shop", "production", "info"]
    assert two.message == mask(repair("paid order 17 in 20 ms"))
    assert two.message_id == message_id(two.message)
    assert (two.logs, two.weighted_logs, two.example) == (2, 2.0, "paid order 17 in 20 ms")
    assert list(two.hours) == [2.0 if h == 3 else 0.0 for h in range(24)]
    assert (two.first_seen, two.last_seen) == (at(3), at(3.5))


def test_bytes_are_those_of_body_and_attributes(tmp_path: Path) -> None:
    record = log("é", attributes={"key": "value"}, resource={"ab": "c"})
    source = embedded(store(tmp_path, {7: [record]}))
    expected = 2 + 8 + 3
    assert source.groups([TEAM_DAY], LATER)["bytes"].tolist() == [expected]
    assert source.counts([TEAM_DAY], LATER)["bytes"].tolist() == [expected]


def test_the_independent_count_does_not_trust_what_was_worked_out_at_writing(tmp_path: Path) -> None:
    """A file whose column of bytes is missing or wrong makes the two counts differ, and so is noticed."""
    store(tmp_path, {7: [log("hello", attributes={"key": "value"})]})
    (path,) = tmp_path.glob("logs/team_id=7/day=*/*.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["bytes"]), path)
    source = embedded(tmp_path)
    assert source.counts([TEAM_DAY], LATER)["bytes"].tolist() == [13]
    assert source.groups([TEAM_DAY], LATER)["bytes"].tolist() == [0]


def test_files_without_weights_are_noticed(tmp_path: Path) -> None:
    """They were written before weights were; read as they are, their logs would count for nothing."""
    store(tmp_path, {7: [log("hello")] * 3})
    (path,) = tmp_path.glob("logs/team_id=7/day=*/*.parquet")
    source = embedded(tmp_path)
    assert disagreements([TEAM_DAY], source.groups([TEAM_DAY], LATER), source.counts([TEAM_DAY], LATER)) == {}
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["weight", "severity"]), path)
    problems = disagreements([TEAM_DAY], source.groups([TEAM_DAY], LATER), source.counts([TEAM_DAY], LATER))
    assert "ingest these logs again" in problems[TEAM_DAY]


@pytest.mark.parametrize(
    ("attributes", "weight"),
    [
        ({}, 1.0),
        ({"lipservice.sample_rate": "0.25"}, 4.0),
        ({"lipservice.sample_rate": '"0.25"'}, 4.0),
        ({"lipservice.sample_rate": "1"}, 1.0),
        ({"lipservice.sample_rate": "0"}, 1.0),
        ({"lipservice.sample_rate": "rubbish"}, 1.0),
        ({"lipservice.sample_rate": "nan"}, 1.0),
        ({"lipservice.sample_rate": "1e-30"}, 1e6),
        ({"sampling.threshold": "c"}, 4.0),
        ({"sampling.threshold": "8"}, 2.0),
        ({"sampling.threshold": "0"}, 1.0),
        ({"sampling.threshold": "ffffffffffffff"}, 1e6),
        ({"sampling.threshold": "xyz"}, 1.0),
        ({"sample_rate": "0.5"}, 2.0),
        ({"sample_rate": "10"}, 10.0),
        ({"lipservice.sample_rate": "0.5", "sample_rate": "10"}, 2.0),
    ],
)
def test_a_kept_log_counts_for_those_it_stands_for(tmp_path: Path, attributes: dict[str, str], weight: float) -> None:
    record = log("hello", timestamp=at(5), attributes=attributes)
    row = groups(store(tmp_path, {7: [record, record]})).iloc[0]
    assert row["logs"] == 2
    assert row["weighted_logs"] == pytest.approx(2 * weight, rel=1e-6)
    # The stamp was not there before sampling; what other attributes hold was.
    stamp = sum(len(k) + len(v) for k, v in attributes.items())
    assert row["weighted_bytes"] == pytest.approx((row["bytes"] - 2 * stamp) * weight, rel=1e-6)
    assert row["hours"][5] == pytest.approx(2 * weight, rel=1e-6)


def test_odd_input_goes_through_and_nothing_is_lost(tmp_path: Path) -> None:
    records = [
        log("x" * (1 << 20)),
        log(b"nul \x00 byte"),
        log(b"bad \xff\xfe\xc3 utf-8 \xf0\x9f"),
        log(b""),
        log("no severity", severity="", severity_number=0),
        log("by number", severity="", severity_number=17),
        log("unknown severity", severity="chatty"),
        log("empty service", service=b""),
        log("bad service", service=b"\xff\x00" * 2),
        log("long service", service=b"s" * 5000),
        log("bad attribute", attributes={"lipservice.sample_rate": "-1"}, resource={"environment": "x" * 5000}),
    ]
    source = embedded(store(tmp_path, {7: records}))
    rows = source.groups([TEAM_DAY], LATER)
    counted = source.counts([TEAM_DAY], LATER)
    assert rows["logs"].sum() == counted["logs"].sum() == len(records)
    assert rows["bytes"].sum() == counted["bytes"].sum()
    severities = dict(zip(rows["example"], rows["severity"], strict=True))
    assert severities["no severity"] == severities["unknown severity"] == "info"
    assert severities["by number"] == "error"
    for column in ("service", "environment", "message", "example"):
        assert not rows[column].str.contains("\0").any()
    assert rows["service"].str.len().max() <= 200


def test_a_team_without_logs_and_an_empty_store_are_empty_answers(tmp_path: Path) -> None:
    source = embedded(tmp_path)
    assert source.groups([TEAM_DAY], LATER).empty
    assert source.counts([TEAM_DAY], LATER).empty
    assert source.latest_logs(at(0)) == {}
    assert source.day_volumes(DAY, DAY) == {}
    assert source.compared_volumes([7], Span(at(0), at(1), days=2)).empty
    store(tmp_path, {7: [log("hello")]})
    assert groups(tmp_path, TeamDay(8, DAY)).empty
    assert groups(tmp_path, TeamDay(7, DAY + timedelta(days=1))).empty


def test_exactly_the_team_days_asked_for_are_read(tmp_path: Path) -> None:
    next_day = DAY + timedelta(days=1)
    store(tmp_path, {t: [log("a"), log("b", timestamp=at(1, next_day))] for t in (7, 8)})
    found = groups(tmp_path, TeamDay(7, DAY), TeamDay(8, next_day))
    assert sorted(zip(found["team_id"], found["day"], strict=True)) == [(7, DAY), (8, next_day)]


def test_rows_observed_later_and_the_open_hour_are_not_read(tmp_path: Path) -> None:
    store(
        tmp_path,
        {
            7: [
                log("in time", timestamp=at(9)),
                log("late", timestamp=at(9), observed_timestamp=at(12)),
                log("open hour", timestamp=at(10.2)),
            ]
        },
    )
    bounds = Bounds(at(10.5))
    source = embedded(tmp_path)
    assert source.groups([TEAM_DAY], bounds)["example"].tolist() == ["in time"]
    assert source.counts([TEAM_DAY], bounds)["logs"].tolist() == [1]
    assert bounds.hours(DAY) == 10
    assert (bounds.hours(DAY - timedelta(days=1)), bounds.hours(DAY + timedelta(days=1))) == (24, 0)


def test_messages_beyond_the_cap_stay_in_rest_rows_with_exact_counts(tmp_path: Path) -> None:
    words = [chr(97 + i // 26) + chr(97 + i % 26) for i in range(150)]
    records = [log(f"event {w} happened", severity=("info", "error")[i % 2]) for i, w in enumerate(words)]
    records += [log("often")] * 5
    rows = groups(store(tmp_path, {7: records}), max_messages=100)
    rest = rows[rows["message_id"] == frames.REST_ID]
    assert rows["logs"].sum() == len(records)
    assert len(rows) == 100 + len(rest)
    assert set(rest["severity"]) == {"info", "error"}
    assert rest["logs"].sum() == 155 - rows[rows["message_id"] != frames.REST_ID]["logs"].sum()
    assert set(rest["message"]) == {frames.REST_MESSAGE}
    assert (rows["message"] == "often").any()


def test_volumes_of_a_span_stand_beside_the_same_hours_of_the_days_before(tmp_path: Path) -> None:
    def logs(hour: float, back: int, n: int, severity: str = "info") -> list[dict[str, object]]:
        return [log("a", timestamp=at(hour, DAY - timedelta(days=back)), severity=severity) for _ in range(n)]

    span = Span(at(0.5), at(1), days=3)  # with its margin it begins on the day before
    inside = logs(0.5, 0, 5) + logs(0.99, 0, 2, "error")
    before = logs(0.75, 1, 3, "fatal") + logs(23.5, 2, 4) + logs(1.99, 3, 1)  # 23:30 of the second day is near 0:30
    outside = logs(1, 0, 7) + logs(0.4, 0, 7) + logs(2, 1, 7) + logs(23.4, 2, 7) + logs(0.75, 4, 7)
    store(tmp_path, {7: inside + before + outside, 8: logs(0.6, 0, 1), 9: logs(0.6, 0, 1)})
    found = embedded(tmp_path).compared_volumes([7, 8], span).set_index("team_id")
    assert set(found.index) == {7, 8}
    assert tuple(found.loc[7, ["service", "environment", "logs_now", "errors_now"]]) == ("shop", "", 7, 2)
    assert found.loc[7, "logs_before"].tolist() == [3 + 4, 0, 1]
    assert found.loc[7, "errors_before"].tolist() == [3, 0, 0]
    assert found.loc[8, "logs_before"].tolist() == [0, 0, 0]


def test_teams_and_days_come_with_their_latest_logs_and_their_number(tmp_path: Path) -> None:
    store(tmp_path, {9: [log("a")], 7: [log("b", timestamp=at(20.03)), log("c")]})
    source = embedded(tmp_path)
    assert source.latest_logs(at(0)) == {7: at(20), 9: at(10)}
    assert source.latest_logs(at(15)) == {7: at(20)}
    assert source.latest_logs(at(20.07)) == {7: at(20)}  # its five minutes are not over then
    assert source.day_volumes(DAY, DAY) == {TeamDay(7, DAY): 2, TeamDay(9, DAY): 1}
    assert source.day_volumes(DAY - timedelta(days=2), DAY - timedelta(days=1)) == {}


def test_a_span_is_made_of_whole_buckets_that_are_over() -> None:
    span = Span.until(at(10 + 13 / 60), 30, timedelta(minutes=5), days=14)
    assert (span.start, span.end) == (at(9 + 35 / 60), at(10 + 5 / 60))
    assert span.share == pytest.approx(0.5 / 2.5)


def test_a_refusal_is_told_from_a_store_that_is_away() -> None:
    nowhere = ClickHouseSource(
        {"interface": "chdb"}, sql.records("no_such_table"), sql.Records("no_such_table"), name="a server"
    )
    for ask in (lambda: nowhere.counts([TEAM_DAY], LATER), lambda: nowhere.day_volumes(DAY, DAY)):
        with pytest.raises(LogSourceRefusedError, match="no_such_table"):
            ask()
    away = connect("clickhouse://127.0.0.1:9/posthog", QueryLimits(timeout_seconds=2))
    with pytest.raises(LogSourceError) as error:
        away.counts([TEAM_DAY], LATER)
    assert not isinstance(error.value, LogSourceRefusedError)
    assert not nowhere.has_table("no_such_table")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=60) | st.text(max_size=60).map(lambda s: s.encode("utf-8", "replace")),
        min_size=1,
        max_size=40,
    )
)
def test_the_store_masks_as_the_sampler_does(tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]) -> None:
    root = store(tmp_path_factory.mktemp("store"), {7: [log(b) for b in bodies]})
    rows = groups(root)
    expected = pd.Series([mask(repair(b)) for b in bodies]).value_counts().to_dict()
    assert dict(zip(rows["message"], rows["logs"], strict=True)) == expected


def test_a_store_that_does_not_answer_is_named_without_its_password() -> None:
    source = connect("clickhouse://me:secret@127.0.0.1:9/posthog", QueryLimits(timeout_seconds=2))
    with pytest.raises(LogSourceError, match=r"127\.0\.0\.1:9") as error:
        source.latest_logs(at(0))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("dsn", ["mysql://host/db", "clickhouse://host/db?tabel=logs", ""])
def test_a_wrong_dsn_is_refused(dsn: str) -> None:
    with pytest.raises(LogSourceError, match="LIPSERVICE_LOGS_DSN"):
        connect(dsn)


def test_bounds_know_the_whole_hours_of_a_day() -> None:
    assert Bounds(at(24)).hours(DAY) == 24
    assert Bounds(at(23.99)).hours(DAY) == 23
    assert Bounds(at(0.5)).hours(date(2020, 1, 1)) == 24
