"""Reports whose window was made anew are found and made again, until any order of making has given the same tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.core.budget import key_of
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.defs.asked import MOST_ATTEMPTS
from lipservice_dagster.defs.remaking import Memory, plan
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.windows import (
    POLICY,
    REPLAY,
    REPORT,
    SAVINGS,
    VERDICT,
    WHOLE_DAY,
    Stale,
    changed_teams,
    mark,
    stale_policies,
    stale_reports,
    stale_verdicts,
    window_fingerprints,
)
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store

LAST = date(2026, 9, 10)
FIRST = date(2026, 8, 1)
DAYS = 4
Make = Callable[..., World]


def day(back: int) -> date:
    return LAST - timedelta(days=back)


def fill(world: World) -> None:
    with LogWriter(world.store) as writer:
        for back in range(DAYS):
            writer.add(1, generate(1, day(back), until=LAST, days=DAYS, logs_per_day=500))


def settle(world: World) -> list[dg.RunRequest]:
    """Run what the sensor asks for until it asks for nothing; all that it asked for."""
    every: list[dg.RunRequest] = []
    cursor = None
    while (answer := world.tick("stale_reports", cursor)).run_requests:
        assert len(every) < 20
        cursor = answer.cursor
        for request in answer.run_requests:
            world.ask(request)
        every += answer.run_requests
    return every


def assets_of(request: dg.RunRequest) -> frozenset[str]:
    return frozenset(k.to_user_string() for k in request.asset_selection or [])


def test_any_order_of_making_gives_the_same_tables_once_the_sensor_has_had_its_say(
    world: Make, another_database: Database
) -> None:
    ordered, mixed = world(), world(on=another_database)
    fill(ordered)
    ordered.run(1, day(DAYS - 1), LAST)
    assert settle(ordered) == []
    backs = list(range(DAYS))
    random.Random(3).shuffle(backs)
    for back in backs:
        mixed.run(1, day(back))
    assert mixed.tables() != ordered.tables()
    asked = settle(mixed)
    assert asked
    assert mixed.tables() == ordered.tables()
    assert {assets_of(request) for request in asked} <= {frozenset(a) for a in (REPORT, REPLAY, VERDICT)}
    assert {frozenset(REPORT), frozenset(REPLAY)} <= {assets_of(request) for request in asked}
    assert settle(mixed) == []


def test_a_day_whose_own_logs_alone_were_made_anew_is_made_again_from_its_signatures_on(world: Make) -> None:
    found = world()
    fill(found)
    found.run(1, day(1), LAST)
    store(found.store, {1: [log("a late log of another kind", timestamp=at(9, day(1)))]})
    found.materialise(1, day(1), "raw_logs")
    asked = settle(found)
    assets = [assets_of(request) for request in asked]
    assert assets.count(frozenset(REPORT)) == assets.count(frozenset(WHOLE_DAY)) == 1
    assert frozenset(REPLAY) in assets
    settled = found.tables()
    found.run(1, day(1), LAST)
    assert found.tables() == settled


def test_a_report_is_stale_where_its_window_is_another_or_was_read_while_open(world: Make) -> None:
    """Also where nothing was logged after it was read: its content is the same, but now it counts as a day."""
    found = world()
    fill(found)
    found.run(1, day(1), LAST)
    days = [TeamDay(1, day(b)) for b in (1, 0)]
    five, none = (window_fingerprints(found.database, days, n) for n in (5, 0))
    assert len({*five.values(), *none.values()}) == 3  # the first day has no window yet
    assert {r.team_day for r in stale_reports(found.database, 0, FIRST)} == {TeamDay(1, LAST)}
    assert stale_reports(found.database, 0, LAST + timedelta(days=1)) == []
    assert stale_reports(found.database, 5, FIRST) == []
    with found.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE materializations SET hours = 13 WHERE asset = 'raw_logs' AND day = %s", (day(1),)
        )
    assert [r.team_day.day for r in stale_reports(found.database, 5, FIRST)] == [day(1), LAST]


def test_a_tick_looks_at_what_was_written_since_the_last_one_and_at_what_was_stale_then(world: Make) -> None:
    found = world()
    fill(found)
    found.run(1, day(1), LAST)
    settled = found.tick("stale_reports").cursor
    assert found.tick("stale_reports", settled).run_requests == []
    change = "UPDATE materializations SET hours = 13{} WHERE asset = 'raw_logs' AND day = %s"
    with found.database.engine.begin() as connection:
        connection.exec_driver_sql(change.format(""), (day(1),))
    assert found.tick("stale_reports", settled).run_requests == []  # nothing says that something was written
    assert found.tick("stale_reports").run_requests
    with found.database.engine.begin() as connection:
        connection.exec_driver_sql(change.format(", written_at = now()"), (day(1),))
    seen = found.tick("stale_reports", settled)
    assert seen.run_requests
    assert found.tick("stale_reports", seen.cursor).run_requests  # nobody ran them, so they are asked for once more


def test_what_is_being_written_while_one_looks_is_a_change_after_that(database: Database) -> None:
    entry = (
        "INSERT INTO materializations (asset, team_id, day, written_at, checked_by, checked_at)"
        " VALUES ('raw_logs', 7, '2026-09-10', now(), 'run', now())"
    )
    with database.engine.connect() as writer:
        writer.exec_driver_sql(entry)
        looked = mark(database)
        assert changed_teams(database, looked) == []
        writer.commit()
    assert changed_teams(database, looked) == [7]
    assert changed_teams(database, mark(database)) == []


def test_a_verdict_is_stale_where_a_replay_or_a_policy_that_it_read_was_made_later(world: Make) -> None:
    found = world()
    fill(found)
    found.run(1, day(DAYS - 1), LAST)
    assert stale_verdicts(found.database, 7, FIRST) == []
    found.materialise(1, day(2), "policies")
    assert {(s.team_day.day, s.assets) for s in stale_verdicts(found.database, 7, FIRST)} == {
        (day(2), REPLAY),
        (day(1), REPLAY),
    }
    found.materialise(1, day(2), "replays")
    found.materialise(1, day(1), "replays")
    assert {(s.team_day.day, s.assets) for s in stale_verdicts(found.database, 7, FIRST)} == {
        (day(back), VERDICT) for back in (2, 1, 0)
    }
    assert {s.team_day.day for s in stale_verdicts(found.database, 1, FIRST)} == {day(2), day(1)}


def stale(world: World, **settings: object) -> dict[date, tuple[str, ...]]:
    """Days whose policies are stale, and what is to be made again, for these settings."""
    asked = PolicySettings.model_validate(settings)
    found = stale_policies(
        world.database,
        budget=key_of(asked),
        team_budgets={team: key_of(asked.of_team(team)) for team in asked.team_budgets},
        span=7,
        backtest_days=2,
        first_day=FIRST,
    )
    return {s.team_day.day: s.assets for s in found}


def test_policies_are_stale_where_the_goals_of_days_before_or_what_their_day_holds_are_others(world: Make) -> None:
    found = world()
    fill(found)
    found.run(1, day(DAYS - 1), LAST)
    assert stale(found) == {}
    found.materialise(1, day(2), "policies")  # as it was
    assert stale(found) == {}
    with found.database.engine.begin() as connection:
        changed = "UPDATE policies SET goals_fingerprint = 'other' WHERE day = %s"
        connection.exec_driver_sql(changed, (day(2),))
    assert stale(found) == {day(1): POLICY, LAST: POLICY}
    found.materialise(1, day(2), "policies")
    assert stale(found) == {}
    found.materialise(1, day(1), "anomaly_reports")
    assert stale(found) == {day(1): POLICY}


def test_another_budget_makes_new_versions_of_its_teams_latest_policies_and_touches_nothing_else(world: Make) -> None:
    found = world(backtest_days=2, backtest_min_days=2)
    for back in range(DAYS):
        logs = [log(f"reading {i} done", timestamp=at(24 * i / 1500, day(back))) for i in range(1500)]
        store(found.store, {1: logs})
    found.run(1, day(DAYS - 1), LAST)
    before, shares = found.tables(), _shares(found)
    own = {"team_budgets": {1: {"reduction": 0.3}}}
    assert stale(found, team_budgets={2: {"reduction": 0.3}}) == {}
    assert stale(found, **own) == {day(back): POLICY for back in (2, 1, 0)}
    asked_for_less = world(backtest_days=2, backtest_min_days=2, **own)
    asked_for_less.instance.add_dynamic_partitions("teams", ["1"])
    asked = settle(asked_for_less)
    made = {assets_of(request) for request in asked}
    assert frozenset(POLICY) in made
    assert made <= {frozenset(a) for a in (POLICY, REPLAY, VERDICT)}
    after = found.tables()
    for table in set(before) - {"policies", "replays", "backtests"}:
        assert after[table] == before[table]
    assert stale(found, **own) == {}
    assert [kept > was for kept, was in zip(_shares(found), shares, strict=True)] == [False, True, True, True]
    told = asked_for_less.instance.get_latest_materialization_event(dg.AssetKey("policies"))
    assert told is not None
    assert told.asset_materialization.metadata["budget"].value == "save 30% of the team's bytes"  # type: ignore[union-attr]
    assert settle(asked_for_less) == []


def _shares(world: World) -> list[float]:
    """What of its bytes each day's policies keep."""
    statement = "SELECT sum(kept_bytes) / sum(bytes) FROM policies GROUP BY day ORDER BY day"
    with world.database.engine.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql(statement)]


