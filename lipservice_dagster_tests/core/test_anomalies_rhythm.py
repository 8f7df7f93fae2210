from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.anomalies import simulate
from lipservice_dagster.core.anomalies_rhythm import DayWeights, Prediction, Schemes, predict, schemes

MONDAY = date(2026, 3, 2)


def predicted(counts: np.ndarray, has: np.ndarray | None = None) -> Prediction:
    """The last day of counts (B, D + 1, n) by the days before."""
    days = [MONDAY + timedelta(days=i) for i in range(counts.shape[1])]
    window = counts[:, :-1]
    return predict(window, np.ones(window.shape[:2], dtype=bool) if has is None else has, schemes(days[:-1], days[-1]))


def error(expected: np.ndarray, mean: np.ndarray) -> float:
    return float(np.sqrt(np.mean((expected / mean - 1) ** 2)))


@pytest.mark.parametrize(("days", "weekly", "share"), [(14, True, 0.5), (14, False, 0.8), (3, False, 0.75)])
def test_the_day_is_told_better_than_by_the_mean_of_its_hours(days, weekly, share):
    world = simulate(1, 300, days + 1, weekly)
    plain = error(world.counts[:, :-1].mean(axis=1), world.mean[:, -1])
    assert error(predicted(world.counts).today, world.mean[:, -1]) < share * plain


def test_errors_of_left_out_days_are_errors_of_prediction():
    """They are at least those of today, which is told by one day more, and not much greater."""
    world = simulate(2, 300, 15)
    found = predicted(world.counts)
    today = error(found.today, world.mean[:, -1])
    assert today < error(found.left_out, world.mean[:, :-1]) < 1.6 * today


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 8), st.floats(0, 1e4))
def test_a_day_is_not_predicted_by_itself(seed, day, instead):
    """With one way to weigh days and no rhythm to choose, whatever a day was changes nothing about its prediction."""
    counts = np.random.default_rng(seed).poisson(50, (1, 9, 1)).astype(float)
    alike = DayWeights(np.ones((9, 9)) - np.eye(9), np.ones(9))
    has = np.ones((1, 9), dtype=bool)
    before = predict(counts, has, Schemes([alike], [alike]))
    counts[0, day] = instead
    after = predict(counts, has, Schemes([alike], [alike]))
    assert after.left_out[0, day] == pytest.approx(before.left_out[0, day])


def test_days_that_say_nothing_are_left_out():
    world = simulate(3, 50, 15, weekly=False)
    has = np.ones((50, 14), dtype=bool)
    has[:, 4:7] = False
    counts = world.counts.copy()
    counts[:, 4:7] = 0
    found = predicted(counts, has)
    assert error(found.today, world.mean[:, -1]) < 0.15
    assert not found.valid[:, 4:7].any()


def test_no_history_expects_nothing():
    found = predicted(np.zeros((2, 3, 24)), np.zeros((2, 2), dtype=bool))
    assert (found.today == 0).all()
    assert np.isfinite(found.left_out).all()
