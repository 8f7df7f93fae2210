"""Two plain rules over the same series: a ratio of 2, 3, 5, and a z-score of 3.

What belongs here: what many alerting tools do, to compare the detector with, and for teams with a day of history. They
judge each hour by itself against the mean of the same hour in the window, know neither weekdays nor how sure that mean
is, and correct for nothing, so they raise more false alarms the more series and the less history there is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import scipy

from lipservice_dagster.core.anomalies_frame import frame, key_columns
from lipservice_dagster.core.anomalies_points import Judged
from lipservice_dagster.core.anomalies_report import DetectorSettings, history_days
from lipservice_dagster.core.anomalies_text import (
    ERROR_SURGE,
    HIGH,
    LOW,
    MEDIUM,
    RATE_DROP,
    RATE_SPIKE,
    count,
    ratio_of,
    shown,
    times,
)
from lipservice_dagster.core.anomalies_text import hours as span
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.series import Series, hidden_hours

RATIOS = (2.0, 3.0, 5.0)
"""From which ratio (or its inverse) on an hour is low, medium, high."""

Z_SCORES = (3.0, 4.0, 5.0)
"""Beyond which |z| an hour is low, medium, high."""

_WINDOW_DAYS = 14


def ratio_rule(
    series: Series, *, team_id: int, day: date, hours: int = HOURS, settings: DetectorSettings | None = None
) -> pd.DataFrame:
    """Hours at 2, 3, 5 times their mean in the window or at a half, a third, a fifth; columns `frames.ANOMALIES`.

    One day of history is enough. ``settings`` gives ``least_logs``. ``z`` is that of `zscore_rule`, of the hour that is
    furthest off. ``p_value`` is NaN, for a ratio says nothing of chances; ``confidence`` is 1 − 1/ratio.
    """

    def score(today: np.ndarray, mean: np.ndarray, _: np.ndarray) -> np.ndarray:
        return _ratios(today, mean)

    return _rule(series, team_id, day, hours, settings, score, RATIOS, lambda s: (np.nan, 1 - 1 / abs(s)))


def zscore_rule(
    series: Series, *, team_id: int, day: date, hours: int = HOURS, settings: DetectorSettings | None = None
) -> pd.DataFrame:
    """Hours more than 3 standard deviations from their mean in the window; columns `frames.ANOMALIES`.

    The deviation is that of the same hour over the window's days, at least the square root of the mean and 1.
    One day of history is enough. ``settings`` gives ``least_logs``. ``p_value`` is the normal one, ``confidence`` 1
    minus it.
    """

    def sure(z: float) -> tuple[float, float]:
        p = 2 * float(scipy.special.ndtr(-abs(z)))
        return p, 1 - p

    return _rule(series, team_id, day, hours, settings, _z_scores, Z_SCORES, sure)


def judge_by_ratio(values: np.ndarray) -> Judged:
    """Every point of ``values`` (S, D, n; NaN where not known) by its ratio to the mean of the same time of day.

    The mean is that of the two weeks before (of the 14 points before, where a day is one point); a day is enough.
    ``score`` is the ratio or its inverse, whichever is more (-inf where a point was not judged), and `RATIOS` says from
    where on it counts. ``p_value`` is NaN.
    """
    mean, _ = _before(values)
    ratios = _ratios(values, mean)
    return Judged(_judged(np.abs(ratios)), np.full(values.shape, np.nan), mean, ratios > 0)


def judge_by_zscore(values: np.ndarray) -> Judged:
    """`judge_by_ratio` by how many standard deviations (of those days, at least √mean and 1) a point is off.

    ``score`` is |z|, which counts beyond the first of `Z_SCORES`; ``p_value`` the normal one.
    """
    mean, deviation = _before(values)
    z = _z_scores(values, mean, deviation)
    return Judged(_judged(np.abs(z)), 2 * scipy.special.ndtr(-np.abs(z)), mean, z > 0)


def _judged(score: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(score), -np.inf, score)


def _before(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, deviation) of each time of day over the days before, each like ``values``, NaN where there is none."""
    mean, deviation = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for d in range(1, values.shape[1]):
        window = values[:, max(0, d - _WINDOW_DAYS) : d]
        known = ~np.isnan(window)
        n = np.where(known.any(axis=1), known.sum(axis=1), np.nan)
        mean[:, d] = np.nansum(window, axis=1) / n
        deviation[:, d] = np.sqrt(np.nansum((window - mean[:, None, d]) ** 2, axis=1) / n)
    return mean, deviation


