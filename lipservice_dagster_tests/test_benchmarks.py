"""What the benchmark of policies says of even draws: the standard errors it states are those of the draws it makes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.samplers import Rates, evenly

STREAMS = 2_000


@pytest.mark.parametrize("traced", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("hours", "by_hour"),
    [
        ([400], [0.05]),  # many draws a day: what both ends leave
        ([6], [0.05]),  # hardly one
        ([30, 0, 50], [0.1, 0.1, 0.02]),  # rates that change amid a stretch
        ([7, 9], [0.9, 0.4]),
        ([50, 5], [0.02, 1.0]),
    ],
)
def test_the_standard_error_of_even_draws_is_that_of_what_is_drawn(
    hours: list[int], by_hour: list[float], traced: float
) -> None:
    seen, rate = np.zeros((1, 24)), np.ones((1, 24))
    seen[0, : len(hours)], rate[0, : len(hours)] = hours, by_hour
    stated = Rates(np.zeros((1, 24)), rate, np.array([0])).variance(seen, np.array([traced]), 1)

    rates = np.tile(np.repeat(by_hour, hours), STREAMS)
    stream = np.repeat(np.arange(STREAMS), sum(hours))
    chance = np.random.default_rng(7)
    has, kept_with_it = chance.random(rates.shape) < traced, chance.random(rates.shape) < rates
    by_trace = [bool(keep) if trace else None for keep, trace in zip(kept_with_it, has, strict=True)]
    share = [traced] * len(rates)
    kept = evenly(stream.tolist(), rates.tolist(), by_trace, share, random.Random(7))
    rebuilt = (kept / rates).reshape(STREAMS, -1).sum(axis=1)

    spread = rebuilt.std() / np.sqrt(STREAMS)
    assert rebuilt.mean() == pytest.approx(sum(hours), abs=4 * spread)
    assert rebuilt.var() == pytest.approx(stated[0], rel=0.15)


def test_without_a_stream_all_logs_are_stated_as_drawn_one_by_one() -> None:
    seen, rate = np.full((1, 24), 100.0), np.full((1, 24), 0.1)
    alone = Rates(np.zeros((1, 24)), rate).variance(seen, np.array([0.3]), 4)
    assert alone[0] == pytest.approx(2400 * 9)


def test_the_rows_of_a_stream_share_its_variance() -> None:
    seen, rate, traced = np.full((2, 24), 50.0), np.full((2, 24), 0.1), np.full(2, 0.4)
    together = Rates(np.zeros((2, 24)), rate, np.array([0, 0])).variance(seen, traced, 4)
    at_once = Rates(np.zeros((1, 24)), rate[:1], np.array([0])).variance(2 * seen[:1], traced[:1], 4)
    assert together[0] == together[1]
    assert together.sum() == pytest.approx(at_once[0])
