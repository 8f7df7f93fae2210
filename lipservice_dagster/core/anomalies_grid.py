"""A count series as it is written down, on the regular grid that is judged.

What belongs here: timestamps and values of one series. A gap is a point that is not known, never a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

DAY_SECONDS = 86_400
_TOLERANCE = 0.25
_LEAST_POINTS = 3
_LONGEST_GAP_DAYS, _LONGEST_GAP_STEPS = 366, 100


class IrregularSeriesError(ValueError):
    """The points lie on no regular grid; ``index`` is the first one that does not fit."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class SeriesGrid:
    """T points on D days of n: ``values`` (D, n), NaN where there is none; ``days`` (D,); ``at`` (T,): the place of
    each point in the flattened values; ``step`` in seconds; ``gaps``: (index of the point before, points missing). No
    two of the days are the same.
    """

    values: np.ndarray
    days: tuple[date, ...]
    at: np.ndarray
    step: float
    gaps: tuple[tuple[int, int], ...]


def grid(seconds: np.ndarray, values: Sequence[float] | np.ndarray) -> SeriesGrid:
    """The series on its grid.

    ``seconds`` (T,): UTC timestamps in seconds since 1970, rising. The step is the most frequent distance; points may
    be a quarter of it off. Days are calendar days, on which points lie by their time of day, whether the step divides a
    day or not; where it is longer than a day each point is one.

    Raises `IrregularSeriesError` for fewer than three points, timestamps that do not rise, points off the grid, and a
    gap of more than a year (and a hundred steps).
    """
    if len(seconds) < _LEAST_POINTS:
        raise IrregularSeriesError(f"{len(seconds)} points are too few to see a step; it takes {_LEAST_POINTS}", 0)
    distances = np.diff(seconds)
    falls = np.flatnonzero(distances <= 0)
    if len(falls):
        raise IrregularSeriesError("its timestamp is not after the one before", int(falls[0]) + 1)
    rounded, counts = np.unique(np.round(distances, 3), return_counts=True)
    step = float(rounded[counts.argmax()])
    if not step:
        raise IrregularSeriesError("its timestamp is less than a millisecond after the one before", 1)
    # From point to point, so that a clock that drifts does not add up.
    steps = np.round(distances / step)
    off = np.abs(distances / step - steps) > _TOLERANCE
    if off.any() or (steps < 1).any():
        index = int(np.flatnonzero(off | (steps < 1))[0]) + 1
        raise IrregularSeriesError(
            f"it comes {distances[index - 1]:,.10g} s after the one before, which is no multiple of the usual step of "
            f"{step:,.10g} s",
            index,
        )
    long = (steps * step > _LONGEST_GAP_DAYS * DAY_SECONDS) & (steps > _LONGEST_GAP_STEPS)
    if long.any():
        index = int(np.flatnonzero(long)[0]) + 1
        raise IrregularSeriesError(
            f"it comes {steps[index - 1] * step / DAY_SECONDS:,.0f} days after the one before; a series may have gaps"
            f" of {_LONGEST_GAP_DAYS:,} days. If the time is right, judge the parts by themselves",
            index,
        )
    place = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    if step > DAY_SECONDS:
        n, at, length = 1, place, step
    else:
        n, at, length = *_by_time_of_day(seconds[0], step, place), DAY_SECONDS
    first_day = date(1970, 1, 1) + timedelta(days=int(seconds[0] // DAY_SECONDS))
    n_days = int(at[-1]) // n + 1
    flat = np.full(n_days * n, np.nan)
    flat[at] = values
    days = tuple(first_day + timedelta(days=int(i * length / DAY_SECONDS + 1e-9)) for i in range(n_days))
    gaps = tuple((int(i), int(steps[i]) - 1) for i in np.flatnonzero(steps > 1))
    return SeriesGrid(flat.reshape(n_days, n), days, at, step, gaps)


def _by_time_of_day(first: float, step: float, place: np.ndarray) -> tuple[int, np.ndarray]:
    """(n, at): slots of a day, and the slot of each point since the first day began.

    The k-th slot begins k steps after midnight and holds at most one point a day; the last is short where the step does
    not divide a day, and then often has none. In whole milliseconds: rounding must not put two points into one slot.
    """
    day, of_step = DAY_SECONDS * 1000, round(step * 1000)
    n = -(-day // of_step)
    since = round(first * 1000) % day + place * of_step
    return n, since // day * n + since % day // of_step
