"""Detectors that judge points, ours and its peers, each with a score; and thresholds at the same false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from scipy import special

from lipservice_dagster.core.anomalies_points import judge

OURS = "LipService"
WINDOW_DAYS = 14
RATES = (0.05, 0.5)
_NOTHING = -50.0


@dataclass(frozen=True)
class Scored:
    """Scores (S, T) of one detector; ``quiet`` (S, T): points on which an alarm is a false one; n points a day."""

    score: np.ndarray
    quiet: np.ndarray
    n: int


def scores(values: np.ndarray, days: Sequence[date]) -> dict[str, np.ndarray]:
    """Each detector's score of each point, (S, T) by name, of values (S, D, n), NaN where not known.

    The peers judge a point by the same time of the last 14 days, but for the last one, which rolls over the last day.
    """
    s, n_days, n = values.shape
    known = ~np.isnan(values)
    filled = pd.DataFrame(values.reshape(s, -1).T).ffill().bfill().to_numpy().T.reshape(values.shape)
    found = {OURS: judge(values, days).score}
    for name in ("ratio", "z-score", "median/MAD, same time of day", "plug-in negative binomial"):
        found[name] = np.full(values.shape, _NOTHING)
    for d in range(2, n_days):
        x, window = filled[:, d], filled[:, max(0, d - WINDOW_DAYS) : d]
        mean, variance, median = window.mean(axis=1), window.var(axis=1, ddof=1), np.median(window, axis=1)
        spread = np.median(np.abs(window - median[:, None]), axis=1)
        found["ratio"][:, d] = np.maximum((x + 1) / (mean + 1), (mean + 1) / (x + 1))
        found["z-score"][:, d] = np.abs(x - mean) / np.sqrt(np.maximum(variance, np.maximum(mean, 1.0)))
        found["median/MAD, same time of day"][:, d] = _robust(x, median, spread)
        found["plug-in negative binomial"][:, d] = _plug_in(x, mean, variance)
    flat = pd.DataFrame(filled.reshape(s, -1).T)
    median = flat.rolling(n, min_periods=max(n // 2, 2)).median().shift(1)
    spread = (flat - median).abs().rolling(n, min_periods=max(n // 2, 2)).median().shift(1)
    rolling = _robust(flat.to_numpy().T, median.to_numpy().T, spread.to_numpy().T)
    found["median/MAD, rolling over a day"] = rolling.reshape(values.shape)
    return {
        name: np.where(known, np.nan_to_num(score, nan=_NOTHING, neginf=_NOTHING), _NOTHING).reshape(s, -1)
        for name, score in found.items()
    }


def _robust(x: np.ndarray, median: np.ndarray, spread: np.ndarray) -> np.ndarray:
    floor = 0.6745 * np.sqrt(np.maximum(median, 1.0))
    z: np.ndarray = 0.6745 * np.abs(x - median) / np.maximum(spread, floor)
    return z


def _plug_in(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """−log10 of the smaller tail of a negative binomial with the moments of the window (Poisson where they say so)."""
    mean = np.maximum(mean, 0.1)
    size = np.where(variance > mean, mean**2 / np.maximum(variance - mean, 1e-9), 1e6)
    share = size / (size + mean)
    upper = np.where(x > 0, special.betainc(np.maximum(x, 1e-9), size, 1 - share), 1.0)
    lower = special.betainc(size, x + 1, share)
    score: np.ndarray = -np.log10(np.maximum(np.minimum(upper, lower), 1e-300))
    return score


def alarms(flagged: np.ndarray) -> int:
    """How many alarms (S, T) flags are: unbroken runs of flagged points, each one alarm."""
    starts = np.diff(np.pad(flagged.astype(np.int8), ((0, 0), (1, 0))), axis=1) == 1
    return int(starts.sum())


def series_days(parts: Sequence[Scored]) -> float:
    """Days on which an alarm would be a false one, over all series."""
    return float(sum(p.quiet.sum() / p.n for p in parts))


def rate_at(parts: Sequence[Scored], threshold: float) -> float:
    """False alarms a series-day at a threshold."""
    return sum(alarms((p.score >= threshold) & p.quiet) for p in parts) / series_days(parts)


def threshold(parts: Sequence[Scored], rate: float) -> float:
    """The least threshold, of the scores there are, with at most so many false alarms a series-day above it."""
    candidates = np.unique(np.concatenate([p.score[p.quiet] for p in parts]))
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if rate_at(parts, float(candidates[middle])) > rate:
            low = middle + 1
        else:
            high = middle
    # One above all of them, where even the greatest comes too often.
    return float(candidates[high]) if rate_at(parts, float(candidates[high])) <= rate else float(candidates[-1]) + 1.0
