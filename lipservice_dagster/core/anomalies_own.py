"""How strange a run of hours is for this very series: what its window says beside the model of its counts.

What belongs here: the last step of a report's tests, from the p-value of the negative binomial model to one that also
holds for series that are nothing of the kind. P-values are only ever raised, and only where the model alone would tell
of an anomaly; `benchmarks/anomalies.py` has the series that all this is for.

**Bursts.** Where a run is mostly made of hours in quiet slots, and what the series has there are bursts, it is as
likely as `anomalies_bursts` says.

**Heavy tails.** Where the multiples of what was expected vary by `_HEAVY` more in their logarithms than counts do by
chance (as a negative binomial of size 2.5 would; most services have some 20), the tail of a negative binomial is too
thin, and that of a log-normal is taken.

Of logarithms the median and the deviation of the upper half are read: bursts are skewed to either side, and only great
ones are asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from lipservice_dagster.core import anomalies_statistics as statistics
from lipservice_dagster.core.anomalies_bursts import QUIET, Sizes, as_many, none, upper_half
from lipservice_dagster.core.anomalies_expectation import RUNS
from lipservice_dagster.core.anomalies_report import Report
from lipservice_dagster.core.anomalies_rhythm import divide

_HALF, _HEAVY = 0.5, 0.5


def by_own_window(report: Report, rows: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(B, runs): ``p``, of too much in the series ``rows`` (B,) and already times the tests of each, raised to what the
    module says.
    """
    if not len(rows):
        return p
    bursts, are_bursts = _bursts(report, rows)
    raised: np.ndarray = np.maximum(p, np.where(are_bursts, bursts, _heavy(report, _Days.of(report, rows))))
    return raised


def silent_by_chance(report: Report, rows: np.ndarray) -> np.ndarray:
    """(B,): how likely a day without a log is for series ``rows`` (B,) that mostly log in quiet slots; 0 for others."""
    if not len(rows):
        return np.zeros(0)
    activity = _Activity.of(report, rows)
    mean = report.mean[rows]
    mostly = 2 * (mean * activity.quiet).sum(axis=1) >= mean.sum(axis=1)
    day = statistics.length_index(report.hours)
    return np.where(mostly, none(activity.mean[:, day], activity.variance[:, day]), 0.0)


@dataclass(frozen=True)
class _Days:
    """Runs of the window's days of the series ``rows`` (B,): what was ``observed`` and what was ``expected`` by the
    other days, each (B, D, runs); and which days are ``told`` (B, D).
    """

    rows: np.ndarray
    observed: np.ndarray
    expected: np.ndarray
    told: np.ndarray

    @classmethod
    def of(cls, report: Report, rows: np.ndarray) -> _Days:
        n_days = report.series.window.shape[1]

        def sums(counts: np.ndarray) -> np.ndarray:
            flat = np.nan_to_num(counts[rows, :, : report.hours].astype(float)).reshape(-1, report.hours)
            return statistics.run_sums(flat, report.spans).reshape(len(rows), n_days, -1)

        return cls(rows, sums(report.series.window), sums(report.expectation.left_out), report.expectation.told[rows])


def _heavy(report: Report, days: _Days) -> np.ndarray:
    """(B, runs): how likely so great a multiple of what was expected is by a log-normal; 0 where none is called for."""
    length = np.array([i for i, _, _ in report.spans], dtype=np.int64)
    told = days.told[:, :, None]
    weight = report.log_weight[days.rows][:, None]
    multiple = np.where(told, _multiple(days.observed, days.expected, weight[:, None]), 0.0)
    noise = np.where(told, 1 / (days.expected / weight[:, None] + _HALF), 0.0)
    active = told & (days.observed > 0)
    median, scale, share, df = (np.zeros((len(days.rows), len(RUNS))) for _ in range(4))
    for i in range(len(RUNS)):
        of_runs = active & (length == i)
        median[:, i], scale[:, i], n = upper_half(multiple, of_runs)
        share[:, i] = divide(n.astype(float), (told & (length == i)).sum(axis=(1, 2)).astype(float), 0.0)
        # Overlapping runs tell the same several times.
        df[:, i] = np.maximum(n / 2 / RUNS[i], 1.0)
    of_hours = active & (length == 0)
    poisson = divide(np.where(of_hours, noise, 0.0).sum(axis=(1, 2)), of_hours.sum(axis=(1, 2)).astype(float), 0.0)
    heavy = scale[:, 0] ** 2 - poisson >= _HEAVY
    observed, expected = (statistics.run_sums(x[days.rows], report.spans) for x in (report.today, report.mean))
    today = _multiple(observed, expected, weight)
    beyond = (today - median[:, length]) / np.maximum(scale[:, length], 1e-9)
    likely = share[:, length] * scipy.special.stdtr(df[:, length], -beyond) * report.hours
    return np.where(heavy[:, None], np.minimum(likely, 1.0), 0.0)


def _multiple(observed: np.ndarray, expected: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The logarithm of observed over expected, in stored logs and kept from the infinite by half a log."""
    multiple: np.ndarray = np.log((observed / weight + _HALF) / (expected / weight + _HALF))
    return multiple


@dataclass(frozen=True)
class _Activity:
    """When B series have logs in quiet slots of the day.

    ``quiet`` (B, hours): those slots. ``mean`` and ``variance`` (B, runs): of the active hours in a run of each length
    of `RUNS`. ``sizes``: their stored logs.
    """

    quiet: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    sizes: Sizes

    @classmethod
    def of(cls, report: Report, rows: np.ndarray) -> _Activity:
        has = report.expectation.has[rows]
        counts = np.where(has[:, :, None], np.nan_to_num(report.series.window[rows, :, : report.hours]), 0.0)
        quiet = (counts > 0).sum(axis=1) < QUIET * has.sum(axis=1)[:, None]
        active = (counts > 0) & quiet[:, None]
        mean, variance = np.zeros((len(rows), len(RUNS))), np.zeros((len(rows), len(RUNS)))
        cumulated = np.pad(np.cumsum(active, axis=2), ((0, 0), (0, 0), (1, 0)))
        for i, n in enumerate(RUNS):
            of_runs = (cumulated[:, :, n:] - cumulated[:, :, :-n]).astype(float)
            runs = np.maximum(has.sum(axis=1) * of_runs.shape[2], 1)
            mean[:, i] = of_runs.sum(axis=(1, 2)) / runs
            variance[:, i] = (of_runs**2).sum(axis=(1, 2)) / runs - mean[:, i] ** 2
        return cls(quiet, mean, variance, Sizes.of(counts / report.log_weight[rows, None, None], active))


def _bursts(report: Report, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, whether), each (B, runs): how likely bursts like those of each run are anywhere in a day, and whether it is
    mostly made of bursts such as the window has."""
    activity, today, weight = _Activity.of(report, rows), report.today[rows], report.log_weight[rows, None]
    in_quiet = statistics.run_sums(today * activity.quiet, report.spans)
    hours = statistics.run_sums((activity.quiet & (today > 0)).astype(float), report.spans)
    mostly = 2 * in_quiet >= statistics.run_sums(today, report.spans)
    length = np.array([i for i, _, _ in report.spans], dtype=np.int64)
    likely = as_many(hours, activity.mean[:, length], activity.variance[:, length])
    likely *= activity.sizes.as_large(np.maximum(in_quiet / weight, 1.0) / np.maximum(hours, 1.0))
    return np.minimum(likely * report.hours, 1.0), mostly & activity.sizes.are_bursts[:, None]
