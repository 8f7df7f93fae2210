"""What the benchmark of policies says of even draws: the standard errors it states are those of the draws it makes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.samplers import Rates, evenly

STREAMS = 3_000


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
def test_the_standard_error_of_even_draws_is_that_of_what_is_drawn(hours: list[int], by_hour: list[float]) -> None:
    seen, rate = np.zeros((1, 24)), np.ones((1, 24))
    seen[0, : len(hours)], rate[0, : len(hours)] = hours, by_hour
    stated = Rates(np.zeros((1, 24)), rate, np.array([0])).variance(seen, np.array([0.0]), 1)

    rates = np.repeat(by_hour, hours).tolist()
    stream = np.repeat(np.arange(STREAMS), len(rates))
    kept = np.array(evenly(stream.tolist(), rates * STREAMS, random.Random(7))).reshape(STREAMS, -1)
    rebuilt = (kept / rates).sum(axis=1)

    spread = rebuilt.std() / np.sqrt(STREAMS)
    assert rebuilt.mean() == pytest.approx(sum(hours), abs=4 * spread)
    assert rebuilt.var() == pytest.approx(stated[0], rel=0.12)


def test_logs_with_a_trace_are_stated_as_drawn_one_by_one() -> None:
    seen, rate = np.full((1, 24), 100.0), np.full((1, 24), 0.1)
    alone = Rates(np.zeros((1, 24)), rate).variance(seen, np.array([0.3]), 4)
    evenly_drawn = Rates(np.zeros((1, 24)), rate, np.array([0])).variance(seen, np.array([0.3]), 4)
    assert alone[0] == pytest.approx(2400 * 9)
    assert evenly_drawn[0] == pytest.approx(0.3 * 2400 * 9 + 4 * 100 / 3)
