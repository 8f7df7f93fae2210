"""What a count series should do today: expectation by hour, and how far it usually strays from it.

What belongs here: what is learnt from the window. Rhythm and level of the day come from `anomalies_rhythm`; how today's
counts are judged against them stands in `anomalies_findings`.

**Dispersion.** The predictions of window days by the others give the variance a *prediction* has, estimation error
included: for sums over runs of n hours, φ_n = Σ(R² − c·E) / Σ c·E², R the error, E the prediction, c = 1 + Σw² of its
weights (negative binomial: variance = mean + φ·mean²). Runs have φ of their own because hours of one day stray
together. It is shrunk towards the median of its kind in the report with `PRIOR_DF` degrees of freedom; what it has of
its own grows with days, with hours, and with how much of its variance is more than Poisson.

It is at least as much as the ways to tell today's level disagree: where nearly all the evidence is for a Sunday without
logs and a little for one as any other day, what is expected on average is not to be relied upon.

**Weekends.** Where the window has both, how a weekend day strays from working days says nothing of how working days
stray from one another. Where today is the first or second weekend day of a series, nothing is known of how they differ:
it may have none of the logs, and hardly more than `WEEKEND_SURPLUS` times as many. On the first or second working day φ
is `_UNKNOWN_CLASS` more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from lipservice_dagster.core.anomalies_rhythm import Prediction, divide, predict, schemes
from lipservice_dagster.core.frames import HOURS

RUNS = (1, 2, 3, 4, 6, 12, 24)
"""Lengths of runs of hours that are tested."""

WEEKEND_SURPLUS = 1.5
"""How much more than a working day a weekend day may have, of a series that had less than two weekend days."""

PRIOR_DF = 8.0
PRIOR_DISPERSION = 0.05
_DISPERSION_BOUNDS = (0.005, 0.5)
_LEAST_DISPERSION, _MOST_DISPERSION = 0.002, 100.0
_BLOCK = 2048
_UNKNOWN_CLASS = 0.25
_NO_START_BELOW = 7.0
_OUTLIER, _OUTLIER_LOGS = 4.0, 20.0


@dataclass(frozen=True)
class Moments:
    """How far window days strayed from what the others said of them, for sums over each length of `RUNS`.

    All (S, runs): ``variance``, Σ R² / Σ c·E², of which ``poisson``, Σ c·E / Σ c·E², is Poisson noise if a log stands
    for one; ``size``, what a run typically sums to; ``information``, independent errors. And (S,): ``doubt``, the least
    φ there is; ``more``, what is added to it.
    """

    variance: np.ndarray
    poisson: np.ndarray
    size: np.ndarray
    information: np.ndarray
    doubt: np.ndarray
    more: np.ndarray


@dataclass(frozen=True)
class Expectation:
    """What S series should do today.

    ``mean`` (S, 24): expected weighted logs by hour. ``mean_weight`` (S,): Σw² of the days' weights in the mean (1/D
    for D equal days). ``dispersion`` (S, runs) and ``df`` (S, runs): φ of a prediction for each length in `RUNS`, and
    its degrees of freedom. ``days`` (S,): days of history that count, from the series' start on. ``has`` (S, D): which.
    ``left_out`` (S, D, 24): what each of them should have had by the others; ``told`` (S, D): days that could be
    predicted and whose errors tell of today. ``stopped`` (S,): series whose service was silent when the window ended.
    ``first_weekend`` (S,): see `WEEKEND_SURPLUS`. ``log_weight`` (S,): what one stored log stood for in the window (1
    where nothing was sampled away). ``moments``: what φ came from.
    """

    mean: np.ndarray
    mean_weight: np.ndarray
    dispersion: np.ndarray
    df: np.ndarray
    days: np.ndarray
    has: np.ndarray
    left_out: np.ndarray
    told: np.ndarray
    stopped: np.ndarray
    first_weekend: np.ndarray
    log_weight: np.ndarray
    moments: Moments

    def as_noisy_as(self, log_weight: np.ndarray, kind: np.ndarray) -> Expectation:
        """The same where sampling left the noise of logs that stand for ``log_weight`` (S,) each in the window.

        ``kind`` (S,): as of `expect`.
        """
        dispersion, df = _dispersion(self.moments, self.days, kind, log_weight)
        return replace(self, dispersion=dispersion, df=df, log_weight=log_weight)


def history(window: np.ndarray, parent: np.ndarray, days: Sequence[date]) -> np.ndarray:
    """(S, D): days that say something about the series; ``parent[s]`` is the series of its whole service.

    A day that was not materialised says nothing. Neither do days before a series began: zeros at the start of the
    window count as "not yet there" where a series as busy as afterwards would hardly have had them by chance, on days
    of the week that have logs. Days since a whole service stopped, told the same way, say nothing of what it does when
    it is back. A series has no history without its service.
    """
    materialised, totals = _totals(window)
    has = materialised & _started(totals, materialised, days) & ~_stopped(totals, materialised, days, parent)
    own_service: np.ndarray = has & (has[parent] | (totals > 0))
    return own_service


def _totals(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    materialised = ~np.isnan(window).any(axis=2)
    return materialised, np.where(materialised, np.nan_to_num(window).sum(axis=2), 0.0)


def _stopped(totals: np.ndarray, materialised: np.ndarray, days: Sequence[date], parent: np.ndarray) -> np.ndarray:
    """(S, D): days from which on the series' service was silent to the window's end, and not by chance."""
    running = np.ones(totals.shape, dtype=bool)
    services = np.unique(parent)
    # A service that stopped is one that started, with time turned round.
    running[services] = _started(totals[services, ::-1], materialised[services, ::-1], days[::-1])[:, ::-1]
    stopped: np.ndarray = ~running[parent]
    return stopped


def _started(totals: np.ndarray, materialised: np.ndarray, days: Sequence[date]) -> np.ndarray:
    before = np.cumsum(totals, axis=1) == 0
    # n logs are all on the later days by chance with (later / all)^n, each day weighed by what its weekday has.
    logs = totals.sum(axis=1)
    missed = (_usual(totals, materialised & ~before, days) * (before & materialised)).sum(axis=1)
    surprise = logs * np.log1p(divide(missed, logs, 0.0))
    started: np.ndarray = ~(before & (surprise > _NO_START_BELOW)[:, None])
    return started


def _usual(totals: np.ndarray, known: np.ndarray, days: Sequence[date]) -> np.ndarray:
    """(S, D): the mean day of the ``known`` ones of the same weekday; where there is none of its class, else of all."""
    weekday = np.array([d.weekday() for d in days], dtype=np.int64)
    weekend = weekday >= 5
    usual = np.zeros(totals.shape)
    missing = np.ones(totals.shape, dtype=bool)
    for alike in (weekday[:, None] == weekday, weekend[:, None] == weekend, np.ones((len(days), len(days)), bool)):
        of_days = known.astype(float) @ alike
        usual = np.where(missing, divide((totals * known) @ alike, of_days, 0.0), usual)
        missing &= of_days == 0
    return usual


def expect(
    window: np.ndarray,
    days: Sequence[date],
    day: date,
    parent: np.ndarray,
    kind: np.ndarray,
    window_weight: np.ndarray | None = None,
) -> Expectation:
    """What every series should do on ``day``, from ``window`` (S, D, 24), NaN for days not materialised.

    ``parent`` (S,): index of the series of the whole service, its own index for such a series. ``kind`` (S,): small
    integers; dispersion is shrunk among series of one kind.
    """
    n, n_days = window.shape[:2]
    has = history(window, parent, days)
    materialised, totals = _totals(window)
    stopped = (_stopped(totals, materialised, days, parent) & materialised).any(axis=1)
    log_weight = _log_weight(window, window_weight)
    mean = np.zeros((n, HOURS))
    mean_weight = np.ones(n)
    # Half as precise: of a large day it is the largest array there is.
    left_out = np.zeros((n, n_days, HOURS), dtype=np.float32)
    told = np.zeros((n, n_days), dtype=bool)
    doubt = np.zeros(n)
    variance = np.full((n, len(RUNS)), np.nan)
    poisson, size, information = np.zeros((3, n, len(RUNS)))
    known, tells = _classes(has, days, day)
    if n_days and n:
        ways = schemes(days, day)
        is_parent = parent == np.arange(n)
        parents = np.flatnonzero(is_parent)
        # The rhythm of whole services, which their parts may follow.
        shape_today = np.zeros((len(parents), HOURS))
        shape_left_out = np.zeros((len(parents), n_days, HOURS))
        slot = np.zeros(n, dtype=np.int64)
        slot[parents] = np.arange(len(parents))
        for group in (parents, np.flatnonzero(~is_parent)):
            own = group is not parents
            for at in range(0, len(group), _BLOCK):
                rows = group[at : at + _BLOCK]
                y = _without_outliers(window[rows], has[rows])
                service = slot[parent[rows]]
                of_service = (shape_today[service], shape_left_out[service]) if own else None
                block = predict(y, has[rows], ways, of_service, tells[rows])
                mean[rows], mean_weight[rows] = block.today, block.weight
                left_out[rows], told[rows], doubt[rows] = block.left_out, block.valid & has[rows], block.doubt
                if not own:
                    shape_today[slot[rows]] = block.shape_today
                    shape_left_out[slot[rows]] = block.shape_left_out
                variance[rows], poisson[rows], size[rows], information[rows] = _moments(y, block)
    effective = has.sum(axis=1).astype(float)
    first_weekend = ~known & (day.weekday() >= 5)
    more = np.where(~known & ~first_weekend, _UNKNOWN_CLASS, 0.0)
    moments = Moments(variance, poisson, size, information, doubt, more)
    dispersion, df = _dispersion(moments, effective, kind, log_weight)
    return Expectation(
        mean=mean,
        mean_weight=mean_weight,
        dispersion=dispersion,
        df=df,
        days=effective,
        has=has,
        left_out=left_out,
        told=told,
        stopped=stopped,
        first_weekend=first_weekend,
        log_weight=log_weight,
        moments=moments,
    )


def _classes(has: np.ndarray, days: Sequence[date], day: date) -> tuple[np.ndarray, np.ndarray]:
    """(known, tells): series that have two days of today's class, weekend or not, (S,); and days whose errors tell how
    today may stray, (S, D): those of which there is another of their class, all of them where today's is not known.
    """
    weekend = np.array([d.weekday() >= 5 for d in days], dtype=bool)
    counts = np.stack([(has & ~weekend).sum(axis=1), (has & weekend).sum(axis=1)], axis=1)
    known = counts[:, int(day.weekday() >= 5)] >= 2
    tells: np.ndarray = ~known[:, None] | (counts[:, weekend.astype(np.int64)] >= 2)
    return known, tells


def _log_weight(window: np.ndarray, window_weight: np.ndarray | None) -> np.ndarray:
    if window_weight is None or not window.shape[1]:
        return np.ones(len(window))
    totals = np.nan_to_num(window).sum(axis=2)
    known = ~np.isnan(window_weight)
    top = np.where(known, totals * np.nan_to_num(window_weight), 0.0).sum(axis=1)
    bottom = np.where(known, totals, 0.0).sum(axis=1)
    return np.maximum(np.divide(top, bottom, out=np.ones(len(window)), where=bottom > 0), 1.0)


def _without_outliers(window: np.ndarray, has: np.ndarray) -> np.ndarray:
    """The window with single incidents cut down, so that yesterday's incident is not today's normal.

    Hours above four times the upper quartile of their hour of the day (and above 20 logs, which a quiet hour may have
    by chance) are cut to it, where the hour is usually not silent (what comes out of silence may be a weekly batch) and
    on no more than one day in seven: what comes more often is how the series is.
    """
    y = np.where(has[:, :, None], np.nan_to_num(window), 0.0)
    n_days = has.sum(axis=1)
    hidden = np.where(has[:, :, None], y, np.inf)
    ranked = np.sort(hidden, axis=1)
    quartile = np.maximum(np.ceil(0.75 * n_days).astype(int) - 1, 0)
    usual = np.take_along_axis(ranked, quartile[:, None, None], axis=1)
    cap = np.maximum(_OUTLIER * usual, _OUTLIER_LOGS)
    over = (y > cap) & (usual >= 1) & has[:, :, None]
    rare = (over.any(axis=2).sum(axis=1) <= np.maximum(n_days // 7, 1)) & (n_days >= 4)
    return np.where(over & rare[:, None, None], cap, y)


def _moments(y: np.ndarray, prediction: Prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``variance``, ``poisson``, ``size`` and ``information`` of `Moments`, each (B, runs)."""
    valid = prediction.valid.astype(float)[:, :, None]
    inflate = (1 + prediction.left_out_weight)[:, :, None]
    error = _from_zero(np.cumsum((y - prediction.left_out) * valid, axis=2))
    expected = _from_zero(np.cumsum(prediction.left_out * valid, axis=2))
    hour_total = prediction.left_out.sum(axis=1)
    spread = divide(hour_total.sum(axis=1) ** 2, (hour_total**2).sum(axis=1), 1.0) / HOURS
    n_valid = prediction.valid.sum(axis=1)
    variance, poisson, size, information = np.zeros((4, len(y), len(RUNS)))
    for i, n in enumerate(RUNS):
        r = error[:, :, n:] - error[:, :, :-n]
        e = expected[:, :, n:] - expected[:, :, :-n]
        squares = (inflate * e**2).sum(axis=(1, 2))
        variance[:, i] = divide((r**2).sum(axis=(1, 2)), squares, 0.0)
        poisson[:, i] = divide((inflate * e).sum(axis=(1, 2)), squares, 0.0)
        size[:, i] = divide((e**2).sum(axis=(1, 2)), e.sum(axis=(1, 2)), 0.0)
        information[:, i] = np.maximum(n_valid - 1, 0) * np.clip(HOURS / n * spread, 1.0, 12.0)
    return variance, poisson, size, information


