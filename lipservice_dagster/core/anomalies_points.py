"""Which points of a count series are out of the ordinary, each judged by the points before it.

What belongs here: judging point by point. A report judges a whole day of many series at once
(`lipservice_dagster.core.anomalies`); both learn the rhythm of days in `anomalies_rhythm` and read tails in
`anomalies_statistics`.

**Expectation.** Every day is learnt anew from the four weeks before it: level and rhythm of the day as in a report,
times a factor for where the series stands right now (`anomalies_levels`). Every window day is predicted by the others,
so errors are errors of prediction and a short history is told by wide tails.

**Evidence adds up.** Each point is judged as the last of runs of one point to a day; the sum of a run against what was
expected before it began. A run must deviate in its later half and its last quarter too: what is over is over. In runs
and in what is learnt, counts are cut to what the day before makes believable, so no incident becomes the normal,
nor one point a long run; a level that stays for more than half a day becomes believable.

**Stated rate.** Tails of each run length and side, and in the end those of the whole score, are set against the series'
own daily maxima (`anomalies_calibration`); rates far below what so few days can tell are drawn towards it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from lipservice_dagster.core import anomalies_statistics as statistics
from lipservice_dagster.core.anomalies_bursts import QUIET, Sizes, as_many
from lipservice_dagster.core.anomalies_calibration import Prior, Relapses, block_maxima, tail_of_maxima
from lipservice_dagster.core.anomalies_expectation import PRIOR_DF, PRIOR_DISPERSION
from lipservice_dagster.core.anomalies_levels import Runs, levels, ratio, run_sum, runs, usual_ratio
from lipservice_dagster.core.anomalies_rhythm import predict, schemes

LEAST_POINTS = 14
"""Known points (and most of a day of them) before which nothing is judged."""

_ENOUGH_OF_A_DAY = 0.9
_WINDOW_DAYS, _WINDOW_POINTS = 28, 91
_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 144, 288, 576, 1440)
_LEAST_DISPERSION = 5e-4
_UNIT_POINTS = 10.0
_CUT = 3.5
_SPREAD_POWER = 0.85
# Beyond what comes once in twenty days, a series cannot be sure of rates it has seen too few days for: strengths x
# become those of a tail whose scale was told by so many observations a day (as Student's t of the normal's).
_SURE, _EVIDENCE = 3.0, 0.4
# Real series burst for minutes far more often than any model of them says, and an incident lasts longer: strengths of
# runs shorter than an hour count as if the tail were so many times as wide, and have that share of the false alarms. On
# the series of benchmarks/anomalies.py at five minutes a tail between twice and three times as wide finds most, both of
# the labelled windows and of the events put in.
_HOURS = 24
_BRIEF_SCALE, _BRIEF_SHARE = 2.5, 0.1
_LATER_HALF, _LAST_QUARTER, _LAST_POINT = 0.4, 0.25, -1.0
_RELAPSE_DAYS = 0.5
# Of two days each is told by the other alone, so the errors of one are those of the other with the sign turned, and the
# rhythm that fits them best was chosen by them too; with more days both fade. Measured as the rate of false alarms
# after two, three and six days (benchmarks/anomalies.py).
_MIRRORED = 0.8
_BLOCKS = 4
# How many independent tests a run length is worth falls with its length, and all together they are worth so many; both
# measured on clean negative binomial series (benchmarks/anomalies.py).
_LENGTH_POWER = 0.6
_TRIALS, _TRIALS_SLOPE = 2.6, 0.38
_RUN_PRIOR = Prior(days=5.0, clip=5.0, least_scale=1.0, least_location=0.0)
_SCORE_PRIOR = Prior(days=20.0, clip=3.0, least_scale=0.7, least_location=-2.0)


@dataclass(frozen=True)
class Judged:
    """What was found, each (S, D, n).

    ``score``: −log10 of how many false alarms a day at least as strong are to be expected; -inf where a point was not
    judged (unknown, or still learning). ``p_value``: the same for each point. ``expected``: what the point should have
    been by what was known before the run that tells most. ``up``: whether it is too much rather than too little.
    """

    score: np.ndarray
    p_value: np.ndarray
    expected: np.ndarray
    up: np.ndarray


def judge(values: np.ndarray, days: Sequence[date]) -> Judged:
    """Judge every point of ``values`` (S, D, n), NaN where not known, on the ``days`` (D,) by those before it.

    n is the number of points a day; where the step is a day or longer, n is 1. Values are counts, or anything else that
    is not negative.
    """
    n_days, n = values.shape[1:]
    memory = _Memory.of(values)
    strength = np.full(values.shape, -np.inf)
    expected = np.full(values.shape, np.nan)
    up = np.zeros(values.shape, dtype=bool)
    back = _WINDOW_DAYS if n > 1 else _WINDOW_POINTS
    for d in range(1, n_days):
        window = slice(max(0, d - back), d)
        today = _today(memory, days, window, d)
        best, expected[:, d], up[:, d] = _strongest_runs(memory, today, d)
        judged = memory.known[:, d] & today.enough[:, None]
        # All runs together alarm more often than one of them.
        best = np.where(judged, best - np.log(np.maximum(_TRIALS + _TRIALS_SLOPE * best, 1.0)), -np.inf)
        best = memory.relapses.discounted(best)
        location, scale = tail_of_maxima(memory.maxima[:, :d], 1, _SCORE_PRIOR)
        strength[:, d] = (best - location[:, None]) / scale[:, None]
        strength[:, d] = _as_sure(strength[:, d], _EVIDENCE * today.past.sum(axis=1)[:, None] / n)
        memory.close(d, best, judged.mean(axis=1) >= 0.5)
    rate = np.exp(np.minimum(-strength, 50.0))
    p_value = np.where(np.isfinite(strength), -np.expm1(-rate / n), np.nan)
    return Judged(strength / np.log(10), p_value, expected, up)


def _as_sure(strength: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Strengths (S, n), those beyond `_SURE` drawn in by how much there is (S, 1) to tell them from."""
    beyond = np.maximum(strength - _SURE, 0.0)
    drawn_in: np.ndarray = np.minimum(strength, _SURE) + evidence * np.log1p(ratio(beyond, evidence))
    return drawn_in


