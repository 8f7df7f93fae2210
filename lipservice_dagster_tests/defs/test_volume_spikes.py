"""The ticks of the spike sensor: who is asked for, when, how often; and a spike from the logs to boosts that expire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.core.volume_spikes import Spike
from lipservice_dagster.defs.asked import AT_WORK, DONE, FAILED, MOST_ATTEMPTS
from lipservice_dagster.defs.volume_spikes import ASSETS, DELAY, Memory, plan, read, text
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster.storage import boosts
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store

DAY = date(2026, 9, 10)
SPIKE = Spike(1, "shop", "", False, 4000, 1000.0)


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg]


def tick(
    memory: Memory, hour: float, found: list[Spike], stands: str | dict[str, str] = AT_WORK, **values: Any
) -> tuple[list[str], Memory]:
    now = at(hour, DAY)
    chosen = settings(**values)
    keys = [s.run_key(t) for t, s in memory.items() if s.attempt and not s.done]
    of_keys = dict.fromkeys(keys, stands) if isinstance(stands, str) else stands
    return plan(found, memory, of_keys, Span.until(now, 30, DELAY, 14), now, chosen)


def test_a_spike_waits_for_the_end_of_its_hour_and_is_asked_for_once() -> None:
    asked, memory = tick({}, 14.4, [SPIKE])
    assert (asked, memory["1"].hour) == ([], at(14, DAY).isoformat())
    asked, memory = tick(memory, 14.8, [SPIKE])
    assert asked == []
    asked, memory = tick(memory, 15.05, [SPIKE])  # what arrives late has not arrived yet
    assert asked == []
    asked, memory = tick(read(text(memory)), 15.1, [])
    assert asked == ["1"]
    assert memory["1"].run_key("1") == f"spike|1|{at(14, DAY).isoformat()}|attempt 1"
    for hour in (15.2, 15.9, 16.5):
        asked, memory = tick(memory, hour, [SPIKE])
        assert asked == []


def test_a_team_rests_and_a_spike_that_lasts_is_asked_for_again_afterwards() -> None:
    memory: Memory = {}
    asked_at = []
    for minute in range(0, 12 * 60, 5):
        asked, memory = tick(memory, 6 + minute / 60, [SPIKE], DONE, spike_rest_hours=3)
        if asked:
            asked_at.append(6 + minute // 60)
    assert asked_at == [6, 9, 12, 15]


def test_what_failed_is_asked_again_some_times_in_another_attempt() -> None:
    _, memory = tick({}, 14.4, [SPIKE])
    keys = []
    for i in range(6):
        asked, memory = tick(memory, 15.2 + i / 10, [], FAILED)
        keys += [memory[t].run_key(t) for t in asked]
    assert len(keys) == len(set(keys)) == MOST_ATTEMPTS
    assert memory["1"].done


def test_what_is_seen_at_the_end_of_the_day_is_a_report_of_that_day() -> None:
    _, memory = tick({}, 23.9, [SPIKE])
    asked, memory = tick(memory, 24.1, [])
    assert asked == ["1"]
    assert memory["1"].begins.date() == DAY


def test_what_nobody_asked_for_in_time_is_forgotten() -> None:
    _, memory = tick({}, 14.4, [SPIKE])
    assert tick(memory, 14.4 + 48, []) == ([], {})


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(600, 9000)), max_size=60), st.integers(1, 5))
def test_no_more_are_asked_for_in_a_tick_than_the_limit_and_all_are_in_the_end(
    found: list[tuple[int, int]], most: int
) -> None:
    spikes = [Spike(team, "shop", "", False, n, 100.0) for team, n in found]
    _, memory = tick({}, 14.4, spikes)
    every: list[str] = []
    for i in range(45):
        asked, memory = tick(memory, 15.1 + i / 60, [], DONE, spike_runs_per_tick=most)
        assert len(asked) <= most
        every += asked
    assert sorted(every) == sorted({str(team) for team, _ in found})


@pytest.mark.parametrize("cursor", [None, ""])
def test_the_memory_begins_empty(cursor: str | None) -> None:
    assert read(cursor) == {}


def spiking(found: World, hour: datetime, *, today: int) -> None:
    """A week of quiet logs of a service, and as many as said in this hour."""
    records = []
    for back in range(1, 8):
        for h in range(24):
            start = datetime(hour.year, hour.month, hour.day, h, tzinfo=UTC) - timedelta(days=back)
            records += [log(f"order {i} placed", timestamp=start + timedelta(minutes=5 * i)) for i in range(12)]
    records += [log(f"order {i} placed", timestamp=hour + timedelta(seconds=i * 2)) for i in range(today)]
    store(found.store, {1: records})


def test_a_spike_becomes_a_report_and_boosts_that_expire_and_no_base_rate(world: Callable[..., World]) -> None:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    today, first = hour.date(), hour.date() - timedelta(days=7)
    found = world(first_day=first, window_days=7, spike_least_logs=100, boost_hours=6)
    spiking(found, hour, today=1500)
    found.run(1, first, today - timedelta(days=1))
    ledger = found.ledger()
    # Seen while it happened; its hour has ended since.
    _, memory = plan([SPIKE], {}, {}, Span.until(hour + timedelta(minutes=45), 30, DELAY, 7), hour, settings())
    if now < hour + timedelta(hours=1) + DELAY:
        memory = {"1": type(memory["1"])((hour - timedelta(hours=1)).isoformat(), memory["1"].reason)}
        today = (hour - timedelta(hours=1)).date()
    answer = found.tick("volume_spikes", text(memory))
    (request,) = answer.run_requests
    assert request.partition_key == f"{today}|1"
    assert request.tags["lipservice/reason"].endswith(SPIKE.reason)
    assert [k.to_user_string() for k in request.asset_selection] == list(ASSETS)
    found.ask(request, "volume_spikes")
    later = datetime.now(UTC)
    raised = [b for b, _ in boosts.standing(found.database, [1], later, later)]
    assert raised
    assert all(hour < b.ends_at <= now + timedelta(hours=7) for b in raised)
    expired = now + timedelta(hours=8)
    assert boosts.standing(found.database, [1], expired, expired) == []
    assert found.ledger() == ledger
    assert found.tables()["policies"] != []
    assert not found.tick("volume_spikes", answer.cursor).run_requests


def test_the_tick_sees_a_spike_of_now_in_the_logs(world: Callable[..., World]) -> None:
    now = datetime.now(UTC)
    found = world(first_day=now.date() - timedelta(days=7), window_days=7, spike_least_logs=100)
    found.instance.add_dynamic_partitions("teams", ["1", "2"])
    assert "0 spikes" in found.tick("volume_spikes").skip_message
    spiking(found, now - timedelta(minutes=40), today=900)
    told = found.tick("volume_spikes")
    (seen,) = read(told.cursor).values()
    assert "were to be expected" in seen.reason
    denied = world(first_day=now.date() - timedelta(days=7), window_days=7, spike_least_logs=100, teams_denied=[1])
    denied.instance.add_dynamic_partitions("teams", ["1"])
    assert "0 teams" in denied.tick("volume_spikes").skip_message
