"""Even draws: of a stream of logs, exactly one of each stretch whose rates add up to one, at a random place in it.

Deville's systematic sampling (J.-C. Deville 1998, "Une nouvelle (encore une!) méthode de tirage à probabilités
inégales"; Y. Tillé 2006, Sampling Algorithms, ch. 7). Each log is kept with its rate exactly, as if it were drawn by
itself, but what is kept never strays from what was asked for: after every log, the number kept and the sum of the rates
differ by less than one. A count rebuilt from the kept logs (Σ 1/rate) is so off by less than one draw, whatever its
size, where draws one by one are off by some √(n·(1 − rate)/rate).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

MOST_DRAWS = 20_000
"""Draws that are remembered by name."""

_USED_UP = -1.0


class EvenDraw:
    """The draw of one stream of logs.

    The rates of the logs are laid end to end on a line, and each unit interval of it has one point; the log in whose
    part the point lies is kept. ``s`` in [0, 1) is how far the present interval is used, ``u`` its point. A log with
    rate r reaches to s + r:

    * below 1, it is kept where s ≤ u < s + r;
    * else it reaches b = s + r - 1 into the next interval. It is kept where u ≥ s, and else with probability b / s,
      the point of the next interval then being in its part. In the other cases that point is uniform in [b, 1).

    With a point uniform in [0, 1) for the first interval each later one is, too, taken by itself, so that every log is
    kept with its rate: 1 - s where u ≥ s, and s · b / s.

    Not safe for threads: who draws holds a lock.
    """

    __slots__ = ("_point", "_random", "_used")

    def __init__(self, random: Callable[[], float]) -> None:
        """``random`` gives numbers uniform in [0, 1). Draws are independent of each other."""
        self._random = random
        self._used = 0.0
        self._point = random()

    def keeps(self, rate: float) -> bool:
        """Whether the next log is kept, with this probability; rates outside [0, 1] count as the nearer end."""
        if rate <= 0.0 or rate >= 1.0:
            return rate >= 1.0
        used = self._used
        end = used + rate
        if end < 1.0:
            self._used = end
            return used <= self._point < end
        self._used = over = end - 1.0
        if self._point >= used:
            kept = True
        elif self._random() * used < over:
            self._point = _USED_UP
            return True
        else:
            kept = False
        self._point = over + (1.0 - over) * self._random()
        return kept


class Draws:
    """Draws by name, each made when it is first asked for; beyond `MOST_DRAWS` of them all begin anew."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._known: dict[Hashable, EvenDraw] = {}

    def of(self, name: Hashable) -> EvenDraw:
        """The draw of this name."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= MOST_DRAWS:
                self._known.clear()
            found = self._known[name] = EvenDraw(self._random)
        return found
