"""Stored judgements: which one holds for a day, and that none is stored twice."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lipservice_dagster.core.judgements import WORTH, Judged, Judgement, Level
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import judgements as stored
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import judgements, model_calls

DAY = date(2026, 9, 10)
CALL = {
    "patterns": 1,
    "input_tokens": 900,
    "output_tokens": 100,
    "cached_tokens": 50,
    "cache_write_tokens": 7,
    "cost": 0.001,
    "problem": None,
}


def at(day: int, team_id: int = 7) -> TeamDay:
    return TeamDay(team_id, DAY + timedelta(days=day))


def judged(worth: Level = "low", signature: str = "a") -> Judged:
    return Judged(Judgement(signature=signature, worth=WORTH[worth], category="other", reason="So it is."), True)


def add(database: Database, on: TeamDay, given_: Judged, *, model: str = "m", version: str = "v") -> None:
    stored.add(database, "run", on, model, version, [given_], CALL)


def holding(database: Database, on: TeamDay, *, model: str = "m", version: str = "v", days: int = 3) -> str | None:
    found = stored.holding(database, on, ["a", "b"], model, version, days)
    return found["a"].judgement.level if "a" in found else None


def test_a_judgement_holds_on_both_sides_of_its_day_for_its_time_to_live(database: Database) -> None:
    add(database, at(0), judged())
    assert [holding(database, at(d)) for d in (-3, -2, 0, 2, 3)] == [None, "low", "low", "low", None]


def test_judgements_are_those_of_the_team_the_model_and_the_prompt(database: Database) -> None:
    add(database, at(0), judged())
    assert holding(database, at(0)) == "low"
    assert holding(database, at(0, team_id=8)) is None
    assert holding(database, at(0), model="other") is None
    assert holding(database, at(0), version="w") is None


def test_a_judgement_stored_again_changes_nothing(database: Database) -> None:
    add(database, at(0), judged("low"))
    add(database, at(0), judged("high"))
    assert holding(database, at(0)) == "low"
    with database.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(judgements)).scalar() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(model_calls)).scalar() == 2


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-6, 6), st.sampled_from(sorted(WORTH))), min_size=1, max_size=8))
def test_what_held_for_a_day_is_never_changed_by_what_is_stored_later(database: Database, entries) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.delete(judgements))
    settled: dict[int, str | None] = {}
    for day, worth in entries:
        add(database, at(day), judged(worth))
        now = {d: holding(database, at(d)) for d in range(-8, 9)}
        assert {d: now[d] for d in settled} == settled
        settled = {d: worth for d, worth in now.items() if worth is not None}


def test_the_tokens_of_a_day_are_all_that_its_requests_took(database: Database) -> None:
    today = datetime.now(UTC).date()
    add(database, at(0), judged())
    add(database, at(1, team_id=8), judged())
    after = datetime.now(UTC).date()
    assert sum(stored.tokens_of_day(database, day) for day in {today, after}) == 2 * (900 + 100 + 50 + 7)
    assert stored.tokens_of_day(database, today - timedelta(days=1)) == 0


def test_two_runs_ask_about_a_team_one_after_the_other(database: Database) -> None:
    order = []

    def second() -> None:
        with stored.asking(database, 7):
            order.append("second")

    with stored.asking(database, 7):
        with stored.asking(database, 8):
            order.append("another team")
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["another team", "first", "second"]