@dataclass
class _Memory:
    """What is kept from day to day of S series over D days of n points.

    ``learnt`` (S, D, n): believable counts, gaps filled with what was expected; ``has`` (S, D): days to learn from.
    """

    values: np.ndarray
    known: np.ndarray
    has: np.ndarray
    learnt: np.ndarray
    maxima: np.ndarray
    run_maxima: dict[tuple[int, bool], np.ndarray]
    blocks: int
    relapses: Relapses

    @classmethod
    def of(cls, values: np.ndarray) -> _Memory:
        s, n_days, n = values.shape
        known = ~np.isnan(values)
        counts = np.nan_to_num(values)
        learnt = counts.copy()
        if n_days:
            first = ratio(counts[:, 0].sum(axis=1), known[:, 0].sum(axis=1).astype(float))
            learnt[:, 0] = np.where(known[:, 0], counts[:, 0], first[:, None])
        return cls(
            counts,
            known,
            known.mean(axis=2) >= 0.5,
            learnt,
            np.full((s, n_days), -np.inf),
            {},
            _BLOCKS if n >= 24 else 1,
            Relapses(s, n * _RELAPSE_DAYS),
        )

    def maxima_of(self, length: int, up: bool) -> np.ndarray:
        """(S, D × blocks): the strongest runs of a length and side in each part of each day."""
        s, n_days = self.maxima.shape
        return self.run_maxima.setdefault((length, up), np.full((s, n_days * self.blocks), -np.inf))

    def close(self, d: int, best: np.ndarray, whole: np.ndarray) -> None:
        """Keep the day's strongest (S, n); of days that are not ``whole`` (S,) nothing is learnt about strengths."""
        self.maxima[:, d] = np.where(whole, best.max(axis=1), -np.inf)
        for maxima in self.run_maxima.values():
            maxima[~whole, d * self.blocks : (d + 1) * self.blocks] = -np.inf


@dataclass(frozen=True)
class _Today:
    """A day and the window before it as one stretch of T points; the day is the last n of them.

    ``counts`` (believable, but for 0 where not known), ``usual`` (what the rhythm says), ``known`` and ``past`` (known
    and before the day), each (S, T). ``raw`` (S, T): the counts as they are, 0 where not known. ``weight`` (S,) and
    ``inflate`` (S,): see `Prediction.weight`, and 1 + that of window days. ``enough`` (S,): whether the day can be
    judged. ``independent`` (S,): the share of the past errors that tells anything of its own.
    """

    counts: np.ndarray
    usual: np.ndarray
    known: np.ndarray
    past: np.ndarray
    raw: np.ndarray
    weight: np.ndarray
    inflate: np.ndarray
    enough: np.ndarray
    independent: np.ndarray


