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

All sampled series of a service tell it together, being drawn by the same processes, and of a series whose own hours say
more, more is left. Medians are not moved by a few incidents. A day of another rhythm than expected shows nothing, and
counts as drawn one by one.
"""

from __future__ import annotations

import numpy as np

from lipservice_dagster.core.anomalies_expectation import Expectation

_MEDIAN, _ERROR = 0.4549, 2.33
_SURE = 2.0
_LEAST_WEIGHT, _LEAST_DRAWS, _LEAST_HOURS = 2.0, 5.0, 8


def left_to_chance(today: np.ndarray, expectation: Expectation, weight: np.ndarray, service: np.ndarray) -> np.ndarray:
    """(S,): the part of w·m by which hourly counts of m logs stray for being sampled; 1 where all of it is left.

    It is also 1 of series that tell nothing: those hardly sampled, and those with few logs left in an hour, or few such
    hours so far.

    Args:
        today: (S, hours) weighted logs of the known hours.
        expectation: what they should be.
        weight: (S,) what one stored log stands for.
        service: (S,) a number of the service and environment of each series.
    """
    part = np.ones(len(weight))
    mean = expectation.mean[:, : today.shape[1]]
    told = (weight >= _LEAST_WEIGHT)[:, None] & (mean >= _LEAST_DRAWS * weight[:, None])
    rows = np.flatnonzero(told.sum(axis=1) >= _LEAST_HOURS)
    if not len(rows):
        return part
    y, m = (np.where(told[rows], x[rows], np.nan) for x in (today, mean))
    m *= np.maximum(np.nanmedian(y / m, axis=1, keepdims=True), 1e-9)
    hours = told[rows].sum(axis=1)
    # That the level was fitted takes a degree of freedom.
    fitted = hours / (hours - 1) / (1 + expectation.mean_weight[rows])
    sampled = weight[rows, None] * m
    off = fitted[:, None] * (y - m) ** 2 / _MEDIAN / sampled
    by_hour = np.maximum(expectation.dispersion[rows, 0] - expectation.dispersion[rows, -1], 0.0)
    natural = by_hour[:, None] * m**2 / sampled
    own = np.nanmedian(off - natural, axis=1)
    for one in np.unique(service[rows]).tolist():
        mine = service[rows] == one
        surely = 1 + _SURE * _ERROR / np.sqrt(hours[mine].sum())
        together = np.nanmedian(surely * off[mine] - natural[mine])
        part[rows[mine]] = np.clip(np.maximum(own[mine], together), 0.0, 1.0)
    return part
