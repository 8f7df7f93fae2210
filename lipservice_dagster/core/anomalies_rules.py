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
from scipy import special

from lipservice_dagster.core.anomalies_frame import frame, key_columns
from lipservice_dagster.core.anomalies_report import DetectorSettings, history_days
from lipservice_dagster.core.anomalies_text import (
    ERROR_SURGE,
    HIGH,
    LOW,
    MEDIUM,
    RATE_DROP,
    RATE_SPIKE,
    count,
    shown,
    times,
)
from lipservice_dagster.core.anomalies_text import hours as span
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.series import Series

RATIOS = (2.0, 3.0, 5.0)
"""From which ratio (or its inverse) on an hour is low, medium, high."""

Z_SCORES = (3.0, 4.0, 5.0)
"""Beyond which |z| an hour is low, medium, high."""


def ratio_rule(
    series: Series, *, team_id: int, day: date, hours: int = HOURS, settings: DetectorSettings | None = None
) -> pd.DataFrame:
    """Hours at 2, 3, 5 times their mean in the window or at a half, a third, a fifth; columns `frames.ANOMALIES`.

    One day of history is enough. ``settings`` gives ``least_logs``. ``p_value`` is NaN; ``confidence`` is 1 − 1/ratio.
    """

    def score(today: np.ndarray, mean: np.ndarray, _: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(today == mean, 1.0, today / mean)
            return np.where(ratio >= 1, ratio, -1 / ratio)

    return _rule(series, team_id, day, hours, settings, score, RATIOS, lambda s: (np.nan, 1 - 1 / abs(s)))


def zscore_rule(
    series: Series, *, team_id: int, day: date, hours: int = HOURS, settings: DetectorSettings | None = None
) -> pd.DataFrame:
    """Hours more than 3 standard deviations from their mean in the window; columns `frames.ANOMALIES`.

    The deviation is that of the same hour over the window's days, at least the square root of the mean and 1.
    One day of history is enough. ``settings`` gives ``least_logs``. ``p_value`` is the normal one, ``confidence`` 1
    minus it.
    """

    def score(today: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        z: np.ndarray = (today - mean) / np.maximum(deviation, np.maximum(np.sqrt(mean), 1.0))
        return z

    def sure(z: float) -> tuple[float, float]:
        p = 2 * float(special.ndtr(-abs(z)))
        return p, 1 - p

    return _rule(series, team_id, day, hours, settings, score, Z_SCORES, sure)


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
    scores = score(today, mean, deviation)
    far = np.abs(today - mean) >= settings.least_logs
    rows: list[dict[str, object]] = []
    for direction in (1, -1):
        hit = far & (direction * scores >= levels[0])
        for s, start, end in _stretches(hit):
            if direction < 0 and series.keys["scope"].iloc[s] == "severity":
                continue
            rows.append(_row(series, s, start, end, direction, today[s], mean[s], scores[s], levels, sure))
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
    levels: tuple[float, float, float],
    sure: Callable[[float], tuple[float, float]],
) -> dict[str, object]:
    keys = key_columns(series, s)
    observed, expected = float(today[start:end].sum()), float(mean[start:end].sum())
    most = direction * float((direction * scores[start:end]).max())
    p_value, confidence = sure(most)
    is_surge = keys["scope"] == "severity" and keys["subject"] == "error"
    ratio = observed / expected if expected > 0 else None
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
        "z": most if np.isfinite(p_value) else np.nan,
        "p_value": p_value,
        "confidence": confidence,
        "severity": HIGH if abs(most) >= levels[2] else MEDIUM if abs(most) >= levels[1] else LOW,
        "explanation": f"{what} logged {times(ratio)} its mean {span(start, end)}: {count(observed)}, mean "
        f"{count(expected)}.",
        "evidence_hours": list(range(start, end)),
    }