def _today(memory: _Memory, days: Sequence[date], window: slice, d: int) -> _Today:
    """The day ``d`` read against its window; what is believable of it is learnt."""
    s, _, n = memory.values.shape
    has, learnt = memory.has[:, window], memory.learnt[:, window]
    whole = np.where(has[:, :, None], learnt, 0.0)
    prediction = predict(whole, has, schemes(days[window], days[d], apart=False))
    # A single day is predicted by no other: as flat, which is how little is known.
    flat = whole.sum(axis=(1, 2)) / np.maximum(has.sum(axis=1) * n, 1)
    left_out = np.where(prediction.left_out.sum(axis=2, keepdims=True) > 0, prediction.left_out, flat[:, None, None])
    known = memory.known[:, window.start : d + 1].reshape(s, -1)
    usual = np.concatenate([left_out, prediction.today[:, None]], axis=1).reshape(s, -1) * known
    counts = np.concatenate([learnt, memory.values[:, d][:, None]], axis=1).reshape(s, -1) * known
    past = known.copy()
    past[:, -n:] = False
    counts[:, -n:] = _believable(counts, usual, past, n) * known[:, -n:]
    of_day = memory.known[:, d]
    level = ratio(counts[:, -n:].sum(axis=1), (prediction.today * of_day).sum(axis=1), 1.0)
    memory.learnt[:, d] = np.where(of_day, counts[:, -n:], prediction.today * level[:, None])
    return _Today(
        counts=counts,
        usual=usual,
        known=known,
        past=past,
        raw=memory.values[:, window.start : d + 1].reshape(s, -1),
        weight=prediction.weight,
        inflate=1 + prediction.left_out_weight.mean(axis=1),
        independent=1 - _MIRRORED * (2 / np.maximum(has.sum(axis=1), 2)) ** 4,
        enough=(past.sum(axis=1) >= max(_ENOUGH_OF_A_DAY * n, LEAST_POINTS)) & has.any(axis=1),
    )


def _believable(counts: np.ndarray, usual: np.ndarray, past: np.ndarray, n: int) -> np.ndarray:
    """(S, n): the day's counts, cut to some deviations about the rhythm, or where the last day stood against it."""
    error = ((past * (counts - usual)) ** 2).sum(axis=1)
    first, second = (past * usual).sum(axis=1), (past * usual**2).sum(axis=1)
    points = past.sum(axis=1)
    dispersion = np.maximum(
        (PRIOR_DF * PRIOR_DISPERSION + points * ratio(error - first, second)) / (PRIOR_DF + points), _LEAST_DISPERSION
    )[:, None]
    stands = usual_ratio(counts, usual, n)[:, -n:]
    low, high = (bound(stands, 1.0) * usual[:, -n:] for bound in (np.minimum, np.maximum))
    least, most = (m + side * np.sqrt(m + dispersion * m**2 + 0.25) for m, side in ((low, -_CUT), (high, _CUT)))
    day = counts[:, -n:]
    return np.where((points >= n)[:, None], np.clip(day, np.maximum(least, 0.0), most), day)


