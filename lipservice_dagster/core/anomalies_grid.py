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


class IrregularSeriesError(ValueError):
    """The points lie on no regular grid; ``index`` is the first one that does not fit."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class SeriesGrid:
    """T points on D days of n: ``values`` (D, n), NaN where there is none; ``days`` (D,); ``at`` (T,): the place of
    each point in the flattened values; ``step`` in seconds; ``gaps``: (index of the point before, points missing).
    """

    values: np.ndarray
    days: tuple[date, ...]
    at: np.ndarray
    step: float
    gaps: tuple[tuple[int, int], ...]


def grid(seconds: np.ndarray, values: Sequence[float] | np.ndarray) -> SeriesGrid:
    """The series on its grid.

    ``seconds`` (T,): UTC timestamps in seconds since 1970, rising. The step is the most frequent distance; points may
    be a quarter of it off. Days are calendar days where the step divides them, else as many steps as fit a day best.

    Raises `IrregularSeriesError` for fewer than three points, timestamps that do not rise, and points off the grid.
    """
    if len(seconds) < _LEAST_POINTS:
        raise IrregularSeriesError(f"{len(seconds)} points are too few to see a step; it takes {_LEAST_POINTS}", 0)
    distances = np.diff(seconds)
    falls = np.flatnonzero(distances <= 0)
    if len(falls):
        raise IrregularSeriesError("its timestamp is not after the one before", int(falls[0]) + 1)
    rounded, counts = np.unique(np.round(distances, 3), return_counts=True)
    step = float(rounded[counts.argmax()])
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
    n = max(1, round(DAY_SECONDS / step))
    calendar = n > 1 and abs(n * step - DAY_SECONDS) < 1e-6
    first_day = date(1970, 1, 1) + timedelta(days=int(seconds[0] // DAY_SECONDS))
    start = int((seconds[0] % DAY_SECONDS) // step) if calendar else 0
    at = start + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    n_days = int(at[-1]) // n + 1
    flat = np.full(n_days * n, np.nan)
    flat[at] = values
    length = max(n * step, step) / DAY_SECONDS
    days = tuple(first_day + timedelta(days=int(i * length + 1e-9)) for i in range(n_days))
    gaps = tuple((int(i), int(steps[i]) - 1) for i in np.flatnonzero(steps > 1))
    return SeriesGrid(flat.reshape(n_days, n), days, at, step, gaps)
