"""Even draws: of a stream of logs, exactly one of each stretch whose rates add up to one, at a random place in it.

Deville's systematic sampling (J.-C. Deville 1998, "Une nouvelle (encore une!) méthode de tirage à probabilités
inégales"; Y. Tillé 2006, Sampling Algorithms, ch. 7). Each log is kept with its rate exactly, as if it were drawn by
itself, but what is kept never strays from what was asked for: after every log, the number kept and the sum of the rates
differ by less than one. A count rebuilt from the kept logs (Σ 1/rate) is so off by less than one draw, whatever its
size, where draws one by one are off by some √(n·(1 − rate)/rate).

Logs that carry a trace are kept or lost with it, whatever a stream has seen. What they leave to luck, Σ (1 if kept) −
rate, the others of their stream make good: see `EvenDraw.heed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

MOST_DRAWS = 20_000
"""Draws that are remembered by name."""

_USED_UP = -1.0
_NO_MORE_TRACES = 1e-3

DRAWS_TO_GIVE_ALL = 4.0
"""Draws of luck at which a log would give back its whole rate, or all that its rate lacks to 1."""

MOST_GIVEN = 0.75
"""The part of either that it gives back at most, whatever the luck: no stretch of logs is lost whole, or kept whole."""

DRAWS_OF_SHARE = 8.0
"""Draws over which the share of logs that carry a trace is an average."""


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

    Of the luck of traces, logs that they have kept too many (below 0: too few), a log without a trace gives back a part
    g that goes with it: it is drawn with the rate r - g. As g is linear in the luck, whose mean is 0, the log's rate is
    r in the mean, and that is what is stamped. From `MOST_GIVEN` of `DRAWS_TO_GIVE_ALL` on, some two standard
    deviations, g grows no further, as far below r as above it; what is so not given back at once is later, so that of
    all logs of a stream together less than a draw is kept too many in the mean, or less than what one trace has of it
    where traces have many. Luck is counted in kept logs, as the line is, and not in those that they stand for: else a
    stream whose rate rises would be lost or kept whole until it has made good what the old rate left to luck, a hundred
    logs a draw at 0.01.

    Not safe for threads: who draws holds a lock.
    """

    __slots__ = ("_luck", "_point", "_random", "_traced", "_used")

    def __init__(self, random: Callable[[], float]) -> None:
        """``random`` gives numbers uniform in [0, 1). Draws are independent of each other."""
        self._random = random
        self._used = 0.0
        self._point = random()
        self._luck = 0.0
        self._traced = 0.0

    def keeps(self, rate: float) -> bool:
        """Whether the next log is kept, with this probability; rates outside [0, 1] count as the nearer end."""
        if rate <= 0.0 or rate >= 1.0:
            return rate >= 1.0
        if self._traced:
            rate = self._less_lucky(rate)
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

    def heed(self, rate: float, kept: bool) -> None:
        """A log of the stream was ``kept`` or lost at this rate by its trace.

        Where most logs carry a trace the few others do not make good all luck, or who reads these alone would see
        little else: of a share f of traced logs they take √((1 - f)/f), at most all, which is as much as they would
        have of their own if they were drawn one by one. Traces with many logs of the stream each have more luck, and
        the others then stray as if they came in such traces, too. How much does not hang on the luck itself, whose mean
        so stays 0.
        """
        if rate <= 0.0 or rate >= 1.0:
            return
        self._traced = traced = self._traced + (1.0 - self._traced) * (rate / DRAWS_OF_SHARE)
        luck = 1.0 - rate if kept else -rate
        self._luck += luck if traced <= 0.5 else luck * math.sqrt(1.0 / traced - 1.0)

    def _less_lucky(self, rate: float) -> float:
        """The rate that gives back some luck."""
        self._traced = traced = self._traced * (1.0 - rate / DRAWS_OF_SHARE)
        if traced < _NO_MORE_TRACES * rate:
            # What is left is next to nothing, and would end as numbers so near 0 that machines are slow with them.
            self._traced = self._luck = 0.0
            return rate
        most = min(1.0 - rate, rate)
        given = most * min(max(self._luck / DRAWS_TO_GIVE_ALL, -MOST_GIVEN), MOST_GIVEN)
        self._luck -= given
        return rate - given


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
