"""Which hours are one anomaly: significant runs of a series become separate stretches.

What belongs here: hours. Whether a run is significant is decided in `lipservice_dagster.core.anomalies_findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

_DEVIATES = 1.5
_DEVIATIONS = 2.0
_GAP = 2


@dataclass(frozen=True)
class Run:
    """Hours [start, end) that deviate together; ``evidence`` are those among them that deviate by themselves."""

    start: int
    end: int
    p_value: float
    z: float
    by_share: bool
    evidence: tuple[int, ...]


def separate(
    spans: Sequence[tuple[int, int, int]],
    p_values: np.ndarray,
    z: np.ndarray,
    by_share: np.ndarray,
    crit: float,
    deviates: np.ndarray,
    deviates_by_share: np.ndarray,
    large: Callable[[int, int], bool],
) -> list[Run]:
    """The stretches of one series that deviate one way, in time order, none touching another.

    ``spans``, ``p_values``, ``z`` and ``by_share`` (R,) describe the tested runs; those with p ≤ ``crit`` count, the
    surest first, the shorter of equals. A run is cut back to hours that deviate by themselves (``deviates``, (hours,)),
    parted where more than two hours in a row do not, and drawn out over neighbours that do. Parts that are not
    ``large(start, end)`` are dropped, unless none is: then the run is only so as a whole and stays one.
    """
    order = sorted(
        np.flatnonzero((p_values <= crit) & (p_values < 1)).tolist(),
        key=lambda i: (p_values[i], spans[i][2] - spans[i][1], spans[i][1]),
    )
    taken = np.zeros(len(deviates), dtype=bool)
    stretches: list[Run] = []
    for i in order:
        _, start, end = spans[i]
        if taken[start:end].any():
            continue
        hours = deviates_by_share if by_share[i] else deviates
        drawn = [_drawn_out(hours & ~taken, *part) for part in _parts(hours, start, end)]
        for first, last in [part for part in drawn if large(*part)] or [(start, end)]:
            taken[first:last] = True
            evidence = tuple(h for h in range(first, last) if hours[h]) or tuple(range(first, last))
            stretches.append(Run(first, last, float(p_values[i]), float(z[i]), bool(by_share[i]), evidence))
        # Its hours are spoken for, also those that were cut off.
        taken[start:end] = True
    return list(_joined(sorted(stretches, key=lambda run: run.start)))


def deviating(today: np.ndarray, mean: np.ndarray, deviation: np.ndarray, upper: bool) -> np.ndarray:
    """(hours,): hours that deviate by themselves, at least one and a half times and two standard deviations."""
    ratio = (today > _DEVIATES * mean) if upper else (_DEVIATES * today < mean)
    hours: np.ndarray = ratio & (np.abs(today - mean) > _DEVIATIONS * deviation)
    return hours


def _parts(hours: np.ndarray, start: int, end: int) -> list[tuple[int, int]]:
    at = [h for h in range(start, end) if hours[h]]
    if not at:
        return [(start, end)]
    parts = [(at[0], at[0] + 1)]
    for h in at[1:]:
        if h - parts[-1][1] > _GAP:
            parts.append((h, h + 1))
        else:
            parts[-1] = (parts[-1][0], h + 1)
    return parts


def _drawn_out(free: np.ndarray, start: int, end: int) -> tuple[int, int]:
    while start > 0 and free[start - 1]:
        start -= 1
    while end < len(free) and free[end]:
        end += 1
    return start, end


def _joined(stretches: Sequence[Run]) -> Iterator[Run]:
    last: Run | None = None
    for run in stretches:
        if last is not None and last.end >= run.start and last.by_share == run.by_share:
            surer = last if last.p_value <= run.p_value else run
            last = replace(surer, start=last.start, end=max(last.end, run.end), evidence=last.evidence + run.evidence)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last