def test_days_made_out_of_order_by_hand_end_in_the_same_policies(world: Make, another_database: Database) -> None:
    """The ramp reads days before, which no dependency of the graph declares: what was made too early is found."""
    asked = {"target_reduction": 0.95, "floor_per_hour": 0.1, "window_days": 1}
    ordered, mixed = world(**asked), world(on=another_database, **asked)
    fill(ordered)
    ordered.run(1, day(DAYS - 1), LAST)
    assert settle(ordered) == []
    for back in (2, 1, 0, 3):
        mixed.run(1, day(back))
    assert mixed.tables()["policies"] != ordered.tables()["policies"]
    made = {assets_of(request) for request in settle(mixed)}
    assert frozenset(POLICY) in made
    assert mixed.tables() == ordered.tables()


def test_savings_older_than_their_logs_are_made_again(world: Make) -> None:
    found = world()
    fill(found)
    found.run(1, day(1), LAST)
    found.materialise(1, LAST, "raw_logs", "signatures", "clusters", "anomaly_reports", "policies")
    verdicts = stale_verdicts(found.database, 7, FIRST)
    assert [(s.team_day.day, s.assets) for s in verdicts] == [(LAST, (*REPLAY, *SAVINGS))]
    found.materialise(1, LAST, *REPLAY)
    assert [s.assets for s in stale_verdicts(found.database, 7, FIRST)] == [SAVINGS]
    settle(found)
    assert stale_verdicts(found.database, 7, FIRST) == []


