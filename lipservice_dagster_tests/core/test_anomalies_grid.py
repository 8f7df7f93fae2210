from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

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


@pytest.mark.parametrize(("step", "n"), [(60, 1440), (420, 206), (3_600, 24), (43_200, 2), (86_400, 1), (604_800, 1)])
def test_any_regular_step_is_a_number_of_points_a_day(step, n):
    found = grid(START + step * np.arange(40), np.ones(40))
    assert found.values.shape[1] == n
    assert len(set(found.at.tolist())) == 40
    assert len(found.days) == found.values.shape[0]
    assert list(found.days) == sorted(found.days)


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
    ],
)
def test_what_is_no_regular_series_is_refused_with_its_place(offsets, index, message):
    with pytest.raises(IrregularSeriesError, match=message) as error:
        grid(START + np.array(offsets, dtype=float), np.ones(len(offsets)))
    assert error.value.index == index
