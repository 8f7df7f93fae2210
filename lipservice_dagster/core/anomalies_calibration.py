"""How often a series that does nothing unusual reaches a score: learnt from the series itself.

What belongs here: the last step from a tail probability to a stated rate of false alarms.

If alarms at least as strong as x (minus the logarithm of their rate a day) come e^-x times a day, the greatest x of a
day is Gumbel(0, 1) (Coles, An Introduction to Statistical Modeling of Extreme Values, ch. 3). Real series have heavier
tails than any model of them, so location and scale of that distribution are estimated from the maxima of days (or of
their parts) gone by, beginning at 0 and 1 with the weight of some days. Maxima are clipped where they are many scales
off: an incident is no measure of what is usual, but what comes every other day is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

_MEMORY = 60.0
_ROUNDS = 3
_LEAST, _MOST = 0.01, 30.0
_BELOW = 2.0


@dataclass(frozen=True)
class Prior:
    """What is believed before a series has told: ``days`` is the weight of scale 1, ``clip`` how many scales above the
    location a maximum may count, ``least_scale`` and ``least_location`` bound what is learnt.
    """

    days: float
    clip: float
    least_scale: float
    least_location: float


def tail_of_maxima(maxima: np.ndarray, blocks: int, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """(location, scale) of block maxima (S, K), the latest last and -inf where unknown; each (S,)."""
    mean_0, second_0, deviation_0 = _gumbel(prior.clip)
    weight = prior.days * blocks
    age = np.arange(maxima.shape[1])[::-1]
    seen = np.isfinite(maxima)
    w = 0.5 ** (age / (_MEMORY * blocks)) * seen
    total = weight + w.sum(axis=1)
    location, scale = np.zeros(len(maxima)), np.ones(len(maxima))
    for _ in range(_ROUNDS):
        low, high = (location - _BELOW * scale)[:, None], (location + prior.clip * scale)[:, None]
        v = np.where(seen, np.clip(maxima, low, high), 0.0)
        mean = (weight * mean_0 + (w * v).sum(axis=1)) / total
        second = (weight * second_0 + (w * v**2).sum(axis=1)) / total
        deviation = np.sqrt(np.maximum(second - mean**2, _LEAST))
        scale = np.clip(deviation / deviation_0, prior.least_scale, _MOST)
        location = np.maximum(mean - mean_0 * scale, prior.least_location)
    return location, scale


@cache
def _gumbel(clip: float) -> tuple[float, float, float]:
    """Mean, second moment and deviation of a Gumbel(0, 1) clipped as maxima are."""
    n = 100_000
    x = np.clip(-np.log(-np.log((np.arange(n) + 0.5) / n)), -_BELOW, clip)
    return float(x.mean()), float((x**2).mean()), float(x.std())


def block_maxima(x: np.ndarray, blocks: int) -> np.ndarray:
    """(S, blocks): the maxima of equal parts of a day (S, n), as strong as such a part's are."""
    part = (np.arange(x.shape[1]) * blocks) // x.shape[1]
    return np.stack([x[:, part == b].max(axis=1) for b in range(blocks)], axis=1) + np.log(blocks)


class Relapses:
    """What comes back within hours of a stronger alarm is most likely the same incident, and counts less.

    After an alarm of strength P that calmed down to V since, a strength x counts as x − w·(min(x, P) − V), where w is 1
    at first and halves every ``half_life`` points. Kept from point to point for S series.
    """

    _NEVER = -20.0

    def __init__(self, series: int, half_life: float) -> None:
        self._half_life = half_life
        self._peak = np.full(series, self._NEVER)
        self._valley = np.full(series, self._NEVER)
        self._age = np.zeros(series)

    def discounted(self, x: np.ndarray) -> np.ndarray:
        """The next points' strengths (S, n), those of relapses discounted; -inf where a point is not judged."""
        out = x.copy()
        for t in range(x.shape[1]):
            now = np.maximum(x[:, t], self._NEVER)
            w = 0.5 ** (self._age / self._half_life)
            climbed = np.maximum(np.minimum(self._peak, now) - np.maximum(self._valley, 0.0), 0.0)
            out[:, t] = x[:, t] - w * climbed
            higher = now >= self._peak * w
            self._peak = np.where(higher, now, self._peak)
            self._valley = np.where(higher, now, np.minimum(self._valley, now))
            self._age = np.where(higher, 1.0, self._age + 1.0)
        return out