def test_teams_at_work_unknown_teams_and_days_that_are_no_partitions_are_left_alone(world: Make) -> None:
    found = world()
    fill(found)
    found.run(1, LAST)
    found.run(1, day(1))
    runs.start(found.database, "another", "anomaly_reports", [TeamDay(1, LAST)])
    answer = found.tick("stale_reports")
    assert not answer.run_requests
    assert "at work" in answer.skip_message
    runs.fail_unfinished(found.database, "another", "it was killed")
    assert [r.partition_key for r in found.tick("stale_reports").run_requests] == [str(TeamDay(1, LAST))]
    stranger = world()  # another instance, which knows no team
    assert not stranger.tick("stale_reports").run_requests
    later = world(first_day=LAST + timedelta(days=1))
    later.instance.add_dynamic_partitions("teams", ["1"])
    assert not later.tick("stale_reports").run_requests


def test_an_open_day_says_until_when_it_was_read_and_a_first_one_that_it_is_learning(world: Make) -> None:
    found = world()
    now = datetime.now(UTC)
    store(
        found.store, {1: [log("open", timestamp=now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1))]}
    )
    found.run(1, now.date())
    told = found.instance.get_latest_materialization_event(dg.AssetKey("anomaly_reports"))
    assert told is not None
    metadata = told.asset_materialization.metadata  # type: ignore[union-attr]
    text = str(metadata["state"].value)
    assert f"read until {now.hour:02}:00 UTC" in text
    assert "Learning" in text
    assert metadata["hours"].value == now.hour
    assert metadata["new_pattern"].value == 0


REPORTS = st.lists(
    st.builds(
        Stale,
        st.builds(TeamDay, st.integers(1, 3), st.integers(0, 9).map(day)),
        st.sampled_from(["a", "b"]),
        st.sampled_from([REPORT, WHOLE_DAY, REPLAY, VERDICT]),
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda r: r.team_day,
)


@given(REPORTS, st.integers(1, 8), st.randoms(use_true_random=False))
def test_nothing_is_asked_twice_while_it_runs_nor_more_than_the_limit_at_a_time(stale, most, chance):
    memory = Memory(0, {})
    at_work: set[str] = set()
    used: set[str] = set()
    for _ in range(12):
        groups, memory = plan(stale, Memory.read(memory.text()), at_work, most)
        keys = {memory.asked[str(r.team_day)].run_key for g in groups for r in g}
        assert len(keys) == len(groups)
        assert not keys & used
        asked = {r.team_day for g in groups for r in g}
        assert not any(r.busy for g in groups for r in g)
        before = {k for k, a in memory.asked.items() if a.run_key in at_work}
        assert not {str(d) for d in asked} & before
        assert len(asked) + len(before) <= max(most, len(before))
        for group in groups:
            assert {r.team_day.team_id for r in group} == {group[0].team_day.team_id}
            first = group[0].team_day.day
            assert [r.team_day.day for r in group] == [first + timedelta(days=i) for i in range(len(group))]
        used |= keys
        at_work = {k for k in at_work | keys if chance.random() < 0.5}
    assert max((a.attempt for a in memory.asked.values()), default=0) <= MOST_ATTEMPTS


def test_what_fails_is_asked_again_some_times_and_anew_once_its_window_changes():
    report = Stale(TeamDay(1, LAST), "a", REPORT)
    memory, attempts = Memory(0, {}), []
    for _ in range(6):
        groups, memory = plan([report], memory, set(), 10)
        attempts.append(len(groups))
    assert attempts == [1] * MOST_ATTEMPTS + [0] * (6 - MOST_ATTEMPTS)
    # A team at work meanwhile is no reason to forget what failed.
    groups, memory = plan([replace(report, busy=True)], memory, set(), 10)
    assert groups == []
    assert plan([report], memory, set(), 10)[0] == []
    assert len(plan([replace(report, fingerprint="b")], memory, set(), 10)[0]) == 1
    done = plan([], memory, set(), 10)[1]
    assert done.asked == {}
    assert len(plan([report], done, set(), 10)[0]) == 1


@pytest.mark.parametrize("cursor", [None, ""])
def test_the_memory_begins_empty(cursor):
    assert Memory.read(cursor) == Memory(0, {})