def _ratios(today: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Counts over their mean; below 1 the inverse, negative."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(today == mean, 1.0, today / mean)
        return np.where(ratio < 1, -1 / ratio, ratio)


def _z_scores(today: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    z: np.ndarray = (today - mean) / np.maximum(deviation, np.maximum(np.sqrt(mean), 1.0))
    return z


def _rule(
    series: Series,
    team_id: int,
    day: date,
    hours: int,
    settings: DetectorSettings | None,
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    levels: tuple[float, float, float],
    sure: Callable[[float], tuple[float, float]],
) -> pd.DataFrame:
    settings = settings or DetectorSettings()
    if not hours or not history_days(series):
        return frame([], team_id, day)
    today, window = series.today[:, :hours], series.window[:, :, :hours]
    there = ~np.isnan(window).any(axis=2).all(axis=0)
    mean, deviation = np.nanmean(window[:, there], axis=1), np.nanstd(window[:, there], axis=1)
    usually_hidden, hidden_today = hidden_hours(series, hours)
    rows: list[dict[str, object]] = []
    # What rest-rows hold may be of a pattern, on either side: what they can explain is no anomaly.
    for direction, counts, usual in ((1, today, mean + usually_hidden), (-1, today + hidden_today, mean)):
        scores = score(counts, usual, deviation)
        hit = (direction * (counts - usual) >= settings.least_logs) & (direction * scores >= levels[0])
        for s, start, end in _stretches(hit):
            if direction < 0 and series.keys["scope"].iloc[s] == "severity":
                continue
            z = _z_scores(today[s], mean[s], deviation[s])
            rows.append(_row(series, s, start, end, direction, today[s], mean[s], scores[s], z, levels, sure))
    return frame(rows, team_id, day)


def _stretches(hit: np.ndarray) -> list[tuple[int, int, int]]:
    """(series, start, end) of the runs of true hours of (S, hours)."""
    edge = np.diff(np.pad(hit.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    s, start = np.nonzero(edge == 1)
    _, end = np.nonzero(edge == -1)
    return list(zip(s.tolist(), start.tolist(), end.tolist(), strict=True))


def _row(
    series: Series,
    s: int,
    start: int,
    end: int,
    direction: int,
    today: np.ndarray,
    mean: np.ndarray,
    scores: np.ndarray,
    z: np.ndarray,
    levels: tuple[float, float, float],
    sure: Callable[[float], tuple[float, float]],
) -> dict[str, object]:
    keys = key_columns(series, s)
    observed, expected = float(today[start:end].sum()), float(mean[start:end].sum())
    most = direction * float((direction * scores[start:end]).max())
    p_value, confidence = sure(most)
    is_surge = keys["scope"] == "severity" and keys["subject"] == "error"
    ratio = ratio_of(observed, expected)
    what = keys["service"] or "a service without a name"
    if keys["scope"] != "service":
        what += f", {keys['subject'] if keys['scope'] == 'severity' else shown(keys['template'])},"
    return {
        **keys,
        "kind": RATE_DROP if direction < 0 else ERROR_SURGE if is_surge else RATE_SPIKE,
        "start_hour": start,
        "end_hour": end,
        "observed": observed,
        "expected": expected,
        "ratio": np.nan if ratio is None else ratio,
        "z": direction * float((direction * z[start:end]).max()),
        "p_value": p_value,
        "confidence": confidence,
        "severity": HIGH if abs(most) >= levels[2] else MEDIUM if abs(most) >= levels[1] else LOW,
        "explanation": f"{what} logged {times(ratio)} its mean {span(start, end)}: {count(observed)}, mean "
        f"{count(expected)}.",
        "evidence_hours": list(range(start, end)),
    }
