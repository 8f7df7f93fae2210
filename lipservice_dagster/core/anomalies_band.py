"""The band in which the counts of an hour usually lie: what a report's tests know, as a picture needs it.

What belongs here: the predictive distribution read backwards, from a probability to counts. It is the tests' own
(`anomalies_statistics.tail`, a negative binomial with the uncertainty of its mean and its dispersion), so an hour lies
outside of the band exactly where it is that unlikely by itself. A report also tests runs of hours and corrects for the
number of its tests: an hour outside is not yet an anomaly, nor is every anomaly's hour outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from lipservice_dagster.core.anomalies_report import DetectorSettings, Report
from lipservice_dagster.core.anomalies_statistics import tail
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.series import Series

COVERAGE = 0.99
"""Share of hours that lie within the band where nothing is out of the ordinary."""

_HIGHEST = 2.0**53  # beyond it floats are no longer whole counts


@dataclass(frozen=True)
class Band:
    """One series' day, each (24,) in weighted logs: what was observed (NaN for hours not known yet), what was expected,
    and the lowest and the highest count that an hour usually has."""

    observed: np.ndarray
    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bands(
    series: Series,
    anomalies: pd.DataFrame,
    *,
    day: date,
    hours: int = HOURS,
    coverage: float = COVERAGE,
    settings: DetectorSettings | None = None,
) -> list[Band]:
    """The band of the series of each of these anomalies (rows of `frames.ANOMALIES` of ``day``), in their order.

    The other arguments are those that the anomalies were detected with. Raises ``KeyError`` for an anomaly of a series
    that is not among ``series``.
    """
    if anomalies.empty:
        return []
    report = Report.read(series, day, hours, settings or DetectorSettings())
    key = ["service", "environment", "scope", "subject"]
    place = {k: i for i, k in enumerate(series.keys[key].itertuples(index=False, name=None))}
    rows = np.array([place[k] for k in anomalies[key].itertuples(index=False, name=None)])
    low, high = _edges(report, rows, (1 - coverage) / 2)
    observed = series.today[rows].astype(float)
    observed[:, hours:] = np.nan
    expected = report.expectation.mean[rows]
    return [Band(*of_series) for of_series in zip(observed, expected, low, high, strict=True)]


def _edges(report: Report, rows: np.ndarray, each: float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each (rows, 24): the counts at which each tail still has at least the probability ``each``."""
    e = report.expectation
    weight = np.repeat(report.log_weight[rows, None], HOURS, axis=1)

    def likely(stored: np.ndarray, upper: bool) -> np.ndarray:
        p, _ = tail(
            stored * weight,
            e.mean[rows],
            np.repeat(e.mean_weight[rows, None], HOURS, axis=1),
            np.repeat(e.dispersion[rows, :1], HOURS, axis=1),
            np.repeat(e.df[rows, :1], HOURS, axis=1),
            weight,
            upper,
        )
        found: np.ndarray = p >= each
        return found

    middle = np.floor(e.mean[rows] / weight)
    # Both are sought among whole stored logs: from the middle outwards a tail only becomes less likely.
    reach = middle + 1
    while (over := likely(reach, True)).any() and reach.max() < _HIGHEST:
        reach = np.where(over, reach * 2, reach)
    high = _last(lambda k: likely(k, True), middle, reach)
    low = middle - _last(lambda down: likely(middle - down, False), np.zeros_like(middle), middle + 1)
    return low * weight, high * weight


def _last(holds: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The greatest whole number, at least ``low`` and below ``high``, for which it holds (taken to hold at ``low``)."""
    while (high - low > 1).any():
        between = np.floor((low + high) / 2)
        yes = holds(between)
        low, high = np.where(yes, between, low), np.where(yes, high, between)
    return low
