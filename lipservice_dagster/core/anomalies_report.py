"""What one report reads: a day's series with their expectation, and what counts as an anomaly.

What belongs here: the input of the tests, gathered once. The tests themselves stand in `anomalies_findings`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from lipservice_dagster.core import anomalies_statistics as statistics
from lipservice_dagster.core.anomalies_draws import left_to_chance
from lipservice_dagster.core.anomalies_expectation import Expectation, expect, history
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.series import Series

_YOUNG_DISPERSION, _CERTAIN = 0.5, 1e9
_KINDS = {"service": 0, "severity": 1, "pattern": 2}


@dataclass(frozen=True)
class DetectorSettings:
    """What counts as an anomaly.

    ``level``: share of false alarms a report may have. ``ratio``: least effect (a drop: at most 1/ratio).
    ``least_logs``: least difference from what was expected, in weighted logs; ``least_new``: least logs of a new
    pattern. ``min_days``: days of history below which nothing is judged. ``regular``: share of a pattern's days that
    must have had logs for its silence to be an anomaly.
    """

    level: float = 0.01
    ratio: float = 2.0
    least_logs: float = 20.0
    least_new: float = 10.0
    min_days: int = 3
    regular: float = 0.8


def history_days(series: Series) -> int:
    """Days of the window on which the team logged anything."""
    if not len(series.keys) or not series.days:
        return 0
    return int((np.nansum(series.window, axis=(0, 2)) > 0).sum())


def is_learning(series: Series, settings: DetectorSettings | None = None) -> bool:
    """Whether there is too little history to judge the day; no detector then finds anything."""
    return history_days(series) < (settings or DetectorSettings()).min_days


def parents(series: Series) -> np.ndarray:
    """(S,): the series of the whole service of each series; itself where there is none."""
    keys = series.keys
    pairs = list(zip(keys["service"].tolist(), keys["environment"].tolist(), strict=True))
    scopes = keys["scope"].tolist()
    service = {pair: i for i, (pair, scope) in enumerate(zip(pairs, scopes, strict=True)) if scope == "service"}
    return np.array([service.get(pair, i) for i, pair in enumerate(pairs)], dtype=np.int64)


def tested_series(series: Series, parent: np.ndarray, settings: DetectorSettings, hours: int) -> np.ndarray:
    """(S,): series that are judged: enough history of their own, or of their service if they are new or young."""
    days = history(series.window, parent, series.days).sum(axis=1)
    seen = np.nansum(series.window, axis=(1, 2)) > 0
    new = ~seen & (series.today[:, :hours].sum(axis=1) > 0)
    # A service that is new as a whole has no history to judge it by; what tells is that the team has.
    own_service = parent == np.arange(len(parent))
    tested: np.ndarray = (seen & (days >= settings.min_days)) | (
        new & (own_service | ((days[parent] >= settings.min_days) & seen[parent]))
    )
    return tested | _young(days, seen, parent, settings)


def _young(days: np.ndarray, seen: np.ndarray, parent: np.ndarray, settings: DetectorSettings) -> np.ndarray:
    """(S,): series that began in the last days, less than ``min_days``, of a service that has history enough."""
    young: np.ndarray = seen & (days < settings.min_days) & (days[parent] >= settings.min_days)
    return young


@dataclass(frozen=True)
class Report:
    """Everything the tests of one report read; S series, R runs."""

    series: Series
    settings: DetectorSettings
    hours: int
    parent: np.ndarray
    scope: np.ndarray
    subject: np.ndarray
    tested: np.ndarray
    seen: np.ndarray  # had logs in the window
    young: np.ndarray  # began so lately that only an upward leap can be told
    expectation: Expectation
    log_weight: np.ndarray  # what one stored log stands for, today or in the window, whichever leaves more to chance
    error_share: np.ndarray
    spans: list[tuple[int, int, int]]
    today: np.ndarray  # (S, hours)
    mean: np.ndarray  # (S, hours)

    @classmethod
    def read(cls, series: Series, day: date, hours: int, settings: DetectorSettings) -> Report:
        """The report of ``day`` with its first ``hours`` hours, everything the tests need worked out."""
        parent = parents(series)
        scope = series.keys["scope"].to_numpy(dtype=object)
        kind = np.array([_KINDS[s] for s in scope])
        expectation = expect(series.window, series.days, day, parent, kind, series.window_weight)
        known = _known(series, hours)
        weight = _today_weight(series, parent, known)
        # What sampling hides must not alarm, and what it does not hide need not be taken for chance.
        part = left_to_chance(series.today[:, :hours], expectation, _by_hour(series, weight, hours), parent)
        if (part < 1).any():
            weight = np.maximum(weight * part, 1.0)
            expectation = expectation.as_noisy_as(np.maximum(expectation.log_weight * part, 1.0), kind)
        seen = np.nansum(series.window, axis=(1, 2)) > 0
        young = _young(expectation.days, seen, parent, settings)
        expectation = _since_they_began(expectation, series.window, np.flatnonzero(young), parent)
        return cls(
            series=series,
            settings=settings,
            hours=hours,
            parent=parent,
            scope=scope,
            subject=series.keys["subject"].to_numpy(dtype=object),
            tested=tested_series(series, parent, settings, hours),
            seen=seen,
            young=young,
            expectation=expectation,
            log_weight=np.maximum(weight, expectation.log_weight),
            error_share=known.error_share,
            spans=statistics.runs(hours),
            today=series.today[:, :hours],
            mean=expectation.mean[:, :hours],
        )


def _since_they_began(
    expectation: Expectation, window: np.ndarray, young: np.ndarray, parent: np.ndarray
) -> Expectation:
    """What ``young`` series (their indices) should do today: as many logs as since their first, along their service.

    That tells the first hour of an incident from the hundred times as much of the day after; φ is `_YOUNG_DISPERSION`,
    whatever it looks like after so few hours.
    """
    if not len(young):
        return expectation
    mean, mean_weight, dispersion, df = (
        x.copy() for x in (expectation.mean, expectation.mean_weight, expectation.dispersion, expectation.df)
    )
    service = expectation.mean[parent[young]]
    total = service.sum(axis=1, keepdims=True)
    # Half of it flat: the hours in which a service sleeps are not those in which nothing can begin.
    rhythm = 0.5 / HOURS + 0.5 * np.divide(service, total, out=np.full_like(service, 1 / HOURS), where=total > 0)
    counts = np.nan_to_num(window[young])
    since = np.cumsum(counts.reshape(len(young), -1), axis=1).reshape(counts.shape) > 0
    known = since & expectation.has[young][:, :, None]
    exposure = (known * rhythm[:, None]).sum(axis=(1, 2))
    mean[young] = ((counts * known).sum(axis=(1, 2)) / exposure)[:, None] * rhythm
    mean_weight[young], dispersion[young], df[young] = 1.0, _YOUNG_DISPERSION, _CERTAIN
    return replace(expectation, mean=mean, mean_weight=mean_weight, dispersion=dispersion, df=df)


def _today_weight(series: Series, parent: np.ndarray, today: _Known) -> np.ndarray:
    """(S,): what one stored log of today stands for.

    A pattern without a log today may have been sampled as hard as any of its service that left one; errors are kept.
    """
    if series.today_weight is None:
        return np.ones(len(parent))
    most = np.ones(len(parent))
    np.maximum.at(most, parent, np.nan_to_num(today.weight, nan=1.0))
    silent = np.where(today.error_share >= 0.5, 1.0, most[parent])
    return np.maximum(np.where(np.isnan(today.weight), silent, today.weight), 1.0)


def _by_hour(series: Series, weight: np.ndarray, hours: int) -> np.ndarray:
    """(S, hours): what one stored log stands for in each hour; the series' ``weight`` (S,) where an hour has none."""
    by_hour = series.today_weight
    if by_hour is None or by_hour.ndim == 1:
        return np.broadcast_to(weight[:, None], (len(weight), hours))
    return np.where(np.isnan(by_hour[:, :hours]), weight[:, None], by_hour[:, :hours])


@dataclass(frozen=True)
class _Known:
    """``weight`` and ``error_share`` of `Series` over the known hours, each (S,)."""

    weight: np.ndarray
    error_share: np.ndarray


def _known(series: Series, hours: int) -> _Known:
    n = len(series.keys)
    counts = series.today[:, :hours]
    total = counts.sum(axis=1)

    def by_hour(values: np.ndarray | None, otherwise: float) -> np.ndarray:
        if values is None:
            return np.full(counts.shape, otherwise)
        return np.broadcast_to(values[:, None], counts.shape) if values.ndim == 1 else values[:, :hours]

    weight, share = by_hour(series.today_weight, 1.0), by_hour(series.error_share, 0.0)
    mean = np.full(n, np.nan)
    logged = total > 0
    mean[logged] = (np.nan_to_num(weight, nan=1.0) * counts)[logged].sum(axis=1) / total[logged]
    # Hours without a log carry the window's share.
    apart = share.mean(axis=1)
    of_errors = np.divide((share * counts).sum(axis=1), total, out=apart, where=logged)
    return _Known(mean, of_errors)
