"""Series that are silent most of the time and then log many at once: how likely bursts like these are, at any hour.

What belongs here: the statistics of bursts. Where they take the place of the model of steady counts is decided in
`anomalies_own` for a report and in `anomalies_points` for points.

In slots of the day that have logs on less than half of the days, one that never had a log is none that cannot have one.
A run with k active slots is as likely as so many in as many slots at any time of the day, negative binomial with the
mean and the variance of the runs gone by; times how likely an active slot has as many logs as these have on average, by
Student's t of the logarithms, scale 1 believed beforehand with the weight of two. Single logs by chance are no bursts:
half of the active slots have `LEAST` or more. Jobs that run at their time of the day are not touched by this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from lipservice_dagster.core.anomalies_rhythm import divide

QUIET = 0.5
"""A slot of the day is quiet if it has logs on less than this share of the days."""

LEAST = 5.0
"""Least median of an active slot's logs."""

_SCALE, _DF = 1.0, 2.0


@dataclass(frozen=True)
class Sizes:
    """Logs of active slots of B series, each (B,): ``number`` of slots; ``median``, ``scale`` and ``df`` of Student's t
    of the next one's logarithm."""

    number: np.ndarray
    median: np.ndarray
    scale: np.ndarray
    df: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, active: np.ndarray) -> Sizes:
        """Those of ``counts`` (B, …) where ``active``."""
        median, deviation, n = upper_half(np.log(np.where(active, counts, 1.0)), active)
        df = _DF + np.maximum(n - 1, 0) / 2
        squares = _DF * _SCALE**2 + (df - _DF) * deviation**2
        return cls(n, median, np.sqrt(squares / df * (1 + 1 / np.maximum(n, 1))), df)

    def of_rows(self, rows: np.ndarray) -> Sizes:
        """Those of some of the series."""
        return Sizes(self.number[rows], self.median[rows], self.scale[rows], self.df[rows])

    @property
    def are_bursts(self) -> np.ndarray:
        """(B,): whether there were any, and of a size to speak of."""
        bursts: np.ndarray = (self.number > 0) & (self.median >= np.log(LEAST))
        return bursts

    def as_large(self, logs: np.ndarray) -> np.ndarray:
        """(B, …): the chance that an active slot has so many ``logs``, above 0, or more."""
        median, scale, df = (x.reshape(-1, *[1] * (logs.ndim - 1)) for x in (self.median, self.scale, self.df))
        chance: np.ndarray = scipy.special.stdtr(df, -(np.log(logs) - median) / scale)
        return chance


def upper_half(values: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(median, deviation of what is above it, number), each (B,), of ``which`` of the values (B, …).

    Logarithms of sizes are skewed to either side; what tells of great ones is the upper half.
    """
    flat = len(values), int(np.prod(values.shape[1:]))  # -1 will not do for no rows
    values, which = values.reshape(flat), which.reshape(flat)
    n = which.sum(axis=1)
    last = np.maximum(n - 1, 0)
    ranked = np.sort(np.where(which, values, np.inf), axis=1)
    middle = np.take_along_axis(ranked, np.stack([last // 2, np.minimum(n // 2, last)], axis=1), axis=1).mean(axis=1)
    median = np.where(n > 0, middle, 0.0)
    above = which & (values > median[:, None])
    squares = np.where(above, (values - median[:, None]) ** 2, 0.0).sum(axis=1)
    return median, np.sqrt(divide(squares, above.sum(axis=1).astype(float), 0.0)), n


def as_many(k: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The chance of k or more, at least one, negative binomial with these moments, Poisson where that is enough."""
    k, size = np.maximum(k, 1.0), divide(mean**2, variance - mean, 0.0)
    clustered = size > 0
    r = np.where(clustered, size, 1.0)
    return np.where(clustered, scipy.special.betainc(k, r, mean / (mean + r)), scipy.special.gammainc(k, mean))


def none(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The chance of none with these moments: negative binomial, or binomial where they vary less than Poisson's."""
    varies = np.maximum(variance, 1e-9) / np.maximum(mean, 1e-9)
    is_poisson = np.abs(varies - 1) < 1e-6
    # Both are (variance/mean)^(mean / (1 − variance/mean)), whose limit is Poisson's.
    exponent = mean / np.where(is_poisson, 1.0, 1 - varies)
    return np.where(is_poisson, np.exp(-mean), varies**exponent)
