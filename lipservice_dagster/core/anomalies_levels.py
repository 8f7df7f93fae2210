"""Where a series stands right now against its rhythm, and what a run of points should add up to.

What belongs here: sums along time, and the expectation of runs of points by what was known before each began. What a
point is judged to be stands in `anomalies_points`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_HALF_LIVES = (0.0, 2.0, 8.0, 24.0)  # hours, a point at least
_POWERS = (0.5, 1.0)
_BOUND = 50.0
_COST = 3.0
_TINY = 1e-12


@dataclass(frozen=True)
class Runs:
    """All runs of ``length`` points, named by their last; each (S, T).

    ``expected``: their sum by what was known before the run began; ``factor``: of the rhythm, frozen there. ``total``:
    what they added up to, and ``there``: whether at least half of their points and the last are known.
    """

    length: int
    expected: np.ndarray
    factor: np.ndarray
    total: np.ndarray
    there: np.ndarray


def decayed(x: np.ndarray, half_life: float) -> np.ndarray:
    """Sums along time in which a value counts half after ``half_life`` points; each point counts itself."""
    from scipy.signal import lfilter  # takes a second to import, for which the load of the graph need not wait

    sums: np.ndarray = lfilter([1.0], [1.0, -(0.5 ** (1 / half_life))], x, axis=-1)
    return sums


def lag(x: np.ndarray, points: int, fill: float = 0.0) -> np.ndarray:
    """The series so many points later; ``fill`` comes in."""
    out = np.full_like(x, fill)
    if points < x.shape[-1]:
        out[..., points:] = x[..., : x.shape[-1] - points]
    return out


def run_sum(x: np.ndarray, points: int) -> np.ndarray:
    """Sums over each point and those before it, ``points`` in all; fewer at the beginning."""
    if points == 1:
        return x
    sums = np.cumsum(x, axis=-1)
    difference: np.ndarray = sums - lag(sums, points)
    return difference


def ratio(a: np.ndarray, b: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """a / b, ``otherwise`` where there is next to nothing below."""
    there = b > _TINY
    quotient: np.ndarray = np.where(there, a / np.where(there, b, 1.0), otherwise)
    return quotient


def levels(counts: np.ndarray, usual: np.ndarray, day: int) -> list[np.ndarray]:
    """Factors of the rhythm that the latest points suggest, each (S, T) and told from the points before.

    ``counts`` and ``usual`` (S, T): what was counted and what the rhythm says, 0 where not known; ``day``: points a
    day. The first factor is 1; the others forget half within a point, 2, 8 and 24 hours, each also with its root, which
    is half of the way.
    """
    factors = [np.ones_like(usual)]
    for half_life in sorted({max(hours * day / 24, 1.0) for hours in _HALF_LIVES}):
        seen, expected = lag(decayed(counts, half_life), 1), lag(decayed(usual, half_life), 1)
        quotient = np.clip((seen + 0.5) / (expected + 0.5), 1 / _BOUND, _BOUND)
        factors += [quotient**power for power in _POWERS]
    return factors


def runs(
    counts: np.ndarray, usual: np.ndarray, known: np.ndarray, past: np.ndarray, factors: list[np.ndarray], length: int
) -> Runs:
    """The runs of ``length`` points and what they should add up to; see `levels` for ``counts`` and ``usual``.

    ``known`` (S, T): which points are; ``past`` (S, T): those from which to learn. The factors are averaged, series by
    series, with weights that fall with the squared errors (of square roots) of past runs of the same length.
    """
    rhythm = run_sum(usual, length)
    total = np.maximum(run_sum(counts, length), 0.0)
    there = known & (run_sum(known.astype(float), length) >= length / 2)
    learnt = there & past
    before = [lag(f, length - 1, 1.0) for f in factors]
    root = np.sqrt(total)
    losses = np.stack([(learnt * (root - np.sqrt(np.maximum(rhythm * f, 0.0))) ** 2).sum(axis=1) for f in before])
    independent = 2.0 / max(length, 2)  # overlapping runs tell the same several times
    usual_loss = ratio(losses.min(axis=0), learnt.sum(axis=1).astype(float)) + _TINY
    exponent = -(losses - losses.min(axis=0)) * independent / (2 * usual_loss)
    exponent[1:] -= _COST
    weights = np.exp(np.maximum(exponent - exponent.max(axis=0), -60.0))
    factor = np.einsum("ks,kst->st", weights / weights.sum(axis=0), np.stack(before))
    return Runs(length, rhythm * factor, factor, total, there)


def usual_ratio(counts: np.ndarray, usual: np.ndarray, day: int) -> np.ndarray:
    """(S, T): the median, over the twelve blocks before each point, of what was counted against the rhythm.

    Blocks are a twelfth of a day. The median does not move for an incident of less than half a day, and does for a
    level that stays.
    """
    block = max(1, day // 12)
    back = 12 if day >= 12 else max(day, 7)
    s, t = counts.shape
    n_blocks = -(-t // block)

    def by_block(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (n_blocks * block - t, 0)))
        sums: np.ndarray = padded.reshape(s, n_blocks, block).sum(axis=2)
        return sums

    quotient = (by_block(counts) + 0.5) / (by_block(usual) + 0.5)
    padded = np.pad(quotient, ((0, 0), (back, 0)), constant_values=1.0)
    before = np.lib.stride_tricks.sliding_window_view(padded, back, axis=1)[:, :n_blocks]
    medians: np.ndarray = np.repeat(np.median(before, axis=2), block, axis=1)[:, n_blocks * block - t :]
    return medians
