"""Even draws: each log with its rate, never more than one draw astray, no rhythm of the logs shows, and what the traces
left to luck is made good."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lipservice_sampler import draws
from lipservice_sampler.draws import Draws, EvenDraw

RATES = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.1, 1 / 3, 0.7, 0.95, 1e-6]), st.floats(0.0, 1.0, allow_subnormal=False)
)
FAR = 5.0
"""Standard errors that no estimate strays by chance."""


def fresh(seed: int) -> EvenDraw:
    return EvenDraw(random.Random(seed).random)


@given(st.lists(RATES, min_size=1, max_size=300), st.integers(0, 2**32))
@example([0.5] * 100, 0)
@example([0.95, 0.1] * 50, 0)
def test_after_every_log_what_is_kept_and_the_sum_of_the_rates_differ_by_less_than_one(rates, seed):
    draw = fresh(seed)
    kept = 0
    for rate, asked in zip(rates, accumulate(rates), strict=True):
        kept += draw.keeps(rate)
        assert abs(kept - asked) < 1 + 1e-9


@settings(max_examples=15)
@given(st.lists(RATES, min_size=1, max_size=12), st.integers(0, 2**32))
@example([0.7] * 10, 0)
@example([0.3, 0.95, 0.1, 0.6, 0.6, 1 / 3], 0)
@example([0.999, 0.001, 0.5, 0.999], 0)
def test_every_log_is_kept_with_its_rate_whatever_came_before(rates, seed):
    chance = random.Random(seed)
    runs = 4000
    kept = np.zeros(len(rates))
    for _ in range(runs):
        draw = EvenDraw(chance.random)
        kept += [draw.keeps(rate) for rate in rates]
    asked = np.array(rates)
    error = np.sqrt(np.maximum(asked * (1 - asked), 1 / runs) / runs)
    assert (np.abs(kept / runs - asked) < FAR * error).all()


@pytest.mark.parametrize("of", [2, 4, 16, 64])
def test_one_log_of_each_stretch_is_kept_and_its_place_is_random(of: int):
    draw = fresh(of)
    stretches = 2000
    places = np.zeros(of)
    for _ in range(stretches):
        found = [draw.keeps(1 / of) for _ in range(of)]
        assert sum(found) == 1  # these rates add up to one exactly
        places += found
    expected = places.sum() / of
    assert ((places - expected) ** 2).sum() / expected < of + FAR * math.sqrt(2 * of)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 1 / 7])
@pytest.mark.parametrize("every", [2, 3, 7, 10, 20])
def test_logs_that_come_in_a_rhythm_are_kept_at_the_rate_like_all(rate: float, every: int):
    draw = fresh(every)
    logs = 58_800
    kept = np.array([draw.keeps(rate) for _ in range(logs)]).reshape(-1, every).mean(axis=0)
    assert (np.abs(kept - rate) < FAR * math.sqrt(rate * (1 - rate) / (logs / every))).all()


class Streams:
    """Streams drawn side by side, of which a share of the logs is kept or lost by a trace of its own."""

    def __init__(self, rate: float, traced: float, streams: int, seed: int) -> None:
        self.rate, self.traced = rate, traced
        self.chance = random.Random(seed)
        self.draws = [EvenDraw(self.chance.random) for _ in range(streams)]

    def off(self, logs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(streams,) of what the next logs' rebuilt counts of logs with a trace and of those without are off by; and
        how many the latter were."""
        by_trace, others, untraced = np.zeros((3, len(self.draws)))
        rate, traced, chance = self.rate, self.traced, self.chance.random
        for n, draw in enumerate(self.draws):
            for _ in range(logs):
                if chance() < traced:
                    kept = chance() < rate
                    draw.heed(rate, kept)
                    by_trace[n] += kept / rate - 1
                else:
                    others[n] += draw.keeps(rate) / rate - 1
                    untraced[n] += 1
        return by_trace, others, untraced


@pytest.mark.parametrize(("traced", "rate", "left"), [(0.3, 0.1, 0.25), (0.5, 0.05, 0.5), (0.6, 0.2, 0.4)])
def test_logs_without_a_trace_make_good_the_luck_of_those_with_one(traced: float, rate: float, left: float):
    streams = Streams(rate, traced, 200, seed=1)
    streams.off(int(24 / rate))
    by_trace, others, _ = streams.off(1200)
    alone = math.sqrt(1200 * traced * (1 / rate - 1))
    assert 0.8 < by_trace.std() / alone < 1.2
    assert (by_trace + others).std() < left * alone


