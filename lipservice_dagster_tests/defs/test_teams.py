"""Teams: who is discovered, filled once and taken each day, in how many runs; and days that roll on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.defs.asked import AT_WORK, DONE, FAILED, MOST_ATTEMPTS
from lipservice_dagster.defs.daily import neighbours, requests, size_for
from lipservice_dagster.defs.discover_teams import Memory, plan
from lipservice_dagster.local.in_process import Graph
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store

TODAY = date(2026, 9, 10)
Make = Callable[..., World]


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg]


@given(
    st.lists(st.integers(1, 999), unique=True, max_size=80).map(lambda ids: [str(i) for i in ids]),
    st.sets(st.integers(1, 999).map(str), max_size=30),
    st.integers(1, 20),
)
def test_groups_hold_each_wanted_team_once_side_by_side_and_the_first_ones_stay(
    order: list[str], denied: set[str], size: int
) -> None:
    groups = neighbours(order, lambda t: t not in denied, size)
    assert [t for g in groups for t in g] == [t for t in order if t not in denied]
    for group in groups:
        start = order.index(group[0])
        assert order[start : start + len(group)] == group
        assert len(group) <= size
    # A tick that is repeated after a team was added asks under the same keys.
    longer = neighbours([*order, "1000"], lambda t: t not in denied, size)
    assert [g[0] for g in longer][: len(groups)] == [g[0] for g in groups]


def test_tens_of_teams_have_a_run_each_and_a_thousand_share_fifty() -> None:
    assert [size_for(n, 50) for n in (0, 1, 50, 51, 1000)] == [1, 1, 1, 2, 20]


def daily(found: World) -> list[dg.RunRequest]:
    """What the schedule asks for on the day after TODAY."""
    return requests(found.instance.get_dynamic_partitions("teams"), TODAY, found.graph.settings)


def test_the_daily_schedule_asks_for_yesterday_of_all_teams_but_the_denied(world: Make) -> None:
    found = world(teams_denied=[3])
    found.instance.add_dynamic_partitions("teams", [str(t) for t in (1, 2, 3, 4)])
    asked = daily(found)
    assert [r.partition_key for r in asked] == [f"2026-09-10|{t}" for t in (1, 2, 4)]
    assert [r.run_key for r in asked] == [r.run_key for r in daily(found)]
    wide = world(daily_runs=1, teams_denied=[3])
    wide.instance.add_dynamic_partitions("teams", [str(t) for t in (1, 2, 3, 4)])
    first, second = daily(wide)
    assert first.tags["dagster/asset_partition_range_start"] == "2026-09-10|1"
    assert first.tags["dagster/asset_partition_range_end"] == "2026-09-10|2"
    assert second.partition_key == "2026-09-10|4"


def test_a_wide_run_makes_each_of_its_teams(world: Make) -> None:
    found = world(daily_runs=1)
    store(found.store, {t: [log("a", timestamp=at(9, TODAY))] for t in (5, 6)})
    found.instance.add_dynamic_partitions("teams", ["5", "6"])
    (request,) = daily(found)
    found._execute([], None, dict(request.tags))
    made = found.instance.get_materialized_partitions(dg.AssetKey("policy_releases"))
    assert made == {str(TeamDay(t, TODAY)) for t in (5, 6)}


def test_teams_that_log_are_added_and_filled_once_and_denied_ones_are_not(world: Make) -> None:
    found = world(first_day=datetime.now(UTC).date() - timedelta(days=30), fill_days=3, teams_denied=[9])
    now = datetime.now(UTC)
    before = found.tick("discover_teams")
    assert not before.run_requests
    cursor = before.cursor
    store(found.store, {t: [log("a", timestamp=now - timedelta(hours=1))] for t in (7, 9)})
    answer = found.tick("discover_teams", cursor)
    assert [r.partition_keys for r in answer.dynamic_partitions_requests] == [["7"]]
    (request,) = answer.run_requests
    days = [now.date() - timedelta(days=back) for back in (3, 1)]
    keys = [request.tags[f"dagster/asset_partition_range_{edge}"] for edge in ("start", "end")]
    assert keys == [str(TeamDay(7, d)) for d in days]
    found.instance.add_dynamic_partitions("teams", ["7"])
    found.ask(request, "discover_teams")
    again = found.tick("discover_teams", answer.cursor)
    assert not again.run_requests
    assert Memory.read(again.cursor) == Memory(seen=("7",))


def test_fills_are_few_at_a_time_and_what_failed_is_asked_for_again_some_times() -> None:
    order = [str(t) for t in range(1, 8)]
    few = settings(fill_runs=2, daily_runs=4)  # two teams a run
    memory, every = Memory(), []
    for _ in range(6):
        asked, memory = plan(order, memory, {f.run_key: DONE for f in memory.asked}, TODAY, few)
        assert len(asked) <= 2
        every += [t for f in asked for t in f.teams]
    assert every == order
    assert memory == Memory(seen=tuple(order))
    _, memory = plan(["1"], Memory(), {}, TODAY, few)
    assert plan(["1"], memory, {memory.asked[0].run_key: AT_WORK}, TODAY, few) == ([], memory)
    keys = [memory.asked[0].run_key]
    while memory.asked:
        asked, memory = plan(["1"], memory, {f.run_key: FAILED for f in memory.asked}, TODAY, few)
        keys += [f.run_key for f in asked]
    assert len(set(keys)) == len(keys) == MOST_ATTEMPTS
    failing = Memory(seen=("1",), asked=(replace(plan(["1"], Memory(), {}, TODAY, few)[0][0], attempt=1),))
    assert Memory.read(failing.text()) == failing


@pytest.mark.parametrize(("takes", "of"), [({"teams": [1, 2], "teams_denied": [2]}, [1]), ({}, [1, 2, 3])])
def test_allow_and_deny_lists(takes: dict[str, list[int]], of: list[int]) -> None:
    assert [t for t in (1, 2, 3) if settings(**takes).takes(t)] == of


def test_when_the_first_day_moves_old_partitions_leave_the_graph_and_nothing_else_changes(world: Make) -> None:
    found = world(window_days=2)
    days = [TODAY - timedelta(days=back) for back in (3, 2, 1, 0)]
    store(found.store, {1: [log(f"kind {'abc'[i % 3]}", timestamp=at(9, d)) for d in days for i in range(9)]})
    found.run(1, days[0], TODAY)
    tables = found.tables()

    def from_day(first: date) -> World:
        moved = found.graph.settings.model_copy(update={"first_day": first})
        return World(Graph(moved, found.database, found.instance), found.database, found.store, found.instance)

    def partitions(of: World) -> set[str]:
        definition = of.graph.definitions.resolve_job_def("team_day").partitions_def
        assert definition is not None
        return set(definition.get_partition_keys(dynamic_partitions_store=found.instance))

    later = from_day(days[2])
    made = found.instance.get_materialized_partitions(dg.AssetKey("anomaly_reports"))
    assert made == {str(TeamDay(1, d)) for d in days}
    assert made & partitions(later) == {str(TeamDay(1, d)) for d in days[2:]}
    assert not later.tick("stale_reports").run_requests
    assert later.tables() == tables
    back = from_day(days[0])
    assert made <= partitions(back)
    assert not back.tick("stale_reports").run_requests
