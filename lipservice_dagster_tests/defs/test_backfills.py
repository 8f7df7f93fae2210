"""Days made in any order, by any runs, give the same tables; days that have left the log store keep what is stored."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from lipservice_dagster.local import postgres
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import materializations, runs
from lipservice_dagster_tests.conftest import fresh_database
from lipservice_dagster_tests.defs.conftest import World, world_of
from lipservice_dagster_tests.logs import at, log, store

LAST = date(2026, 9, 10)
DAYS = 10
TEAMS = (1, 2)
# Windows that are shorter than the days: what is made anew leaves some days as they are.
WINDOWS = {"window_days": 4, "backtest_days": 3, "backtest_min_days": 2}
Make = Callable[..., World]


def day(back: int) -> date:
    return LAST - timedelta(days=back)


def logs_of(team: int, back: int) -> list[dict[str, Any]]:
    """A day of one service: patterns with different words, more of one each day, an error now and then, a new one."""
    chance = random.Random(1_000 * team + back)
    texts = [
        f"order {chance.randrange(10**6)} placed by {who}" for who in ("ada", "bob", "cyn") for _ in range(6 + back)
    ]
    texts += [f"cache miss for key {chance.randrange(10**6)}"] * (3 + 20 * (back == 2))
    texts += [f"feature number {chance.randrange(100)} switched on"] * (4 * (back < 4))
    records = [log(text, timestamp=at(chance.random() * 24, day(back))) for text in texts]
    return [*records, log("connection refused", timestamp=at(9, day(back)), severity="error")]


def filled(found: World) -> World:
    """Ten days of two teams in its log store."""
    store(found.store, {team: [r for back in range(DAYS) for r in logs_of(team, back)] for team in TEAMS})
    return found


@pytest.fixture(scope="module")
def at_once(server: postgres.Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """The tables of ten days that are made in order and at once, which leaves nothing stale."""
    with fresh_database(server) as database, dg.DagsterInstance.ephemeral() as instance:
        found = filled(world_of(database, instance, None, home=tmp_path_factory.mktemp("at_once"), **WINDOWS))
        found.make(TEAMS, day(DAYS - 1), LAST)
        assert found.settle() == []
        yield found.tables()


def test_in_order_and_at_once_leaves_nothing_stale(at_once: dict[str, list[str]]) -> None:
    assert len(at_once["anomaly_reports"]) == len(TEAMS) * DAYS


def in_reverse() -> list[tuple[tuple[int, ...], date, date]]:
    return [(TEAMS, day(back + 1), day(back)) for back in range(0, DAYS, 2)]


def day_by_day() -> list[tuple[tuple[int, ...], date, date]]:
    return [(TEAMS, day(back), day(back)) for back in reversed(range(DAYS))]


def scattered() -> list[tuple[tuple[int, ...], date, date]]:
    pieces: list[tuple[tuple[int, ...], date, date]] = [
        ((team,), day(oldest), day(newest)) for team in TEAMS for oldest, newest in ((9, 7), (6, 3), (2, 0))
    ]
    random.Random(5).shuffle(pieces)
    return pieces


@pytest.mark.timeout(900)  # of a machine that others keep busy; a quiet one takes a twentieth
@pytest.mark.parametrize("order", [in_reverse, day_by_day, scattered])
def test_any_order_gives_the_tables_of_one_run_once_nothing_is_stale(
    order: Callable[[], list[tuple[tuple[int, ...], date, date]]], at_once: dict[str, list[str]], world: Make
) -> None:
    other = filled(world(**WINDOWS))
    for teams, first, last in order():
        other.make(teams, first, last)
    other.settle()
    assert other.tables() == at_once


def expire(found: World, team: int, on: date) -> None:
    shutil.rmtree(found.store / "logs" / f"team_id={team}" / f"day={on}")


def kept_check(found: World) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey("raw_logs"), "still_in_the_log_store")
    event = found.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0].event
    assert event is not None
    evaluation = event.asset_check_evaluation
    assert evaluation is not None
    return evaluation


def test_a_day_that_left_the_log_store_keeps_what_is_stored_and_says_so(world: Make) -> None:
    found = world()
    records = [log(f"kept {n}", timestamp=at(n, d)) for n in range(3) for d in (day(1), LAST)]
    store(found.store, {1: records})
    found.run(1, day(1), LAST)
    assert kept_check(found).passed
    before = found.tables()
    expire(found, 1, day(1))
    run_id = found.run(1, day(1), LAST)
    assert found.tables() == before
    gone, there = TeamDay(1, day(1)), TeamDay(1, LAST)
    entries = materializations.of(found.database, "raw_logs", [gone, there])
    assert "3 logs" in str(entries[gone].kept)
    assert entries[gone].problem is entries[there].kept is None
    assert materializations.kept(found.database, [1], day(5), LAST) == [gone]
    evaluation = kept_check(found)
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert str(gone) in evaluation.metadata
    assert found.graph.failed_checks(run_id) == []
    history = runs.history(found.database, 1)
    of_run = history[(history["run_id"] == run_id) & (history["asset"] == "raw_logs")].set_index("day")
    assert of_run["status"].to_dict() == {day(1): "succeeded", LAST: "succeeded"}
    assert of_run.loc[day(1), "counts"] == {"kept": 1}
    told = found.instance.get_latest_data_version_record(dg.AssetKey("raw_logs"), partition_key=str(gone))
    assert told is not None
    materialised = told.asset_materialization
    assert materialised is not None
    assert "no logs of this day any more" in str(materialised.metadata["kept"].value)


def test_a_day_of_which_only_some_logs_have_left_keeps_what_is_stored_until_it_is_to_be_replaced(world: Make) -> None:
    found = world()
    store(found.store, {1: [log(f"order {n} placed", timestamp=at(n, LAST)) for n in range(5)]})
    found.run(1, LAST)
    before = found.tables()
    expire(found, 1, LAST)
    store(found.store, {1: [log("the last second's", timestamp=at(23, LAST))]})
    found.run(1, LAST)
    assert found.tables() == before
    here = TeamDay(1, LAST)
    assert "1 logs of this day, fewer than before; its 5 logs stay" in str(
        materializations.of(found.database, "raw_logs", [here])[here].kept
    )
    found.run(1, LAST, replace=True)
    entry = materializations.of(found.database, "raw_logs", [here])[here]
    assert (entry.kept, entry.logs) == (None, 1)


def test_a_day_that_comes_back_into_the_log_store_is_read_again(world: Make) -> None:
    found = world()
    store(found.store, {1: [log("first", timestamp=at(3, LAST))]})
    found.run(1, LAST)
    expire(found, 1, LAST)
    found.run(1, LAST)
    here = TeamDay(1, LAST)
    assert materializations.of(found.database, "raw_logs", [here])[here].kept
    store(found.store, {1: [log("second", timestamp=at(4, LAST))]})  # as many as there were
    found.run(1, LAST)
    entry = materializations.of(found.database, "raw_logs", [here])[here]
    assert (entry.kept, entry.logs) == (None, 1)
    assert "second" in found.tables()["raw_logs"][0]
    assert kept_check(found).passed


def test_a_day_without_logs_before_and_now_is_simply_empty(world: Make) -> None:
    found = world()
    found.run(1, LAST)
    found.run(1, LAST)
    here = TeamDay(1, LAST)
    entry = materializations.of(found.database, "raw_logs", [here])[here]
    assert (entry.kept, entry.problem, entry.logs) == (None, None, 0)
