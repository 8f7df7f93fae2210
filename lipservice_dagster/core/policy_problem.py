"""What the days of services ask of the optimiser: what is kept whole and why, floors, caps, costs; and its answer.

What belongs here: stating the problem of each service and environment of a team-day (`state`), and finding its rates
(`found`), of one service within its own budget, or of all of a team within theirs: then one multiplier holds for all,
and each has the part of the budget that its patterns are worth. The arithmetic stands in `core.sampling`, what is made
of the rates in `core.make_policy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipservice_dagster.core.budget import Budget, Unit, part_of, unit_of
from lipservice_dagster.core.effect import ERRORS, SAMPLED, most_stamp_octets, ratio, severity_volumes
from lipservice_dagster.core.frames import REST_MESSAGE, hours_matrix
from lipservice_dagster.core.judgements import Judgement
from lipservice_dagster.core.overlay import Overlay, overlay_document
from lipservice_dagster.core.policy import RATE_DIGITS, Policy, round_rate
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.ramp import RampFloors, ramp_floors
from lipservice_dagster.core.sampling import optimise
from lipservice_sampler.decision import error_like
from lipservice_sampler.overlay import Overlay as SamplerOverlay
from lipservice_sampler.overlay import Ruling


@dataclass(frozen=True)
class ServiceDay:
    """What the policy of a service and environment is made from.

    ``signatures``: rows of `frames.SIGNATURES`, and ``anomalies`` of `frames.ANOMALIES`, of this service and
    environment. ``overlay``: with the overrides in force at the end of the day; boosts are no part of a policy.
    ``before``: its policies of days before, from which rates fall by the ramp (`core.ramp`; empty: from keep-all);
    None: without a ramp. ``llm_model``: the model behind the judgements; None where rules gave them. ``judged_by``: a
    sentence on who judged how many patterns and why, for the reasoning.
    """

    service: str
    environment: str
    signatures: pd.DataFrame
    anomalies: pd.DataFrame
    overlay: Overlay | None = None
    before: Sequence[Policy] | None = None
    llm_model: str | None = None
    judged_by: str = ""


@dataclass(frozen=True)
class Problem:
    """The patterns of a service's day, n of them in the order of their signatures, and what binds their rates.

    ``volumes`` (n, 6): logs by severity, before sampling. ``whole``: why each is kept whole, a key of `WHY`, or None;
    filled up by `add_must_keep`. ``floor``, ``ceiling`` (n,): bounds of the rates of the others. ``people``: what they
    said, in force ``at`` the end of the day, and ``said`` (n,) of each pattern.
    """

    of: ServiceDay
    at: datetime
    people: SamplerOverlay
    rows: pd.DataFrame
    said: Sequence[Ruling]
    volumes: NDArray[np.float64]
    bytes_per_log: NDArray[np.float64]
    judged: Mapping[str, Judgement]
    worth: NDArray[np.float64]
    whole: list[str | None]
    floor: NDArray[np.float64]
    ceiling: NDArray[np.float64]
    settings: PolicySettings

    @property
    def sampled(self) -> NDArray[np.float64]:
        """(n,): logs that may be sampled."""
        logs: NDArray[np.float64] = self.volumes[:, SAMPLED].sum(axis=1)
        return logs

    @property
    def errors(self) -> NDArray[np.float64]:
        """(n,): logs that are errors."""
        logs: NDArray[np.float64] = self.volumes[:, ERRORS].sum(axis=1)
        return logs

    @property
    def bytes(self) -> float:
        """Of the day."""
        return float(self.volumes.sum(axis=1) @ self.bytes_per_log)

    def per_log(self, unit: Unit) -> NDArray[np.float64]:
        """(n,): what a log costs."""
        return self.bytes_per_log if unit == "bytes" else np.ones(len(self.rows))

    @property
    def pinned(self) -> NDArray[np.bool_]:
        """(n,): whether something keeps it whole."""
        return np.array([why is not None for why in self.whole], dtype=bool)

    @property
    def listed(self) -> NDArray[np.bool_]:
        """(n,): which patterns the policy lists: all that are kept whole, and of those sampled the ones of most logs up
        to the limit.

        The limit cannot reach what is kept whole: unlisted, a rare pattern would be thinned like an unknown one. Nor
        can many rare patterns push the large ones off the list. Rest-rows are never listed: no message at the edge
        matches them.
        """
        logs = self.rows["weighted_logs"].to_numpy(float)
        listed = np.array([why is not None and why != "rest" for why in self.whole], dtype=bool)
        sampled = sorted((i for i, why in enumerate(self.whole) if why is None), key=lambda i: (-logs[i], i))
        listed[sampled[: self.settings.max_patterns]] = True
        return listed

    def ramp(self) -> RampFloors | None:
        """What rates may not fall below today, if anything; what is not listed has no rate of its own that could."""
        if self.of.before is None:
            return None
        names, templates = self.rows["signature"].tolist(), self.rows["template"].tolist()
        fall, least = self.settings.fall_a_day, self.settings.min_rate
        day = self.at.date() - timedelta(days=1)
        found = ramp_floors(names, templates, self.of.before, day, fall, least)
        raised = [rounded(rate, math.ceil) if own else 0.0 for rate, own in zip(found.floors, self.listed, strict=True)]
        return RampFloors(np.array(raised), found.fingerprint)


@dataclass(frozen=True)
class Found:
    """The rates (n,) of a service's patterns, the budget it has, and what is needed of it whatever the budget.

    ``in_force`` is the larger of the two, in the unit of the budget, and ``in_force_bytes`` what it is in bytes.
    """

    rates: NDArray[np.float64]
    budget: Budget
    needed: float
    in_force_bytes: float

    @property
    def in_force(self) -> float:
        """The larger of what is asked for and what is needed."""
        return max(self.budget.amount, self.needed)

    @property
    def shortfall(self) -> float:
        """By how much more is needed than asked for."""
        return self.in_force - self.budget.amount


NEVER, NEW, ANOMALY = "never to be sampled", "new", "under an anomaly"
WHY = {
    NEVER: "a person says it is never sampled",
    "error-like": "its text reads like an error",
    "errors": "most of its logs are errors",
    NEW: "new today",
    ANOMALY: "under an anomaly today",
    "rare": "rare",
    "must keep": "judged a must-keep",
    "rest": "too rare to be told apart",
}


def state(
    team_id: int, day: date, of: ServiceDay, judged: Mapping[str, Judgement], settings: PolicySettings
) -> Problem:
    """The problem of a service's day that has logs; ``judged``: judgements by signature.

    Volumes are weighted: what there was before earlier sampling. Error logs are never sampled, so they count as stored,
    and a pattern's other weighted logs are spread over its other severities as stored.

    Raises:
        ValueError: rows of another scope, or a signature twice.
    """
    _check_scope("signatures", of.signatures, team_id, day, of)
    _check_scope("anomalies", of.anomalies, team_id, day, of)
    rows = of.signatures.sort_values("signature", ignore_index=True)
    if rows["signature"].duplicated().any():
        twice = rows.loc[rows["signature"].duplicated(), "signature"].iloc[0]
        raise ValueError(
            f"signatures: {twice} has more than one row in service {of.service!r}: pass one row a signature"
        )
    at = datetime.combine(day + timedelta(days=1), time(), UTC)
    people = SamplerOverlay({} if of.overlay is None else {"overrides": overlay_document(of.overlay)["overrides"]})
    said = [people.ruling(*named, at) for named in zip(rows["signature"], rows["template"], strict=True)]
    volumes = severity_volumes(rows)
    bytes_per_log = ratio(rows["weighted_bytes"].to_numpy(float), rows["weighted_logs"].to_numpy(float))
    ceiling = np.array([rounded(ruling.cap, math.floor) for ruling in said])
    return Problem(
        of=of,
        at=at,
        people=people,
        rows=rows,
        said=said,
        volumes=volumes,
        bytes_per_log=bytes_per_log,
        judged=judged,
        worth=np.array([judged[s].worth if s in judged else settings.default_worth for s in rows["signature"]]),
        whole=_kept_whole(rows, volumes, of.anomalies, said, settings),
        floor=np.minimum(_floors(rows, volumes[:, SAMPLED].sum(axis=1), bytes_per_log, settings), ceiling),
        ceiling=ceiling,
        settings=settings,
    )


def found(
    problems: Sequence[Problem], budget: Budget, floors: Sequence[NDArray[np.float64]] | None = None
) -> list[Found]:
    """The rates of each problem, that together keep to one budget; ``floors``: where they are higher than stated.

    A service's part of the budget is what its rates spend, of all that is spent. Rates are rounded down, so that
    rounding spends no more than the budget; floors are rounded up before, so none is undercut.
    """
    unit, lows = budget.unit, [p.floor for p in problems] if floors is None else list(floors)
    sizes = [len(p.rows) + 1 for p in problems]

    # One more row a service for all its error logs: they are kept whoever they belong to, and take their part.
    def joined(columns: Sequence[NDArray[Any]], of_errors: Sequence[float]) -> NDArray[np.float64]:
        return np.concatenate([np.append(c, e) for c, e in zip(columns, of_errors, strict=True)])

    ones = [1.0] * len(problems)
    rates = optimise(
        logs=joined([p.sampled for p in problems], [p.errors.sum() for p in problems]),
        cost=joined(
            [p.sampled * p.per_log(unit) for p in problems], [float(p.errors @ p.per_log(unit)) for p in problems]
        ),
        worth=joined([p.worth for p in problems], ones),
        floor=joined(lows, ones),
        pinned=joined([p.pinned for p in problems], ones).astype(bool),
        budget=budget.amount,
        ceiling=joined([p.ceiling for p in problems], ones),
        # By the floors as stated: were those of the ramp read, stamps would be shorter and other rates higher with it.
        stamps=joined(
            [p.sampled * most_stamp_octets(p.floor) * (unit == "bytes") for p in problems], [0.0] * len(problems)
        ),
    )
    ends = np.cumsum(sizes)
    costs = np.array([rates.cost[end - size : end].sum() for end, size in zip(ends, sizes, strict=True)])
    needs = np.array([rates.least[end - size : end].sum() for end, size in zip(ends, sizes, strict=True)])
    shares = costs / costs.sum() if costs.any() else np.full(len(costs), 1 / len(costs))
    answers = []
    for problem, low, end, size, share, need in zip(problems, lows, ends, sizes, shares, needs, strict=True):
        own = rates.rates[end - size : end - 1]
        down = np.array([max(rounded(rate, math.floor), least) for rate, least in zip(own, low, strict=True)])
        part = budget if len(problems) == 1 else part_of(budget, float(share))
        in_force = max(part.amount, float(need))
        if unit == "logs":
            per_log = problem.bytes_per_log + np.where(own < 1, most_stamp_octets(own), 0)
            in_force = float(problem.sampled * per_log @ own + problem.errors @ problem.bytes_per_log)
        answers.append(Found(np.where(problem.pinned, 1.0, down), part, float(need), in_force))
    return answers


def add_must_keep(problems: Sequence[Problem], budget: Budget, settings: PolicySettings) -> None:
    """Mark those judged must-keep, the smallest first, while they stay within their share of the budget.

    A judgement is a proposal: one pattern of much volume called a must-keep would otherwise spend what all need.
    """
    candidates = []
    for place, p in enumerate(problems):
        cost = p.sampled * p.per_log(budget.unit)
        candidates += [
            (cost[i], place, i)
            for i, why in enumerate(p.whole)
            if why is None and p.said[i].cap == 1.0 and p.worth[i] >= settings.must_keep_worth
        ]
    left = settings.must_keep_share * budget.amount
    for cost, place, i in sorted(candidates):
        left -= cost
        if left < 0:
            return
        problems[place].whole[i] = "must keep"


def _kept_whole(
    rows: pd.DataFrame,
    volumes: NDArray[np.float64],
    anomalies: pd.DataFrame,
    said: Sequence[Ruling],
    settings: PolicySettings,
) -> list[str | None]:
    """Why each pattern is kept whole, a key of `WHY`, or None.

    Of a service that is new as a whole one finding speaks for all its patterns, each of which is new.
    A pattern that a person capped is kept for nothing but for reading like an error, which no cap touches.
    """
    of_patterns = anomalies[anomalies["scope"] == "pattern"]
    appeared = anomalies[anomalies["kind"] == "new_pattern"]
    new = set(appeared.loc[appeared["scope"] == "pattern", "subject"])
    if (appeared["scope"] == "service").any():
        new = set(rows["signature"])
    anomalous = set(of_patterns["subject"])
    logs = volumes.sum(axis=1)
    error_share = ratio(volumes[:, ERRORS].sum(axis=1), logs)
    whole: list[str | None] = []
    for i, (signature, template) in enumerate(zip(rows["signature"], rows["template"], strict=True)):
        first = (
            (NEVER, said[i].never_sample),
            ("error-like", error_like(template) and not said[i].lifted),
        )
        then = (
            ("rest", template == REST_MESSAGE),
            ("errors", error_share[i] >= settings.error_share),
            (NEW, signature in new),
            (ANOMALY, signature in anomalous),
            ("rare", logs[i] < settings.rare_logs),
        )
        tests = first + then if said[i].cap == 1.0 else first
        whole.append(next((why for why, holds in tests if holds), None))
    return whole


def _floors(
    rows: pd.DataFrame,
    sampled: NDArray[np.float64],
    bytes_per_log: NDArray[np.float64],
    settings: PolicySettings,
) -> NDArray[np.float64]:
    """The least rate of each pattern, rounded up; 1 where what it keeps would cost, stamped, as many bytes as all.

    Per active hour on average: a floor for each hour by itself would keep a pattern whole for one hour with few logs.
    """
    active = (hours_matrix(rows) > 0).sum(axis=1)
    per_hour = ratio(settings.floor_per_hour * active, sampled)
    least = np.array([rounded(min(max(rate, settings.min_rate), 1.0), math.ceil) for rate in per_hour])
    if unit_of(settings) == "logs":
        return least
    return np.where(least * (bytes_per_log + most_stamp_octets(least)) >= bytes_per_log, 1.0, least)


def _check_scope(name: str, frame: pd.DataFrame, team_id: int, day: date, of: ServiceDay) -> None:
    scope = {"team_id": team_id, "service": of.service, "environment": of.environment, "day": day}
    for column, wanted in scope.items():
        others = frame.loc[frame[column] != wanted, column]
        if len(others):
            raise ValueError(
                f"{name}: {len(others)} of {len(frame)} rows have {column} {others.iloc[0]!r}, the policy is for "
                f"{wanted!r}: pass the rows of one service and environment of one team-day"
            )


def rounded(rate: float, way: Any) -> float:
    """The rate to as many significant digits as policies keep, up (math.ceil) or down (math.floor)."""
    rate = float(rate)
    if rate <= 0.0 or round_rate(rate) == rate:
        return rate
    unit = 10.0 ** (math.floor(math.log10(rate)) + 1 - RATE_DIGITS)
    # What misses a step by the noise of floating point is on it.
    steps = rate / unit
    return round_rate((round(steps) if math.isclose(steps, round(steps), rel_tol=1e-9) else way(steps)) * unit)