@pytest.mark.parametrize("traced", [0.1, 0.6, 0.9, 0.98])
def test_logs_without_a_trace_by_themselves_are_no_worse_off_than_drawn_one_by_one(traced: float):
    streams = Streams(0.1, traced, 200, seed=2)
    streams.off(240)
    _, others, logs = streams.off(1200)
    assert np.square(others).sum() < 1.2 * logs.sum() * 9


@pytest.mark.parametrize(("traced", "rate"), [(0.3, 0.5), (0.6, 0.05), (0.9, 0.2), (0.6, 0.9)])
def test_beside_traces_every_log_is_kept_with_its_rate_in_the_mean(traced: float, rate: float):
    streams = Streams(rate, traced, 1000, seed=3)
    for _ in range(3):
        _, others, logs = streams.off(200)
        assert abs(others.sum()) < 0.01 * logs.sum() + 4 * others.std() * math.sqrt(1000)


def test_luck_of_which_nothing_could_be_made_good_does_not_pile_up():
    """Whoever stops to trace after a million logs is not without logs, or with twice as many, for long."""
    draw, chance = fresh(5), random.Random(5)
    for _ in range(200_000):
        draw.heed(0.1, chance.random() < 0.1)
    kept = [draw.keeps(0.1) for _ in range(400)]
    assert abs(sum(kept) - 40) < 10
    assert "1" in "".join(str(int(k)) for k in kept[:100])


@pytest.mark.parametrize(("before", "after"), [(0.01, 0.1), (0.001, 0.5), (0.1, 0.9)])
def test_what_a_low_rate_left_to_luck_does_not_disturb_the_logs_of_a_higher_one(before: float, after: float):
    chance = random.Random(8)
    alone, off = 400 * (1 / after - 1), []
    for _ in range(100):
        draw = EvenDraw(chance.random)
        for _ in range(1000):
            draw.heed(before, chance.random() < before)
            draw.keeps(before)
        off.append(sum(draw.keeps(after) for _ in range(400)) / after - 400)
    assert np.mean(np.square(off)) < 0.5 * alone


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("logs", [1, 5, 50])
def test_however_many_logs_a_trace_has_the_others_are_neither_lost_nor_kept_for_long(rate: float, logs: int):
    draw, chance = fresh(logs), random.Random(logs)
    lost = most_lost = kept = most_kept = 0
    for _ in range(40_000 // logs):
        of_trace = chance.random() < rate
        for _ in range(logs):
            draw.heed(rate, of_trace)
        for _ in range(logs):
            if draw.keeps(rate):
                lost, kept = 0, kept + 1
            else:
                lost, kept = lost + 1, 0
            most_lost, most_kept = max(lost, most_lost), max(kept, most_kept)
    assert most_lost * rate <= 8
    assert most_kept < 16


@pytest.mark.parametrize("rate", [1e-9, 0.01, 0.5, 0.999999, 1 - 2**-53])
def test_a_stream_that_has_no_more_traces_is_drawn_as_if_it_never_had(rate: float):
    """Also as fast: what is left of its luck does not go on being divided for ever."""
    draw, chance = fresh(9), random.Random(9)
    for _ in range(20):
        draw.heed(rate, chance.random() < rate)
    for _ in range(400):
        draw.keeps(rate)
    for _ in range(400):
        draw.keeps(0.5)
    assert (draw._traced, draw._luck) == (0.0, 0.0)


def test_what_the_traces_kept_whole_is_no_luck():
    draw, same = fresh(6), fresh(6)
    for n in range(500):
        draw.heed(1.0, kept=True)
        draw.heed(0.0, kept=False)
        assert draw.keeps(0.2) == same.keeps(0.2), n


def test_draws_that_begin_anew_are_independent():
    chance = random.Random(4)
    runs, both, one = 20_000, 0, 0
    for _ in range(runs):
        first, second = EvenDraw(chance.random), EvenDraw(chance.random)
        a, b = first.keeps(0.3), second.keeps(0.3)
        both, one = both + (a and b), one + a
    assert abs(both / runs - 0.09) < FAR * math.sqrt(0.09 * 0.91 / runs)
    assert abs(one / runs - 0.3) < FAR * math.sqrt(0.21 / runs)


@pytest.mark.parametrize(("rate", "kept"), [(0.0, False), (-1.0, False), (1.0, True), (7.0, True)])
def test_a_rate_at_an_end_or_outside_leaves_nothing_to_chance(rate: float, kept: bool):
    draw = fresh(1)
    assert [draw.keeps(rate) for _ in range(10)] == [kept] * 10


def test_a_name_has_one_draw_and_not_too_many_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(draws, "MOST_DRAWS", 10)
    known = Draws(random.Random(1).random)
    first = known.of("a")
    assert known.of("a") is first
    for n in range(100):
        known.of(n)
    assert len(known._known) <= 10
