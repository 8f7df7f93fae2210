"""PostHog's API as a source of logs: the same answers as from ClickHouse, whatever the API does meanwhile."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr

from lipservice_dagster.core import frames
from lipservice_dagster.defs.raw_logs import disagreements
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.settings import POSTHOG_LOOKS, Settings, shown
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.sources.clickhouse import ClickHouseSource, embedded
from lipservice_dagster.sources.connect import posthog_projects, source_of
from lipservice_dagster.sources.limits import QueryLimits
from lipservice_dagster.sources.posthog import PostHogSource
from lipservice_dagster.sources.posthog_api import Api, ApiLimits
from lipservice_dagster.sources.posthog_pages import forget_old, held, remove
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.source_requests import take
from lipservice_dagster_tests.logs import at, log, store
from lipservice_dagster_tests.posthog_server import KEY, Fault, PostHog, posthog_server

LAST = date(2026, 9, 10)
DAYS = [TeamDay(1, LAST), TeamDay(1, LAST - timedelta(days=1))]
LATER = Bounds(datetime(2026, 11, 1, tzinfo=UTC))
QUICK = ApiLimits(timeout_seconds=5, retries=2, backoff_seconds=0.01)
OF = {"service.name": "shop"}
ODD = [
    log("x" * 70_000, timestamp=at(4, LAST), resource={"environment": "e", "deployment.environment": ""} | OF),
    log(
        "é" * 9000,
        timestamp=at(5, LAST),
        severity="Weird",
        severity_number=14,
        resource=OF,
        attributes={"sampling.threshold": "8"},
    ),
    log("", timestamp=at(6, LAST), service=b"", severity="", attributes={"sample_rate": '"20"', "k": "v"}),
    log("a 'quoted' \\ and a\ttab", timestamp=at(7, LAST), resource=OF, attributes={"lipservice.sample_rate": "0.1"}),
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log store with two days of demo logs and some odd ones."""
    root = tmp_path_factory.mktemp("logs")
    with LogWriter(root) as writer:
        for d in DAYS:
            writer.add(d.team_id, generate(d.team_id, d.day, until=LAST, days=2, logs_per_day=800))
    return store(root, {1: ODD})


@pytest.fixture(scope="module")
def filled(logs: Path) -> Iterator[PostHog]:
    with posthog_server() as found:
        found.insert(1, logs)
        yield found


@pytest.fixture
def posthog(filled: PostHog) -> Iterator[PostHog]:
    """A PostHog with the logs of the store; what a test sets is taken back."""
    before = {name: getattr(filled, name) for name in ("keys", "most_rows", "page_rows", "after_page")}
    filled.keys = dict(filled.keys)
    filled.asked.clear()
    yield filled
    filled.refused.clear()
    filled.faults.clear()
    for name, value in before.items():
        setattr(filled, name, value)


class Said(list[str]):
    """What a source says of its progress."""


def source(posthog: PostHog, folder: Path, project: int = 1, key: str = KEY, **limits: Any) -> PostHogSource:
    said = Said()
    api = Api(posthog.url, project, key, replace(QUICK, **limits), say=said.append)
    return PostHogSource({project: api}, folder, say=said.append)


def same(found: PostHogSource, expected: ClickHouseSource, days: list[TeamDay] = DAYS, bounds: Bounds = LATER) -> None:
    pd.testing.assert_frame_equal(found.groups(days, bounds), expected.groups(days, bounds))
    pd.testing.assert_frame_equal(found.counts(days, bounds), expected.counts(days, bounds))


