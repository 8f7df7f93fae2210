from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lipservice_dagster.core.anomalies_grid import IrregularSeriesError, grid

START = datetime(2026, 3, 2, 21, 42, 53, tzinfo=UTC).timestamp()


def test_points_lie_on_calendar_days_with_gaps_not_known():
    seconds = START + 300 * np.array([0, 1, 2, 5, 6, 300])
    found = grid(seconds, np.arange(6.0))
    assert found.values.shape == (2, 288)
    assert found.days == (date(2026, 3, 2), date(2026, 3, 3))
    assert found.step == 300
    assert found.gaps == ((2, 2), (4, 293))
    assert found.values.reshape(-1)[found.at].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.isnan(found.values).sum() == found.values.size - 6
    assert found.at[0] == 260  # 21:40 to 21:45


@settings(max_examples=60, deadline=None)
@given(
    st.integers(10, 3 * 1440).map(lambda minutes: 60 * minutes) | st.integers(30, 200_000),
    st.floats(0, 86_400),
    st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 5]), min_size=40, max_size=300),
)
@example(22 * 60, 0.0, [1] * 300)
@example(7 * 3_600, 0.0, [1] * 40)
@example(20 * 3_600, 0.0, [1] * 40)
def test_whatever_the_step_points_lie_on_days_of_their_own_by_the_time_of_day(step, offset, steps):
    seconds = START + offset + step * np.cumsum([0, 1, 1, 1, 1, 1, *steps])
    found = grid(seconds, np.arange(float(len(seconds))))
    days, n = found.values.shape
    assert len(set(found.days)) == len(found.days) == days
    assert list(found.days) == sorted(found.days)
    assert found.values.reshape(-1)[found.at].tolist() == list(range(len(seconds)))
    if step > 86_400:
        assert n == 1
        return
    assert (n - 1) * step < 86_400 <= n * step
    since = seconds - seconds[0] + seconds[0] % 86_400
    assert [found.days[at // n] for at in found.at] == [datetime.fromtimestamp(t, UTC).date() for t in seconds]
    into_slot = since % 86_400 - found.at % n * step
    assert (into_slot > -0.01).all()
    assert (into_slot < step + 0.01).all()


@pytest.mark.parametrize(("step", "n"), [(60, 1440), (420, 206), (3_600, 24), (43_200, 2), (86_400, 1), (604_800, 1)])
def test_any_regular_step_is_a_number_of_points_a_day(step, n):
    assert grid(START + step * np.arange(40), np.ones(40)).values.shape[1] == n


def test_a_clock_may_wander_a_little():
    late = START + 3_600.0 * np.arange(200)
    late[50:] += 400
    assert grid(late, np.ones(200)).gaps == ()


@pytest.mark.parametrize(
    ("offsets", "index", "message"),
    [
        ([0, 60], 0, "too few"),
        ([0, 60, 60, 120], 2, "not after"),
        ([0, 60, 30, 120], 2, "not after"),
        ([0, 60, 120, 180, 210, 270], 4, "no multiple of the usual step of 60 s"),
        ([0, 3_600, 7_200, 10_800, 100 * 365 * 86_400 + 10_800], 4, "36,500 days after the one before"),
        ([0, 1e-4, 2e-4], 1, "less than a millisecond"),
    ],
)
def test_what_is_no_regular_series_is_refused_with_its_place(offsets, index, message):
    with pytest.raises(IrregularSeriesError, match=message) as error:
        grid(START + np.array(offsets, dtype=float), np.ones(len(offsets)))
    assert error.value.index == index
