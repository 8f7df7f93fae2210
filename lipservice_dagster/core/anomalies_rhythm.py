"""How a count series goes through the day and the week, learnt from whole days.

What belongs here: the prediction of a day from other days. How far a series strays from it, and what follows, stands
in `anomalies_expectation` (a report's day) and `anomalies_points` (point by point).

A day is predicted as its *level* (the day's total) times its *rhythm* (the share of each slot). Each of the two is a
weighted mean over the other days, under several ways to weigh them:

* levels: all days alike; days of the same class, Monday to Friday or weekend; the same weekday most, and alone; the
  latest days most.
* rhythms: all days alike; days of the same class; that of the whole service (for a part of it).

and each rhythm at several sharpnesses: slot by slot, over neighbouring slots, low frequencies only, none. Every window
day is predicted by the others alone, so each candidate's errors are errors of prediction; candidates are averaged with
weights that fall with their squared error (of square roots: counts have even variance there), as in Bayesian model
averaging, which is the shrinkage towards the plain mean; for a report, days of another class count in a candidate
only where there is none of the own (a twentieth of five working days would be a weekend's worth of logs for a service
that has no weekends). The latest-days level predicts a day only by earlier ones, so it wins where the level moved and
not because of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

_OTHER_CLASS, _OTHER_WEEKDAY = 0.03, 0.1
_ONLY_IF_ALONE = 1e-6
_DECAY = 0.6
_HARMONICS = 4
_LEAST_SLOTS = 8
_LEVEL_COST, _CLASS_COST = 1.0, 1.5
_SHARPNESS_COST = (1.5, 1.0, 0.5)  # slot by slot, neighbours, low frequencies; none is free
_TINY = 1e-12


@dataclass(frozen=True)
class DayWeights:
    """One way to weigh days: ``left_out`` (D, D) for predicting each window day, ``today`` (D,)."""

    left_out: np.ndarray
    today: np.ndarray


@dataclass(frozen=True)
class Schemes:
    """The ways to weigh days for levels and for rhythms; the first of each, all alike, is always there."""

    levels: list[DayWeights]
    rhythms: list[DayWeights]


@dataclass(frozen=True)
class Prediction:
    """What B series should do today, and what each of D window days should have done by the others; n slots a day.

    ``today`` (B, n) and ``left_out`` (B, D, n): expected counts. ``weight`` (B,) and ``left_out_weight`` (B, D): Σw² of
    the observations a slot's mean was made from (1/D for D equal days, slot by slot). ``valid`` (B, D): window days
    that could be predicted. ``shape_today`` (B, n) and ``shape_left_out`` (B, D, n): the rhythms, shares of a day.
    ``doubt`` (B,): how much the ways to tell today's level disagree, their variance by the level squared.
    """

    today: np.ndarray
    weight: np.ndarray
    left_out: np.ndarray
    left_out_weight: np.ndarray
    valid: np.ndarray
    shape_today: np.ndarray
    shape_left_out: np.ndarray
    doubt: np.ndarray


def schemes(days: Sequence[date], day: date, *, apart: bool = True) -> Schemes:
    """The ways to weigh ``days`` for ``day``: those that the days at hand can tell apart.

    ``apart``: classes of days are kept apart, and the same weekday may tell all by itself, for series that are silent
    on some. Otherwise the other class counts a little: steadier point by point, where a level is followed anyway.
    """
    ordinal = np.array([d.toordinal() for d in (*days, day)])
    weekday = np.array([d.weekday() for d in (*days, day)])
    weekend = weekday >= 5
    n = len(days)
    ones = np.ones((n + 1, n + 1))
    same_class = np.where(weekend[:, None] == weekend[None, :], 1.0, _ONLY_IF_ALONE if apart else _OTHER_CLASS)
    of_weekday = weekday[:, None] == weekday[None, :]
    same_weekday = np.where(of_weekday, 1.0, _OTHER_WEEKDAY * same_class)
    # Where the days are further apart (a step of weeks), the last is still the latest.
    step = max(int(np.diff(np.unique(ordinal)).min()), 1) if n else 1
    gap = (ordinal[:, None] - ordinal[None, :]) // step
    recent = np.where(gap > 0, _DECAY ** np.maximum(gap - 1, 0), 0.0)
    two_classes = bool((weekend[:n] == weekend[n]).sum() >= 2 and (weekend[:n] != weekend[n]).any())
    levels, rhythms = [ones], [ones]
    if two_classes:
        levels.append(same_class)
        rhythms.append(same_class)
    if (weekday[:n] == weekday[n]).sum() >= 2:
        levels.append(same_weekday)
    if n >= 3:
        levels.append(recent)
    if two_classes and n >= 7:
        levels.append(recent * same_class)
    if apart and (weekday[:n] == weekday[n]).sum() >= 2:
        levels.append(np.where(of_weekday, 1.0, _ONLY_IF_ALONE * same_class))
    return Schemes([_without_itself(k, n) for k in levels], [_without_itself(k, n) for k in rhythms])


def _without_itself(kernel: np.ndarray, n: int) -> DayWeights:
    left_out = kernel[:n, :n].copy()
    np.fill_diagonal(left_out, 0.0)
    return DayWeights(left_out, kernel[n, :n])


def predict(
    y: np.ndarray,
    has: np.ndarray,
    ways: Schemes,
    service: tuple[np.ndarray, np.ndarray] | None = None,
    tells: np.ndarray | None = None,
) -> Prediction:
    """Each day's counts by the other days, and today's by all.

    ``y`` (B, D, n): counts, 0 on days that say nothing (``has`` (B, D) false). ``service``: `shape_today` and
    `shape_left_out` of each series' whole service. ``tells`` (B, D): days whose errors tell of today's, all by default.
    """
    n = y.shape[2]
    mask = has.astype(float)
    level, level_left, level_weight, level_left_weight, valid, doubt = _levels(
        y.sum(axis=2), mask, ways.levels, has if tells is None else has & tells
    )
    shapes = [*_shapes(y, mask, ways.rhythms), _flat(y, mask)]
    if service is not None:
        shapes.append(_Shape(*service, np.zeros(len(y)), np.zeros(mask.shape), 0.0))
    counted = (valid & has).astype(float)
    root, root_level = np.sqrt(y), np.sqrt(level_left)[:, :, None]
    losses = [np.einsum("bdh,bd->b", (root - root_level * np.sqrt(s.left_out)) ** 2, counted) for s in shapes]
    shares = _averaging(np.stack(losses), counted.sum(axis=1) * n, np.array([s.cost for s in shapes]))
    # Summed shape by shape: stacked, they would take several times the memory.
    today, left_out = np.zeros((len(y), n)), np.zeros(y.shape)
    weight, left_weight = np.zeros(len(y)), np.zeros(mask.shape)
    for share, shape in zip(shares, shapes, strict=True):
        today += share[:, None] * shape.today
        left_out += share[:, None, None] * shape.left_out
        weight += share * shape.weight
        left_weight += share[:, None] * shape.left_out_weight
    return Prediction(
        level[:, None] * today,
        np.minimum(weight + level_weight / n, 1.0),
        level_left[:, :, None] * left_out,
        np.minimum(left_weight + level_left_weight / n, 1.0),
        valid,
        today,
        left_out,
        doubt,
    )


@dataclass(frozen=True)
class _Shape:
    """A candidate for the rhythm: fields as in `Prediction`, and what it costs in the averaging."""

    today: np.ndarray
    left_out: np.ndarray
    weight: np.ndarray
    left_out_weight: np.ndarray
    cost: float


def _shapes(y: np.ndarray, mask: np.ndarray, rhythms: Sequence[DayWeights]) -> list[_Shape]:
    shapes = []
    for extra, scheme in enumerate(rhythms):
        sums = np.matmul(scheme.left_out, y)
        today = np.einsum("d,bdh->bh", scheme.today, y)
        left_weight = divide(mask @ (scheme.left_out**2).T, (mask @ scheme.left_out.T) ** 2, 1.0)
        weight = divide(mask @ scheme.today**2, (mask @ scheme.today) ** 2, 1.0)
        for cost, (smooth, left) in zip(_SHARPNESS_COST, _smoothings(y.shape[2]), strict=False):
            parts = _shares(smooth(today)), _shares(smooth(sums)), weight * left, left_weight * left
            shapes.append(_Shape(*parts, cost + _CLASS_COST * extra))
    return shapes


def _flat(y: np.ndarray, mask: np.ndarray) -> _Shape:
    n = y.shape[2]
    weight = 1 / np.maximum(mask.sum(axis=1), 1.0) / n
    slots = np.full((len(y), n), 1.0 / n)
    left_out = np.broadcast_to(slots[:, None], y.shape)
    return _Shape(slots, left_out, weight, np.repeat(weight[:, None], y.shape[1], axis=1), 0.0)


def _levels(
    total: np.ndarray, mask: np.ndarray, kernels: Sequence[DayWeights], tells: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    todays, lefts, weights, left_weights, valids = [], [], [], [], []
    for kernel in kernels:
        s = mask @ kernel.left_out.T
        t = mask @ kernel.today
        lefts.append(divide(total @ kernel.left_out.T, s, 0.0))
        todays.append(divide(total @ kernel.today, t, 0.0))
        left_weights.append(divide(mask @ (kernel.left_out**2).T, s**2, 1.0))
        weights.append(divide(mask @ kernel.today**2, t**2, 1.0))
        valids.append(s > 0)
    valid = np.logical_and.reduce(valids) & tells
    root = np.sqrt(total)
    losses = np.stack([((root - np.sqrt(left)) ** 2 * valid).sum(axis=1) for left in lefts])
    share = _averaging(losses, valid.sum(axis=1), _LEVEL_COST * np.arange(len(kernels)) ** 0.5)
    today = np.einsum("kb,kb->b", share, np.stack(todays))
    between = np.einsum("kb,kb->b", share, (np.stack(todays) - today) ** 2)
    return (
        today,
        np.einsum("kb,kbd->bd", share, np.stack(lefts)),
        np.einsum("kb,kb->b", share, np.stack(weights)),
        np.einsum("kb,kbd->bd", share, np.stack(left_weights)),
        valids[0] & tells,
        divide(between, today**2, 0.0),
    )


def _averaging(losses: np.ndarray, points: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """(K, B): weights of candidates by their summed squared errors over ``points`` (B,), and what each costs."""
    least = losses.min(axis=0)
    usual = divide(least, points.astype(float), 0.0) + _TINY
    exponent = -(losses - least) / (2 * usual) - cost[:, None]
    # Without a day to tell by, all are alike but for their cost.
    e = np.exp(np.maximum(exponent - exponent.max(axis=0), -60.0))
    weights: np.ndarray = e / e.sum(axis=0)
    return weights


def _smoothings(n: int) -> list[tuple[Callable[[np.ndarray], np.ndarray], float]]:
    """Ways to smooth n slots around the day, the sharpest first, each with the share of variance that it leaves."""

    def neighbours(x: np.ndarray) -> np.ndarray:
        shifts = range(-reach, reach + 1)
        smooth: np.ndarray = sum(w * np.roll(x, k, axis=-1) for w, k in zip(weights, shifts, strict=True))
        return smooth

    if n < _LEAST_SLOTS:
        return [(lambda x: x, 1.0)]
    reach = max(1, round(n / 48))
    weights = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    weights = weights / weights.sum()
    return [
        (lambda x: x, 1.0),
        (neighbours, float((weights**2).sum())),
        (_low_frequencies, min((2 * _HARMONICS + 1) / n, 1.0)),
    ]


def _low_frequencies(x: np.ndarray) -> np.ndarray:
    f = np.fft.rfft(x, axis=-1)
    f[..., _HARMONICS + 1 :] = 0
    smooth = np.fft.irfft(f, n=x.shape[-1], axis=-1)
    least = 0.02 * x.mean(axis=-1, keepdims=True)
    return np.maximum(smooth, least)


def _shares(x: np.ndarray) -> np.ndarray:
    n = x.shape[-1]
    return divide(x, x.sum(axis=-1, keepdims=True), 1.0 / n)


def divide(a: np.ndarray, b: np.ndarray, otherwise: float) -> np.ndarray:
    """a / b, ``otherwise`` where b is not above 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.full(a.shape, otherwise, dtype=float), where=b > 0)