def _strongest_runs(memory: _Memory, today: _Today, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(strength, expected, up) of the strongest run that ends at each point of the day, each (S, n)."""
    s, n = memory.values.shape[0], memory.values.shape[2]
    factors = levels(today.counts, today.usual, n)
    best, expected, rises = np.full((s, n), -np.inf), today.usual[:, -n:].copy(), np.zeros((s, n), dtype=bool)
    z_values: dict[tuple[int, bool], np.ndarray] = {}
    # Of a length that fits into what was seen only a few times, nothing is known.
    lengths = [m for m in _LENGTHS if m <= max(n, 7) and m <= max(d * n // 3, 1)]
    hour = min((m for m in lengths if m * _HOURS >= n), default=lengths[-1])
    parts = slice(d * memory.blocks, (d + 1) * memory.blocks)
    unit, prior = np.ones(s), np.full(s, PRIOR_DISPERSION)
    bursts = _Bursts.of(today, n)
    for i, length in enumerate(lengths):
        of_length = runs(today.counts, today.usual, today.known, today.past, factors, length)
        spread = _spread(of_length, today, None if length == 1 else unit, prior)
        unit = spread.unit
        if i + 1 < len(lengths):
            prior = spread.dispersion * (length / lengths[i + 1]) ** _SPREAD_POWER
        there = of_length.there[:, -n:]
        # A point and an hour are judged as they are, so that a fine step hides nothing that hourly counts show; other
        # runs by what is believable of them.
        observed = (run_sum(today.raw, length) if length in (1, hour) else of_length.total)[:, -n:]
        weight, dispersion, df, of_unit = (
            np.broadcast_to(x[:, None], (s, n)) for x in (today.weight, spread.dispersion, spread.df, unit)
        )
        for up in (True, False):
            p, z = statistics.tail(
                observed, of_length.expected[:, -n:], weight, dispersion, df, of_unit, upper=up, middle=True
            )
            z = z if up else -z
            z_values[length, up] = z
            if length > 1:
                half, quarter = (
                    z_values[max(m for m in lengths if m <= max(length / parts_of, 1)), up] for parts_of in (2, 4)
                )
                last = z_values[1, up]
                there = there & (half >= _LATER_HALF * z) & (quarter >= _LAST_QUARTER * z) & (last > _LAST_POINT)
            strength = np.where(there, -np.log(np.maximum(p, 1e-300) * n * length**-_LENGTH_POWER), -np.inf)
            maxima = memory.maxima_of(length, up)
            location, scale = tail_of_maxima(maxima[:, : parts.start], memory.blocks, _RUN_PRIOR)
            maxima[:, parts] = block_maxima(strength, memory.blocks)
            shift = np.log(memory.blocks)
            strength = (strength + shift - location[:, None]) / scale[:, None] - shift
            if up and bursts is not None:
                strength[bursts.rows] = np.minimum(strength[bursts.rows], bursts.strengths(length, n))
            if length < hour:
                strength = strength / _BRIEF_SCALE + np.log(_BRIEF_SHARE)
            better = strength > best
            best = np.where(better, strength, best)
            expected = np.where(better, today.usual[:, -n:] * of_length.factor[:, -n:], expected)
            rises = np.where(better, up, rises)
            there = of_length.there[:, -n:]
    return best, expected, rises


@dataclass(frozen=True)
class _Bursts:
    """The series ``rows`` (B,) of a day that have bursts in quiet slots, and their stretch of points, each (B, T):
    ``counts``, which are ``active`` in quiet slots, and which ``past``; and the ``sizes`` of the past ones.
    """

    rows: np.ndarray
    counts: np.ndarray
    active: np.ndarray
    past: np.ndarray
    sizes: Sizes

    @classmethod
    def of(cls, today: _Today, n: int) -> _Bursts | None:
        s = len(today.raw)
        there = (today.past & (today.raw > 0)).reshape(s, -1, n).sum(axis=1)
        quiet = there < QUIET * today.past.reshape(s, -1, n).sum(axis=1)
        active = np.tile(quiet, (1, today.raw.shape[1] // n)) & today.known & (today.raw > 0)
        rows = np.flatnonzero((active & today.past).any(axis=1))
        sizes = Sizes.of(today.raw[rows], active[rows] & today.past[rows])
        kept = np.flatnonzero(sizes.are_bursts)
        if not len(kept):
            return None
        rows = rows[kept]
        return cls(rows, today.raw[rows], active[rows], today.past[rows], sizes.of_rows(kept))

    def strengths(self, length: int, n: int) -> np.ndarray:
        """(B, n): minus the logarithm of how often a day has bursts like those of the runs that end at its points;
        infinite for runs that are not mostly made of bursts."""
        bursts, all_counts = run_sum(self.counts * self.active, length), run_sum(self.counts, length)
        slots = run_sum(self.active.astype(float), length)
        runs_of = np.maximum(self.past.sum(axis=1), 1)
        mean = (slots * self.past).sum(axis=1) / runs_of
        variance = (slots**2 * self.past).sum(axis=1) / runs_of - mean**2
        k, logs = np.maximum(slots[:, -n:], 1.0), np.maximum(bursts[:, -n:], 1.0)
        shape = k.shape
        likely = as_many(k, np.broadcast_to(mean[:, None], shape), np.broadcast_to(variance[:, None], shape))
        likely = np.maximum(likely * self.sizes.as_large(logs / k), 1e-300)
        return np.where(2 * bursts[:, -n:] >= all_counts[:, -n:], -np.log(likely * n), np.inf)


@dataclass(frozen=True)
class _Spread:
    """How runs of one length stray: ``dispersion`` φ, its degrees of freedom ``df``, and the ``unit`` in which counts
    are Poisson (1, less where they vary less than that); each (S,). Variance = unit × mean + φ × mean².
    """

    unit: np.ndarray
    dispersion: np.ndarray
    df: np.ndarray


def _spread(of_length: Runs, today: _Today, unit: np.ndarray | None, prior: np.ndarray) -> _Spread:
    """The spread of past runs, φ drawn towards ``prior`` (S,) with `PRIOR_DF` degrees of freedom."""
    learnt = of_length.there & today.past
    count = learnt.sum(axis=1)
    squares = ((learnt * (of_length.total - of_length.expected)) ** 2).sum(axis=1)
    first = today.inflate * (learnt * of_length.expected).sum(axis=1)
    second = today.inflate * (learnt * of_length.expected**2).sum(axis=1)
    if unit is None:
        unit = np.clip((_UNIT_POINTS + count * ratio(squares, first, 1.0)) / (_UNIT_POINTS + count), 1e-6, 1.0)
    raw = ratio(squares - unit * first, second)
    # What the runs tell of φ: as many as are independent, by the share of their variance that is not Poisson's.
    extra = np.maximum(raw, prior) * ratio(second, first)
    own = today.independent * count / max(1.0, of_length.length / 1.5) * ratio(extra, unit + extra) ** 2
    dispersion = np.maximum((PRIOR_DF * prior + own * raw) / (PRIOR_DF + own), _LEAST_DISPERSION)
    return _Spread(unit, dispersion, PRIOR_DF + own)
