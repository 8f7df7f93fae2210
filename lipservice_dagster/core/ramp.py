r"""The ramp: rates fall at most by a set factor a day towards their goal, and rise at once.

With φ the factor (0.5: a rate at most halves in a day) and r_{D-1} the rates of the day before, a rate of day D must
not be below φ r_{D-1}. Read so, day D would need what day D - 1 came to, that day the one before it, and so on: making
one day again would mean making all that follow. But let the *goal* g_D be the rates that worth and budget ask for
without a ramp, which need day D alone, and take as the ramp's floor

    R_D = max( φ g_{D-1}, φ² g_{D-2}, φ³ g_{D-3}, … ),   so   R_D = φ max(g_{D-1}, R_{D-1}).

The optimiser's rates with floors raised to R are at most max(g, R): raised floors leave less for the others, so its
multiplier falls (`core.sampling`). Hence r_{D-1} ≤ max(g_{D-1}, R_{D-1}) and φ r_{D-1} ≤ R_D ≤ r_D: the ramp holds,
and needs goals only. As φ^k falls below the least rate of all within days, a window of `window_days` says all of it.
Each policy carries its goals, so day D reads the stored policies of the window, whatever order they were made in.

A pattern that a day's policy did not list counts as kept whole on that day, and so does all that lies before the first
day that is known: a service without history starts from keep-all. A day without a policy says nothing. So what is not
known makes rates higher, never lower.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from lipservice_dagster.core.policy import Policy
from lipservice_sampler.matching import Matcher


@dataclass(frozen=True)
class RampFloors:
    """The ramp's floor of each pattern, and a hash of the goals they follow from."""

    floors: NDArray[np.float64]
    fingerprint: str


def window_days(fall: float, min_rate: float) -> int:
    """How many days back a goal can still hold up a rate: the least k with fall^k ≤ min_rate, at least 1."""
    return max(1, math.ceil(math.log(min_rate) / math.log(fall)))


def ramp_floors(
    signatures: Sequence[str],
    templates: Sequence[str],
    before: Sequence[Policy],
    day: date,
    fall: float,
    min_rate: float,
) -> RampFloors:
    """The least rates of a day's patterns that the days before leave, R_D of the module's text.

    Args:
        signatures: (n,) of the day's patterns of a service and environment.
        templates: (n,) theirs.
        before: policies of the same service and environment, of days before; those outside the window are not read.
        day: the day.
        fall: φ, in (0, 1).
        min_rate: the least rate of all, which bounds the window.

    Raises:
        ValueError: a policy of the day itself or a later one.
    """
    span = window_days(fall, min_rate)
    if late := [p.day for p in before if p.day >= day]:
        raise ValueError(f"a ramp to {day} follows from days before it, not from {late[0]}")
    known = sorted((p for p in before if (day - p.day).days <= span), key=lambda p: p.day)
    first = (day - known[0].day).days + 1 if known else 1
    floors = np.full(len(signatures), fall**first)
    ours = Matcher(templates)
    for policy in known:
        goals = _goals(policy, signatures, templates, ours)
        floors = np.maximum(floors, fall ** (day - policy.day).days * goals)
    return RampFloors(floors, _fingerprint(known))


def days_to_go(rates: NDArray[np.float64], goals: NDArray[np.float64], fall: float) -> int:
    """In how many days rates that fall by the factor are at their goals, should those stay."""
    above = rates > goals * (1 + 1e-3)  # what rounding adds is no distance
    if not above.any():
        return 0
    return int(np.ceil(np.log(goals[above] / rates[above]) / math.log(fall) - 1e-3).max())


def _goals(policy: Policy, signatures: Sequence[str], templates: Sequence[str], ours: Matcher) -> NDArray[np.float64]:
    """The goals that an earlier policy had for these patterns; 1 for one it did not list.

    A pattern of the same signature is the same. A template can differ from day to day: where the earlier one fits
    today's or the other way round, their messages are the same, and the highest of the earlier goals counts.
    """
    theirs = {entry.signature: entry for entry in policy.pattern_rates}
    goal = {entry.signature: entry.rate if entry.goal is None else entry.goal for entry in policy.pattern_rates}
    now = set(signatures)
    became: dict[str, float] = {}
    for entry in policy.pattern_rates:
        if entry.signature not in now and (template := ours.match(entry.template)) is not None:
            became[template] = max(became.get(template, 0.0), goal[entry.signature])
    by_template = {entry.template: goal[entry.signature] for entry in policy.pattern_rates}
    matcher: Matcher | None = None
    found = np.ones(len(signatures))
    for i, (signature, template) in enumerate(zip(signatures, templates, strict=True)):
        known = [became[template]] if template in became else []
        if signature in theirs:
            known.append(goal[signature])
        else:
            matcher = matcher or Matcher(by_template)
            if (general := matcher.match(template)) is not None:
                known.append(by_template[general])
        found[i] = max(known, default=1.0)
    return found


def goals_fingerprint(policy: Policy) -> str:
    """A hash of a policy's goals, which is what later days' ramps read of it."""
    goals = [[e.signature, e.template, e.rate if e.goal is None else e.goal] for e in policy.pattern_rates]
    return hashlib.sha256(json.dumps(goals, separators=(",", ":")).encode()).hexdigest()[:16]


def _fingerprint(known: Sequence[Policy]) -> str:
    """Of the goals of these policies, in order of their days; `storage.windows` counts the same in SQL."""
    text = ";".join(f"{policy.day.isoformat()} {goals_fingerprint(policy)}" for policy in known)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