def _dispersion(
    moments: Moments, days: np.ndarray, kind: np.ndarray, log_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """φ and its degrees of freedom, each (S, runs), where a log of the window stood for ``log_weight`` (S,)."""
    size = moments.size
    raw = moments.variance - log_weight[:, None] * moments.poisson
    prior = np.full(raw.shape, PRIOR_DISPERSION)
    for k in np.unique(kind):
        of_kind = kind == k
        for i in range(len(RUNS)):
            telling = of_kind & (size[:, i] >= 5 * log_weight) & (days >= 3)
            if telling.sum() >= 5:
                prior[of_kind, i] = np.clip(np.median(raw[telling, i]), *_DISPERSION_BOUNDS)
    # Hardly a log was expected where φ comes out higher: a single one would make a series that nothing surprises.
    seen = np.minimum(np.nan_to_num(raw), _MOST_DISPERSION)
    # The share of a run's variance that tells of φ rather than of Poisson noise.
    extra = np.maximum(seen, prior) * size
    share = divide(extra, log_weight[:, None] + extra, 0.0)
    own = moments.information * share**2
    dispersion = np.maximum((PRIOR_DF * prior + own * seen) / (PRIOR_DF + own), _LEAST_DISPERSION)
    # A day of the week without logs tells of a few in a hundred that other days would have it.
    return np.maximum(dispersion, moments.doubt[:, None]) + moments.more[:, None], PRIOR_DF + own


def _from_zero(cumulated: np.ndarray) -> np.ndarray:
    out = np.zeros((*cumulated.shape[:2], cumulated.shape[2] + 1))
    out[:, :, 1:] = cumulated
    return out
