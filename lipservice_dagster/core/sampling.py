r"""The optimiser: worth and a budget in, rates out.

Each log of pattern i is kept on its own with probability p_i (Poisson sampling) and carries the weight 1/p_i. With n_i
logs in the day, the Horvitz–Thompson estimate of their count, Σ 1/p_i over those kept, has

    variance  n_i (1 - p_i) / p_i,   relative variance  (1/p_i - 1) / n_i.

(Cochran, Sampling Techniques, chs. 5 and 9A; Horvitz and Thompson 1952.) The sampler draws logs without a trace evenly
(`lipservice_sampler.draws`), with far less variance in a pattern's count; rates and backtests reckon with the greater
one, which holds for traced logs, for collectors, and for any part of a pattern that is counted by itself. With w_i the
worth of pattern i, b_i what it costs in the day (its bytes, or n_i where the budget is one of logs), f_i its floor, u_i
its ceiling (1, or what a person capped it at) and B the budget, the rates

    minimise  Σ w_i (1/p_i - 1) / n_i   subject to   Σ b_i p_i ≤ B,  f_i ≤ p_i ≤ u_i.

Setting the derivative of the Lagrangian to zero, -w_i / (n_i p_i²) + λ b_i = 0, gives

    p_i = μ g_i,   g_i = sqrt(w_i / (n_i b_i)) = sqrt(w_i / c_i) / n_i,   μ = 1/sqrt(λ),

with c_i = b_i / n_i the cost of a log, so that without bounds a pattern has p_i n_i ∝ sqrt(w_i / c_i) logs kept,
however many it wrote: Neyman's allocation for counts, where what repeats most is thinned most. The problem is convex
and separable, so with bounds (Karush, Kuhn, Tucker) p_i = clip(μ g_i, f_i, u_i) for one multiplier μ: where the bound
binds, the derivative's sign is that of a multiplier of its own, else it is zero as above. Σ b_i p_i rises with μ, so
the μ that spends B is found by bisection over the points where a pattern meets a bound, and between two of them by
solving a line, so exactly.

What samples a log stamps it with its rate, so of pattern i a sampled log costs c_i + s_i, and one of a pattern that is
kept whole c_i. Over p_i < 1 the cost is (b_i + n_i s_i) p_i, and the above holds with that slope. A rate whose logs
cost no less than all of them without stamps, p_i ≥ c_i / (c_i + s_i), is no use: the pattern is kept whole, for less,
and the problem solved again without it. What this frees raises μ, so no pattern comes back, and it ends. A floor up
there stays a rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Rates:
    """Rates in the order of the input, and what they keep; amounts are in the unit of the cost.

    ``cost`` is what each pattern's kept logs cost, ``least`` what they do at the floors, with those pinned.
    ``in_force`` is the budget or what is ``needed``, where that is more; ``shortfall`` is by how much (0 where the
    budget suffices). ``multiplier`` is μ, infinite where the budget keeps all.
    """

    rates: NDArray[np.float64]
    budget: float
    cost: NDArray[np.float64]
    least: NDArray[np.float64]
    multiplier: float

    @property
    def needed(self) -> float:
        """What the floors cost, with what is pinned."""
        return float(self.least.sum())

    @property
    def in_force(self) -> float:
        """The larger of what is asked for and what is needed."""
        return max(self.budget, self.needed)

    @property
    def spent(self) -> float:
        """What all kept logs cost."""
        return float(self.cost.sum())

    @property
    def shortfall(self) -> float:
        """By how much the least the rates may be exceeds the budget."""
        return self.in_force - self.budget


def optimise(
    logs: ArrayLike,
    cost: ArrayLike,
    worth: ArrayLike,
    floor: ArrayLike,
    pinned: ArrayLike,
    budget: float,
    ceiling: ArrayLike | None = None,
    stamps: ArrayLike | None = None,
) -> Rates:
    """The rates that estimate the counts best for the budget; the module's text derives them.

    Args:
        logs: (n,) logs of each pattern in the day, before sampling.
        cost: (n,) what they cost in all: their bytes, or the logs again where the budget is one of logs.
        worth: (n,) from 0 up; only the proportions matter. What is worth nothing stays at its floor.
        floor: (n,) least rates, from 0 to 1.
        pinned: (n,) booleans; true is kept whole, whatever floor and ceiling say.
        budget: expected cost to keep at most, of all patterns with those pinned.
        ceiling: (n,) highest rates, none below its floor; by default 1.
        stamps: (n,) what stamping all logs of a pattern would cost, in the unit of the cost; by default 0.

    Patterns without logs or cost cost nothing and get their ceiling.

    Raises:
        ValueError: arrays of different length, or a value out of bounds; names the argument and the first row.
    """
    n = _column("logs", logs)
    b = _column("cost", cost, len(n))
    w = _column("worth", worth, len(n))
    low = _column("floor", floor, len(n), most=1.0)
    high = np.ones(len(n)) if ceiling is None else _column("ceiling", ceiling, len(n), most=1.0)
    whole = np.asarray(pinned, dtype=bool)
    if whole.shape != n.shape:
        raise ValueError(f"pinned has shape {whole.shape}, logs {n.shape}: give one value a pattern")
    if not (np.isfinite(budget) and budget >= 0):
        raise ValueError(f"budget is {budget}: give a finite amount, 0 or more")
    if (low > high).any():
        row = int(np.flatnonzero(low > high)[0])
        raise ValueError(f"ceiling[{row}] is {high[row]}, below floor[{row}], {low[row]}: lower the floor")

    stamped = b + (np.zeros(len(n)) if stamps is None else _column("stamps", stamps, len(n)))
    free = (n > 0) & (b > 0)
    high = np.where(whole, 1.0, high)
    low = np.where(whole | ~free, high, low)
    least = np.where(whole | ~free, b, stamped) * low
    need = float(least.sum())
    rates, multiplier = low, 0.0
    while need < budget:
        slope = np.where(whole, b, stamped)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(free, np.sqrt(w) / np.sqrt(n) / np.sqrt(slope), 0.0)
        multiplier = _multiplier(gain, low, high, slope, budget)
        wanted = np.where(gain > 0, np.inf, 0.0) if np.isinf(multiplier) else multiplier * gain
        rates = np.minimum(np.maximum(wanted, low), high)
        useless = free & ~whole & (high == 1.0) & (wanted * stamped >= b)
        if not useless.any():
            break
        whole = whole | useless
        low = np.where(whole, 1.0, low)
    return Rates(
        rates=rates,
        budget=float(budget),
        cost=np.where(whole | (rates == 1.0), b, stamped) * rates,
        least=least,
        multiplier=multiplier,
    )


def _multiplier(
    gain: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    b: NDArray[np.float64],
    budget: float,
) -> float:
    """The μ whose rates spend the budget, which is more than the floors need; infinite where all can be kept."""
    moves = (gain > 0) & (low < high)
    g, f, u, cost = gain[moves], low[moves], high[moves], b[moves]
    left = budget - float(b[~moves] @ low[~moves])
    if not moves.any() or float(cost @ u) <= left:
        return float("inf")
    # Bisect over the bends: at each μ in `bends` some pattern leaves its floor or reaches its ceiling.
    bends = np.unique(np.concatenate([f / g, u / g]))
    below, above = 0, len(bends) - 1
    while above - below > 1:
        middle = (below + above) // 2
        if float(cost @ np.clip(bends[middle] * g, f, u)) <= left:
            below = middle
        else:
            above = middle
    # Between two bends each pattern is at its floor, at its ceiling, or on its line through zero.
    inside = (bends[below] + bends[above]) / 2
    sloped = (inside * g > f) & (inside * g < u)
    flat = np.where(inside * g >= u, u, f)
    slope = float(cost[sloped] @ g[sloped])
    if slope == 0.0:
        return float(bends[below])
    solved = (left - float(cost[~sloped] @ flat[~sloped])) / slope
    return float(np.clip(solved, bends[below], bends[above]))


def _column(name: str, values: ArrayLike, length: int | None = None, most: float = np.inf) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "one dimension" if length is None else f"shape ({length},), as logs"
        raise ValueError(f"{name} has shape {array.shape}, expected {expected}")
    wrong = ~(np.isfinite(array) & (array >= 0) & (array <= most))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        bounds = "0 or more" if np.isinf(most) else f"from 0 to {most:g}"
        raise ValueError(f"{name}[{row}] is {array[row]}: give finite numbers, {bounds}")
    return array