def test_hogql_gives_what_clickhouse_gives_in_a_request_a_day(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    ours, theirs = embedded(logs), source(posthog, tmp_path)
    same(theirs, ours)
    assert posthog.queries == len(DAYS) + 1
    assert posthog.pages == 0
    span = Span(at(12, LAST), at(13, LAST), days=1)
    pd.testing.assert_frame_equal(theirs.compared_volumes([1, 99], span), ours.compared_volumes([1], span))
    assert theirs.day_volumes(LAST, LAST) == ours.day_volumes(LAST, LAST)
    for since in (at(0, LAST), at(23.97, LAST), at(30, LAST)):
        assert theirs.latest_logs(since) == ours.latest_logs(since)
    assert "project 1" in theirs.ping()


def test_an_open_day_is_read_to_its_last_whole_hour(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    for hour in (0.5, 7.5):
        bounds = Bounds(at(hour, LAST))
        found, expected = source(posthog, tmp_path), embedded(logs)
        pd.testing.assert_frame_equal(found.groups(DAYS[:1], bounds), expected.groups(DAYS[:1], bounds))
        pd.testing.assert_frame_equal(found.counts(DAYS[:1], bounds), expected.counts(DAYS[:1], bounds))


def test_where_an_answer_is_cut_smaller_windows_are_asked(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.most_rows = 40
    found = source(posthog, tmp_path)
    same(found, embedded(logs), DAYS[:1], Bounds(at(8.5, LAST)))
    assert posthog.queries > 2
    assert posthog.pages == 0


def test_what_is_given_up_is_asked_in_smaller_parts(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    bounds = Bounds(at(5.5, LAST))
    given_up = Fault(500, "Query exceeded the memory limit")
    found, expected = source(posthog, tmp_path), embedded(logs)
    posthog.faults = [given_up]
    pd.testing.assert_frame_equal(found.groups(DAYS[:1], bounds), expected.groups(DAYS[:1], bounds))
    posthog.faults = [given_up, given_up]
    pd.testing.assert_frame_equal(found.counts(DAYS[:1], bounds), expected.counts(DAYS[:1], bounds))
    assert posthog.queries == 3 + 4  # the day and its halves; the days, the day and its halves
    posthog.faults = [given_up] * 9
    with pytest.raises(LogSourceError, match="gave a question up: Query exceeded the memory limit"):
        found.counts(DAYS[:1], Bounds(at(1.5, LAST)))


def test_reads_that_nobody_can_go_on_with_are_forgotten(tmp_path: Path) -> None:
    for day, age in (("2026-09-01", 3), ("2026-09-02", 0)):
        state = tmp_path / day / "00-01" / "state.json"
        state.parent.mkdir(parents=True)
        state.write_text("{}")
        moment = (datetime.now(UTC) - timedelta(days=age)).timestamp()
        os.utime(state, (moment, moment))
    forget_old(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["2026-09-02"]


def test_an_hour_of_a_service_that_is_still_too_large_is_read_as_pages(tmp_path: Path) -> None:
    words = [f"{a}{b} went" for a in "abcdefgh" for b in "klmnopqr"]
    logs = [log(w, timestamp=at(5 + i / 200), resource=OF) for i, w in enumerate(words)]
    root = store(tmp_path / "store", {7: [*logs, log("x", timestamp=at(5), resource=OF)]})
    with posthog_server() as posthog:
        posthog.insert(7, root)
        posthog.most_rows, posthog.page_rows = 20, 25
        day = TeamDay(7, at(0).date())
        same(source(posthog, tmp_path / "pages", 7), embedded(root), [day], Bounds(at(6.5)))
        assert posthog.pages == 3
        assert not list((tmp_path / "pages").glob("*/*/*/part-*"))  # read and gone


def test_where_hogql_is_refused_days_are_read_as_pages(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.refused = {"sumMap", "mapKeys"}
    posthog.page_rows = 400
    found = source(posthog, tmp_path)
    same(found, embedded(logs), DAYS[:1], Bounds(at(8.5, LAST)))
    assert posthog.queries == 1  # it is not asked again
    with pytest.raises(LogSourceRefusedError, match=r"Unsupported function call.*cannot be counted"):
        found.counts(DAYS[1:], LATER)


def test_a_read_that_was_interrupted_goes_on_where_it_stopped(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.refused, posthog.page_rows = {"sumMap"}, 5
    bounds = Bounds(at(4.5, LAST))

    def breaks(number: int) -> None:
        if number == 9:
            posthog.faults += [Fault(401, "Key was taken back")]

    posthog.after_page = breaks
    with pytest.raises(LogSourceRefusedError, match="Key was taken back"):
        source(posthog, tmp_path).groups(DAYS[:1], bounds)
    posthog.after_page = lambda number: None
    same(source(posthog, tmp_path), embedded(logs), DAYS[:1], bounds)
    pages = [
        (body["query"]["dateRange"]["date_from"], body["query"].get("after"))
        for path, body in posthog.asked
        if path == "logs/query/"
    ]
    assert len(set(pages)) == len(pages) - 1  # the page that failed is asked for twice, no other


@pytest.mark.parametrize("refused", [set(), {"sumMap"}], ids=["windows", "days"])
def test_a_log_that_comes_after_an_interrupted_read_is_in_the_next(tmp_path: Path, refused: set[str]) -> None:
    logs = [log(f"{a}{b} went", timestamp=at(5.1), resource=OF) for a in "abcdefgh" for b in "klmnopqr"]
    late = log("late", timestamp=at(5.01), observed_timestamp=at(8), resource=OF)
    later = log("later", timestamp=at(5.2), observed_timestamp=at(8), resource=OF)
    root, more = store(tmp_path / "store", {1: logs}), store(tmp_path / "late", {1: [late, later]})
    day = TeamDay(1, at(0).date())
    with posthog_server() as posthog:
        posthog.insert(1, root)
        posthog.refused, posthog.most_rows, posthog.page_rows = refused, 20, 10
        posthog.after_page = lambda number: posthog.faults.extend([Fault(401, "gone")] * (number == 3))
        with pytest.raises(LogSourceRefusedError):
            source(posthog, tmp_path / "pages").groups([day], Bounds(at(7)))
        posthog.insert(1, more)
        store(root, {1: [late, later]})
        posthog.after_page = lambda number: None
        found, bounds = source(posthog, tmp_path / "pages"), Bounds(at(9))
        same(found, embedded(root), [day], bounds)
        posthog.refused, posthog.most_rows = set(), 50_000
        same(source(posthog, tmp_path / "pages"), embedded(root), [day], Bounds(at(7)))  # they were not there by then


@pytest.mark.parametrize("until", ["<", "<="])
def test_logs_of_the_first_and_the_last_instant_of_an_hour_are_in_their_pages(tmp_path: Path, until: str) -> None:
    last = at(5) - timedelta(microseconds=1)
    root = store(tmp_path / "store", {1: [log(f"at {t}", timestamp=t, resource=OF) for t in (at(4), last, at(5))]})
    with posthog_server() as posthog:
        posthog.insert(1, root)
        posthog.refused, posthog.last_instant = {"sumMap"}, until
        same(source(posthog, tmp_path / "pages"), embedded(root), [TeamDay(1, at(0).date())], Bounds(at(6.5)))


def test_pages_that_are_gone_are_no_empty_day(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.refused, posthog.page_rows = {"sumMap"}, 5
    posthog.after_page = lambda number: posthog.faults.extend([Fault(401, "Key was taken back")] * (number == 9))
    bounds = Bounds(at(4.5, LAST))
    with pytest.raises(LogSourceRefusedError):
        source(posthog, tmp_path).groups(DAYS[:1], bounds)
    posthog.after_page = lambda number: None
    for part in tmp_path.glob("*/*/00-01/part-*"):
        part.unlink()
    with pytest.raises(LogSourceError, match=r"files of the pages of .* hold \d+ logs, and \d+ were read"):
        source(posthog, tmp_path).groups(DAYS[:1], bounds)
    same(source(posthog, tmp_path), embedded(logs), DAYS[:1], bounds)


def test_several_readers_of_the_same_pages_have_all_of_them(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.refused, posthog.page_rows = {"sumMap"}, 20
    bounds = Bounds(at(3.5, LAST))

    def rows(_: int) -> pd.DataFrame:
        return source(posthog, tmp_path).groups(DAYS[:1], bounds)

    expected = embedded(logs).groups(DAYS[:1], bounds)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(rows, range(6)):
            pd.testing.assert_frame_equal(found, expected)


def test_pages_are_one_readers_and_are_removed_by_nobody_else_meanwhile(tmp_path: Path) -> None:
    folder, inside = tmp_path / "pages" / "2026-09-10", Lock()

    def reads(_: int) -> None:
        for _ in range(40):
            with held(folder):
                assert inside.acquire(blocking=False)
                (folder / "part").touch()
                time.sleep(0.0005)
                assert (folder / "part").exists()
                inside.release()
            remove(folder)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reads, range(4)))
    assert not list(folder.parent.iterdir())


def test_rows_that_arrive_between_pages_are_neither_doubled_nor_make_others_missing(logs: Path, tmp_path: Path) -> None:
    late = store(
        tmp_path / "late", {1: [log("late", timestamp=at(h, LAST), observed_timestamp=at(99, LAST)) for h in range(6)]}
    )
    bounds = Bounds(at(6.5, LAST))
    with posthog_server() as posthog:
        posthog.insert(1, logs)
        posthog.refused, posthog.page_rows = {"sumMap"}, 10
        posthog.after_page = lambda number: posthog.insert(1, late) if number in (3, 9) else None
        found = source(posthog, tmp_path / "pages")
        rows, counts = found.groups(DAYS[:1], bounds), found.counts(DAYS[:1], bounds)
        pd.testing.assert_frame_equal(rows, embedded(logs).groups(DAYS[:1], bounds))
        assert posthog.pages > 12
        assert disagreements(DAYS[:1], rows, counts) == {}


def test_logs_that_leave_while_pages_are_read_are_noticed(logs: Path, tmp_path: Path) -> None:
    with posthog_server() as posthog:
        posthog.insert(1, logs)
        posthog.refused, posthog.page_rows = {"sumMap"}, 5
        posthog.after_page = lambda number: (
            posthog.run_command(f"TRUNCATE TABLE {posthog.table}") if number == 1 else None
        )
        with pytest.raises(LogSourceError, match=r"hold 5 logs, and PostHog counted \d+ before and 0 after"):
            source(posthog, tmp_path).groups(DAYS[:1], LATER)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, "Request was throttled.", headers={"Retry-After": "0"}),
        Fault(503, "<html>overloaded</html>"),
        Fault(500, "Something broke"),
        Fault(cut=True),
        Fault(silent=1.2),
        Fault(drip=0.05),
        Fault(504, "upstream request timeout", plain=True),
        Fault(503, "upstream connect error. reset reason: connection timeout", plain=True),
        Fault(500, "Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 100."),
        Fault(400, "Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 100."),
        Fault(500, "Code: 209. DB::Exception: Timeout exceeded while connecting to socket"),
    ],
    ids=[
        "throttled",
        "overloaded",
        "broken",
        "cut",
        "silent",
        "dripping",
        "gateway",
        "upstream",
        "simultaneous",
        "refused",
        "replica",
    ],
)
def test_what_passes_is_tried_again(posthog: PostHog, logs: Path, tmp_path: Path, fault: Fault) -> None:
    posthog.faults = [fault, fault]
    found = source(posthog, tmp_path, timeout_seconds=1 if fault.silent or fault.drip else 5)
    pd.testing.assert_frame_equal(found.counts(DAYS, LATER), embedded(logs).counts(DAYS, LATER))
    assert len(posthog.asked) == 3


def test_a_limit_is_waited_for_as_long_as_it_says_by_runs_and_not_by_sensors(posthog: PostHog, tmp_path: Path) -> None:
    limited = Fault(429, "Request was throttled.", headers={"Retry-After": "1"})
    posthog.faults = [limited]
    found = source(posthog, tmp_path)
    began = datetime.now(UTC)
    found.counts(DAYS, LATER)
    assert datetime.now(UTC) - began >= timedelta(seconds=1)
    posthog.faults = [limited]
    with pytest.raises(LogSourceError, match=r"429 Request was throttled.*LIPSERVICE_POSTHOG_QUERIES_PER_HOUR"):
        found.day_volumes(LAST, LAST)


def test_a_page_is_tried_again_whatever_it_meets(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.refused, posthog.page_rows = {"sumMap"}, 50
    faults = [
        Fault(504, "upstream request timeout", plain=True),
        Fault(500, "Query has hit the max execution time"),
        Fault(400, "Memory limit (for query) exceeded"),
    ]
    posthog.after_page = lambda number: posthog.faults.extend(faults[number - 1 : number])
    same(source(posthog, tmp_path), embedded(logs), DAYS[:1], Bounds(at(6.5, LAST)))
    assert not posthog.faults


def test_a_question_that_the_gateway_goes_on_giving_up_is_asked_in_parts(
    posthog: PostHog, logs: Path, tmp_path: Path
) -> None:
    posthog.faults = [Fault(504, "upstream request timeout", plain=True)] * 3
    found, bounds = source(posthog, tmp_path), Bounds(at(5.5, LAST))
    pd.testing.assert_frame_equal(found.groups(DAYS[:1], bounds), embedded(logs).groups(DAYS[:1], bounds))
    assert posthog.queries == 3 + 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True], ids=["seconds", "date"])
def test_as_long_is_waited_as_the_answer_asks(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, dated: bool
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    after = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True) if dated else "40"
    posthog.faults = [Fault(status, "busy", headers={"Retry-After": after})]
    source(posthog, tmp_path).counts(DAYS, LATER)
    assert len(waited) == 1
    assert 30 < waited[0] <= 40
    posthog.faults = [Fault(status, "busy", headers={"Retry-After": after})]
    with pytest.raises(LogSourceError, match=f"after 1 tries: {status} busy"):
        source(posthog, tmp_path).day_volumes(LAST, LAST)


def test_each_wait_is_twice_the_one_before(posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    posthog.faults = [Fault(500, "Something broke")] * 4
    source(posthog, tmp_path, retries=4).counts(DAYS, LATER)
    assert waited == pytest.approx([0.01, 0.02, 0.04, 0.08])


def test_a_key_in_what_is_answered_is_not_told(posthog: PostHog, tmp_path: Path) -> None:
    posthog.faults = [Fault(401, f"Invalid key {KEY}")]
    with pytest.raises(LogSourceRefusedError, match=r"Invalid key \*\*\*"):
        source(posthog, tmp_path).counts(DAYS, LATER)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([Fault(502, "bad gateway")] * 3, r"did not answer after 3 tries: 502 bad gateway; is the address"),
        ([Fault(cut=True)] * 3, r"did not answer after 3 tries: the connection broke: .*; is the address"),
        ([Fault(silent=0.25)] * 3, r"did not answer after 3 tries: no answer within 0.2 s"),
        ([Fault(drip=0.02)] * 3, r"did not answer after 3 tries: no answer within 0.2 s"),
        ([Fault(302, headers={"Location": "https://us.posthog.com/x"})], "sends on to https://us.posthog.com/x: put"),
        ([Fault(400, "Query has hit the max execution time")], "gave a question up: Query has hit the max execution"),
        ([Fault(400, "Unable to resolve field: bdy")], "refused a question: Unable to resolve field: bdy"),
        ([Fault(418, "no tea")], "refused query/ with 418: no tea"),
    ],
)
def test_what_does_not_pass_is_told(posthog: PostHog, tmp_path: Path, faults: list[Fault], told: str) -> None:
    posthog.faults = list(faults)
    found = source(posthog, tmp_path, timeout_seconds=0.2 if faults[0].silent or faults[0].drip else 5)
    with pytest.raises(LogSourceError, match=told):
        found.day_volumes(LAST, LAST)


@pytest.mark.parametrize(
    ("project", "key", "told"),
    [
        (
            1,
            "phx_gone",
            "does not take the key: it has expired, was deleted or is mistyped.*LIPSERVICE_POSTHOG_API_KEY",
        ),
        (404, KEY, "project 404: there is no such project.*LIPSERVICE_LOGS_DSN"),
        (2, "phx_narrow", "project 2: there is no such project, or the key's owner may not see it.*don't have access"),
        (1, "phx_narrow", "the key lacks the scope query:read .*Add it to the key"),
    ],
)
def test_a_wrong_key_project_or_scope_is_told_at_once_without_the_key(
    posthog: PostHog, tmp_path: Path, project: int, key: str, told: str
) -> None:
    posthog.keys["phx_narrow"] = ({1}, {"logs:read"})
    with pytest.raises(LogSourceRefusedError, match=told) as error:
        source(posthog, tmp_path, project, key).counts([TeamDay(project, LAST)], LATER)
    assert len(posthog.asked) == 1
    assert key not in str(error.value)


def test_a_missing_scope_of_pages_is_told(posthog: PostHog, tmp_path: Path) -> None:
    posthog.keys["phx_narrow"] = ({1}, {"query:read"})
    posthog.refused = {"sumMap"}
    with pytest.raises(LogSourceRefusedError, match="the key lacks the scope logs:read"):
        source(posthog, tmp_path, 1, "phx_narrow").groups(DAYS[:1], LATER)


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    api = Api("http://127.0.0.1:9", 1, KEY, QUICK)
    with pytest.raises(
        LogSourceError, match=r"127\.0\.0\.1:9, project 1 did not answer .*no connection: .*refused.*reach it"
    ):
        PostHogSource({1: api}, tmp_path).ping()


def test_the_requests_of_an_hour_are_shared_and_not_exceeded(
    posthog: PostHog, database: Database, tmp_path: Path
) -> None:
    api = partial(Api, posthog.url, 1, KEY, replace(QUICK, queries_per_hour=3), budget=partial(take, database))
    one, other = (PostHogSource({1: api()}, tmp_path) for _ in range(2))
    for found in (one, other, one):
        found.day_volumes(LAST, LAST)
    with pytest.raises(LogSourceError, match=r"this hour's 3 queries are made, the next may be in 3[56]\d\d s"):
        other.day_volumes(LAST, LAST)
    assert len(posthog.asked) == 3
    assert 3500 < take(database, f"{posthog.url[7:]}/1/queries", 3) <= 3600
    assert take(database, f"{posthog.url[7:]}/1/pages", 3) == 0  # a limit of their own


def test_ten_times_the_logs_take_no_more_requests_or_memory(tmp_path: Path) -> None:
    """A million logs, made in the engine: what comes back are their groups."""
    peaks, asked = {}, {}
    with posthog_server() as posthog:
        for project, logs in ((1, 100_000), (2, 1_000_000)):
            posthog.run_command(
                f"INSERT INTO {posthog.table} SELECT {project}, toDateTime('2026-09-10 00:00:00', 'UTC'),"
                " toDateTime64('2026-09-10 00:00:00', 6, 'UTC')"
                f" + toIntervalMicrosecond(number * {86_399_000_000 // logs}) AS at,"
                " at, toString(number), '', '',"
                " concat('user ', toString(number), ' opened page ', char(97 + number % 20), ' of chapter ',"
                " char(97 + intDiv(number, 20) % 20)), 'info', 9, 'shop', map('service.name', 'shop'), map(), ''"
                f" FROM numbers({logs})"
            )
            found = source(posthog, tmp_path, project)
            posthog.asked.clear()
            tracemalloc.start()
            rows = found.groups([TeamDay(project, LAST)], LATER)
            assert rows["logs"].sum() == found.counts([TeamDay(project, LAST)], LATER)["logs"].sum() == logs
            peaks[logs] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            asked[logs] = len(posthog.asked)
    assert asked[1_000_000] <= 10
    assert peaks[1_000_000] < 1.2 * peaks[100_000]


def test_projects_and_keys_are_read_from_the_settings(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    posthog.keys |= {"phx_one": ({1}, {"query:read"}), "phx_two": ({2}, {"query:read"})}
    chosen = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path,
        logs_dsn=SecretStr(f"posthog+{posthog.url}/project/1,2"),
        posthog_api_key=SecretStr("phx_two"),
        posthog_keys={1: SecretStr("phx_one")},
    )
    found = source_of(chosen)
    assert found.latest_logs(at(0, LAST)) == embedded(logs).latest_logs(at(0, LAST))
    assert {name: getattr(chosen, name) for name in POSTHOG_LOOKS} == POSTHOG_LOOKS
    for name in ("posthog_api_key", "posthog_keys"):
        assert "phx" not in shown(getattr(chosen, name))
    with pytest.raises(LogSourceError, match=r"No key of PostHog project 2 is set.*LIPSERVICE_POSTHOG_API_KEY"):
        source_of(chosen.model_copy(update={"posthog_api_key": None}))


def test_blanks_around_a_key_are_no_part_of_it(posthog: PostHog, tmp_path: Path) -> None:
    dsn = SecretStr(f"posthog+{posthog.url}/project/1")
    for keys in (
        {"posthog_api_key": f" {KEY}\n"},
        {"posthog_keys": {1: f"{KEY}\r\n"}},
        {"posthog_keys": {1: " \n"}, "posthog_api_key": KEY},
    ):
        found = source_of(Settings(_env_file=None, home=tmp_path, logs_dsn=dsn, **keys))  # type: ignore[call-arg]
        assert "project 1" in found.ping()


@pytest.mark.parametrize("key", ["phx_sec\nret", "phx_sec\tret", "phx_sec ret", "phx_sec…", "phx_sécret"])
def test_a_key_with_a_sign_that_no_key_has_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    for name, value in (("API_KEY", key), ("KEYS", json.dumps({"1": key}))):
        with monkeypatch.context() as environment:
            environment.setenv(f"LIPSERVICE_POSTHOG_{name}", value)
            with pytest.raises(ValueError, match="has a sign in it that no key has") as error:
                Settings(_env_file=None)  # type: ignore[call-arg]
            assert "phx_" not in str(error.value)


@pytest.mark.parametrize("key", ["phx_secret\n", "phx_secret…"])
def test_a_key_that_no_header_takes_is_told_at_once_and_not_shown(posthog: PostHog, key: str) -> None:
    said: list[str] = []
    with pytest.raises(LogSourceRefusedError, match="no header of HTTP takes the key") as refusal:
        Api(posthog.url, 1, key, QUICK, say=said.append).hogql("SELECT 1")
    assert "secret" not in str(refusal.value)
    assert not said
    assert not posthog.asked


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("posthog+https://eu.posthog.com", "reads posthog"),
        ("posthog+https://eu.posthog.com/project/x", "reads posthog"),
        ("posthog+https://phx_key@eu.posthog.com/project/1", "holds no key"),
    ],
)
def test_a_wrong_dsn_is_told(dsn: str, told: str) -> None:
    with pytest.raises(LogSourceError, match=told) as error:
        posthog_projects(dsn)
    assert "phx" not in str(error.value)
    assert posthog_projects("posthog+https://h.example/posthog/project/7,3/") == ("https://h.example/posthog", [3, 7])


def test_beyond_the_cap_rest_rows_are_the_same(posthog: PostHog, logs: Path, tmp_path: Path) -> None:
    limits = QueryLimits(max_messages=50)
    found = PostHogSource({1: Api(posthog.url, 1, KEY, QUICK)}, tmp_path, limits)
    rows = found.groups(DAYS[:1], LATER)
    assert (rows["message_id"] == frames.REST_ID).any()
    pd.testing.assert_frame_equal(rows, embedded(logs, limits).groups(DAYS[:1], LATER))
