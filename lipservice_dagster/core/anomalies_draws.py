"""How much of a count sampling leaves to chance, read off the counts themselves.

A log that stands for w logs makes a count of m logs stray by w·m in variance where each is drawn by itself. What draws
evenly (`lipservice_sampler.draws`) leaves less; how much hangs on how many processes drew and how many logs had a
trace, which nobody says. But it shows: from hour to hour, sampled series then stray less than draws one by one could
let them.

What the day as a whole is other than expected is the same for its hours, so the expected counts m are brought to its
level first, the median over its hours of y/m. With only the part f of w·m left, (y - m)² is then in the mean
(1 + Σw²)·(f·w·m + φ·m²), where Σw² is that of the mean's weights and φ what hours stray on their own account, that of
one hour less that of 24 (`anomalies_expectation`). In half of the hours it lies below that times the median of χ² with
one degree of freedom, so f is the median of the values at which each hour is just there. It is taken at the upper end
of what it may be: the median of n has the relative standard error 1/(2·q·d(q)·√n), q the median and d the density of χ²
there, 2.33/√n.

All sampled series of a service tell it together, being drawn by the same processes, at two standard errors above; and
of a series whose own hours say more, at one, more is left. Medians are not moved by a few incidents. A day of another
rhythm than expected shows nothing, and counts as drawn one by one; so does one that is silent for most of its hours,
whose level is then that of the silence.
"""

from __future__ import annotations

import numpy as np

from lipservice_dagster.core.anomalies_expectation import Expectation

_MEDIAN, _ERROR = 0.4549, 2.33
_SURE, _SURE_ALONE = 2.0, 1.0
_LEAST_WEIGHT, _LEAST_DRAWS, _LEAST_HOURS = 2.0, 5.0, 8


def left_to_chance(today: np.ndarray, expectation: Expectation, weight: np.ndarray, service: np.ndarray) -> np.ndarray:
    """(S,): the part of w·m by which hourly counts of m logs stray for being sampled; 1 where all of it is left.

    It is also 1 of series that tell nothing: those hardly sampled, those with few logs left in an hour, as expected
    or at the level of this day, and those with few such hours so far.

    Args:
        today: (S, hours) weighted logs of the known hours.
        expectation: what they should be.
        weight: (S, hours) what one stored log stands for, by hour: a policy may begin, or a boost end, amid the day.
        service: (S,) a number of the service and environment of each series.
    """
    part = np.ones(len(weight))
    mean = expectation.mean[:, : today.shape[1]]
    if mean.shape[1] < _LEAST_HOURS:
        return part
    least = _LEAST_DRAWS * weight
    told = (weight >= _LEAST_WEIGHT) & (mean >= least)
    told &= mean * _level(today, mean, told) >= least
    rows = np.flatnonzero(told.sum(axis=1) >= _LEAST_HOURS)
    if not len(rows):
        return part
    rows = rows[np.argsort(service[rows], kind="stable")]
    y, told = today[rows], told[rows]
    m = np.where(told, mean[rows], np.nan)
    m *= _level(y, m, told)
    hours = told.sum(axis=1)
    # That the level was fitted takes a degree of freedom.
    fitted = hours / (hours - 1) / (1 + expectation.mean_weight[rows])
    sampled = weight[rows] * m
    off = fitted[:, None] * (y - m) ** 2 / _MEDIAN / sampled
    by_hour = np.maximum(expectation.dispersion[rows, 0] - expectation.dispersion[rows, -1], 0.0)
    natural = by_hour[:, None] * m**2 / sampled
    own = _medians(_surely(hours, _SURE_ALONE)[:, None] * off - natural)
    starts = np.flatnonzero(np.diff(service[rows], prepend=-1))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
        mine = slice(start, end)
        of_service = told[mine]
        surely = _surely(hours[mine].sum(), _SURE)
        together = np.median(surely * off[mine][of_service] - natural[mine][of_service])
        part[rows[mine]] = np.clip(np.maximum(own[mine], together), 0.0, 1.0)
    return part


def _surely(hours: np.ndarray, errors: float) -> np.ndarray:
    """How many times what the median of so many hours says is so many standard errors above it."""
    times: np.ndarray = 1 + errors * _ERROR / np.sqrt(hours)
    return times


def _level(counts: np.ndarray, mean: np.ndarray, told: np.ndarray) -> np.ndarray:
    """(S, 1): what the day is as a whole of what was expected, in the hours that tell; NaN where none does."""
    return _medians(np.divide(counts, mean, out=np.full(mean.shape, np.nan), where=told))[:, None]


def _medians(values: np.ndarray) -> np.ndarray:
    """(S,): the median of each row (S, hours), NaN left out; NaN where there is nothing else.

    `numpy.nanmedian` takes several times as long for rows as short as these.
    """
    ranked = np.sort(values, axis=1)
    known = (~np.isnan(values)).sum(axis=1)
    ends = np.maximum([(known - 1) // 2, known // 2], 0).T
    medians: np.ndarray = np.take_along_axis(ranked, ends, axis=1).mean(axis=1)
    return medians
