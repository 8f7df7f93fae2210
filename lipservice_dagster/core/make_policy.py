"""From a day's signatures, anomalies and judgements to the policy of a service and environment.

What belongs here: which patterns are kept whole and why, floors, the budget, severity rates, and the words. The rates
come from `core.sampling`, the expected effect from `core.effect`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipservice_dagster.core.budget import WHOLE, Budget, Share, amount, budget_of, size
from lipservice_dagster.core.effect import ERRORS, SAMPLED, expected_effect, ratio, severity_volumes
from lipservice_dagster.core.frames import ERROR_SEVERITIES, REST_MESSAGE, SEVERITIES, hours_matrix
from lipservice_dagster.core.judgements import Judgement
from lipservice_dagster.core.overlay import Overlay, overlay_document
from lipservice_dagster.core.policy import (
    RATE_DIGITS,
    Floors,
    PatternRate,
    Policy,
    Ramp,
    Unknown,
    keep_all,
    round_rate,
)
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.ramp import RampFloors, days_to_go, ramp_floors
from lipservice_dagster.core.sampling import Rates, optimise
from lipservice_sampler.decision import error_like
from lipservice_sampler.overlay import Overlay as SamplerOverlay
from lipservice_sampler.overlay import Ruling


def make_policy(
    team_id: int,
    service: str,
    environment: str,
    day: date,
    signatures: pd.DataFrame,
    anomalies: pd.DataFrame,
    judgements: Sequence[Judgement],
    settings: PolicySettings,
    *,
    llm_model: str | None = None,
    overlay: Overlay | None = None,
    before: Sequence[Policy] | None = None,
    share: Share = WHOLE,
    judged_by: str = "",
) -> Policy:
    """The policy of a service and environment, made from one day; keep-all where the day has no logs.

    Kept whole are: messages that read like errors, patterns most of whose logs are errors, new patterns, patterns under
    an anomaly of the day, rare ones, and, within their share of the budget, those judged must-keep. The others share
    what is left of the budget by worth (`core.sampling`), none below its floor. Single error logs of a sampled pattern
    are kept by the decision, and are paid for before the others.

    People come first: what they said is never sampled is kept whole and paid for, what they capped stays at or below
    its cap, whatever else would keep it whole, and what they lifted is not kept for reading like an error.

    Volumes are weighted: what there was before earlier sampling. Error logs are never sampled, so they count as stored,
    and a pattern's other weighted logs are spread over its other severities as stored.

    Args:
        team_id: of the policy, as the other scalars.
        service: the service.
        environment: the environment.
        day: the UTC day.
        signatures: rows of `frames.SIGNATURES` of this service and environment.
        anomalies: rows of `frames.ANOMALIES` of this service and environment.
        judgements: of any signatures; one without gets ``settings.default_worth``.
        settings: limits and defaults.
        llm_model: the model behind the judgements; None where rules gave them.
        overlay: with the overrides in force at the end of the day; boosts are no part of a policy.
        before: policies of the same service and environment of days before, from which rates fall by the ramp
            (`core.ramp`; empty: from keep-all); None: without a ramp.
        share: the service's part of its team's volume, and so of a budget that is an amount.
        judged_by: a sentence on who judged how many patterns and why, for the reasoning.

    Raises:
        ValueError: rows of another scope, or a signature twice.
    """
    _check_scope("signatures", signatures, team_id, service, environment, day)
    _check_scope("anomalies", anomalies, team_id, service, environment, day)
    if signatures.empty:
        return keep_all(team_id, service, environment, day)
    rows = signatures.sort_values("signature", ignore_index=True)
    if rows["signature"].duplicated().any():
        twice = rows.loc[rows["signature"].duplicated(), "signature"].iloc[0]
        raise ValueError(f"signatures: {twice} has more than one row in service {service!r}: pass one row a signature")

    at = datetime.combine(day + timedelta(days=1), time(), UTC)
    people = SamplerOverlay({} if overlay is None else {"overrides": overlay_document(overlay)["overrides"]})
    said = [people.ruling(*of, at) for of in zip(rows["signature"], rows["template"], strict=True)]
    volumes = severity_volumes(rows)
    bytes_per_log = ratio(rows["weighted_bytes"].to_numpy(float), rows["weighted_logs"].to_numpy(float))
    judged = {judgement.signature: judgement for judgement in judgements}
    worth = np.array([judged[s].worth if s in judged else settings.default_worth for s in rows["signature"]])
    budget = budget_of(settings, float(volumes.sum(axis=1) @ bytes_per_log), share)
    sampled, errors = volumes[:, SAMPLED].sum(axis=1), volumes[:, ERRORS].sum(axis=1)
    per_log = bytes_per_log if budget.unit == "bytes" else np.ones(len(rows))

    whole = _kept_whole(rows, volumes, anomalies, said, settings)
    _add_must_keep(whole, worth, sampled * per_log, budget.amount, said, settings)
    pinned = np.array([why is not None for why in whole])
    ceiling = np.array([_round(ruling.cap, math.floor) for ruling in said])
    floor = np.minimum(_floors(rows, sampled, settings), ceiling)

    def found_with(floors: NDArray[np.float64]) -> tuple[Rates, NDArray[np.float64]]:
        # One more row for all error logs: they are kept whoever they belong to, and take their part of the budget.
        found = optimise(
            np.append(sampled, errors.sum()),
            np.append(sampled * per_log, errors @ per_log),
            np.append(worth, 1.0),
            np.append(floors, 1.0),
            np.append(pinned, True),
            budget.amount,
            np.append(ceiling, 1.0),
        )
        # Down, so that rounding spends no more than the budget; floors are rounded up before, so none is undercut.
        rates = [max(_round(rate, math.floor), low) for rate, low in zip(found.rates[:-1], floors, strict=True)]
        return found, np.where(pinned, 1.0, rates)

    listed = _listed(rows, whole, settings)
    goal, goals = found_with(floor)
    found, rates = goal, goals
    ramp: RampFloors | None = None
    if before is not None:
        names, templates = rows["signature"].tolist(), rows["template"].tolist()
        ramp = ramp_floors(names, templates, before, day, settings.fall_a_day, settings.min_rate)
        # What is not listed has no rate of its own that could fall.
        raised = np.array(
            [_round(rate, math.ceil) if own else 0.0 for rate, own in zip(ramp.floors, listed, strict=True)]
        )
        found, rates = found_with(np.minimum(np.maximum(floor, raised), ceiling))

    severity_rates, global_rate = _severity_rates(rows, volumes, rates, settings)
    policy = Policy(
        team_id=team_id,
        service=service,
        environment=environment,
        day=day,
        global_rate=global_rate,
        severity_rates=severity_rates,  # type: ignore[arg-type]
        pattern_rates=tuple(
            PatternRate(
                signature=rows["signature"][i],
                template=rows["template"][i],
                rate=rates[i],
                goal=None if ramp is None else goals[i],
                worth=worth[i],
                reason=_reason(whole[i], rates[i], goals[i], floor[i], said[i].cap, judged.get(rows["signature"][i])),
                category=judged[rows["signature"][i]].category if rows["signature"][i] in judged else "other",
            )
            for i in np.flatnonzero(listed)
        ),
        unknown=Unknown(first_per_hour=settings.unknown_first_per_hour),
        floors=Floors(min_rate=min(_round(settings.min_rate, math.ceil), *ceiling), per_hour=settings.floor_per_hour),
        generated_by="rules" if llm_model is None else "llm",
        llm_model=llm_model,
    )
    in_force = [
        float(sampled * bytes_per_log @ r.rates[:-1] + errors @ bytes_per_log) if budget.unit == "logs" else r.in_force
        for r in (found, goal)
    ]
    expected = expected_effect(policy, rows, people, at).model_copy(
        update={
            "budget_kind": budget.kind,
            "budget_asked": budget.asked,
            "budget_needed": round(found.needed, 3),
            "budget_bytes": round(budget.amount, 3) if budget.unit == "bytes" else None,
            "budget_logs": round(budget.amount, 3) if budget.unit == "logs" else None,
            "budget_in_force": round(in_force[0], 3),
        }
    )
    on_the_way = ramp and Ramp(
        fall=settings.fall_a_day,
        window_fingerprint=ramp.fingerprint,
        days_to_go=days_to_go(rates, goals, settings.fall_a_day),
        goal_in_force=in_force[1],
    )
    policy = policy.model_copy(update={"expected": expected, "ramp": on_the_way})
    reasoning = _reasoning(policy, whole, rates, found, goal, budget, said, listed)
    return policy.model_copy(update={"reasoning": f"{reasoning} {judged_by}".strip()})


_NEVER, _NEW, _ANOMALY = "never to be sampled", "new", "under an anomaly"
_WHY = {
    _NEVER: "a person says it is never sampled",
    "error-like": "its text reads like an error",
    "errors": "most of its logs are errors",
    _NEW: "new today",
    _ANOMALY: "under an anomaly today",
    "rare": "rare",
    "must keep": "judged a must-keep",
    "rest": "too rare to be told apart",
}


def _kept_whole(
    rows: pd.DataFrame,
    volumes: NDArray[np.float64],
    anomalies: pd.DataFrame,
    said: Sequence[Ruling],
    settings: PolicySettings,
) -> list[str | None]:
    """Why each pattern is kept whole, a key of `_WHY`, or None.

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
            (_NEVER, said[i].never_sample),
            ("error-like", error_like(template) and not said[i].lifted),
        )
        then = (
            ("rest", template == REST_MESSAGE),
            ("errors", error_share[i] >= settings.error_share),
            (_NEW, signature in new),
            (_ANOMALY, signature in anomalous),
            ("rare", logs[i] < settings.rare_logs),
        )
        tests = first + then if said[i].cap == 1.0 else first
        whole.append(next((why for why, holds in tests if holds), None))
    return whole


def _add_must_keep(
    whole: list[str | None],
    worth: NDArray[np.float64],
    cost: NDArray[np.float64],
    budget: float,
    said: Sequence[Ruling],
    settings: PolicySettings,
) -> None:
    """Mark those judged must-keep, the smallest first, while they stay within their share of the budget.

    A judgement is a proposal: one pattern of much volume called a must-keep would otherwise spend what all need.
    """
    candidates = [
        i for i, why in enumerate(whole) if why is None and said[i].cap == 1.0 and worth[i] >= settings.must_keep_worth
    ]
    left = settings.must_keep_share * budget
    for i in sorted(candidates, key=lambda i: (cost[i], i)):
        left -= cost[i]
        if left < 0:
            return
        whole[i] = "must keep"


def _floors(rows: pd.DataFrame, sampled: NDArray[np.float64], settings: PolicySettings) -> NDArray[np.float64]:
    """The least rate of each pattern, rounded up.

    Per active hour on average: a floor for each hour by itself would keep a pattern whole for one hour with few logs.
    """
    active = (hours_matrix(rows) > 0).sum(axis=1)
    per_hour = ratio(settings.floor_per_hour * active, sampled)
    return np.array([_round(min(max(rate, settings.min_rate), 1.0), math.ceil) for rate in per_hour])


def _listed(rows: pd.DataFrame, whole: list[str | None], settings: PolicySettings) -> NDArray[np.bool_]:
    """Which patterns the policy lists: all that are kept whole, and of those sampled the ones of most logs up to the
    limit.

    The limit cannot reach what is kept whole: unlisted, a rare pattern would be thinned like an unknown one. Nor can
    many rare patterns push the large ones off the list. Rest-rows are never listed: no message at the edge matches
    them.
    """
    logs = rows["weighted_logs"].to_numpy(float)
    listed = np.array([why is not None and why != "rest" for why in whole], dtype=bool)
    sampled = sorted((i for i, why in enumerate(whole) if why is None), key=lambda i: (-logs[i], i))
    listed[sampled[: settings.max_patterns]] = True
    return listed


def _severity_rates(
    rows: pd.DataFrame, volumes: NDArray[np.float64], rates: NDArray[np.float64], settings: PolicySettings
) -> tuple[dict[str, float], float]:
    """The rates of severities that had logs, and the global rate: what their patterns' rates come to on average.

    Messages that read like errors are left out, as they never get here. A severity is kept no less than a lower one:
    where the averages say otherwise, neighbours share theirs (isotonic regression by pooling adjacent violators,
    weighted by logs), so that a lower severity's few logs cannot lift a higher one's many.
    """
    least = _round(settings.min_rate, math.ceil)
    plain = np.array([not error_like(template) for template in rows["template"]])
    logs, kept = volumes[plain].sum(axis=0), (volumes[plain] * rates[plain, None]).sum(axis=0)

    def rate(pool: list[int]) -> float:
        return min(max(_round(float(kept[pool].sum() / logs[pool].sum()), math.floor), least), 1.0)

    pools: list[list[int]] = []  # of severities; compared by their rounded rates, as those stand in the policy
    for rank in SAMPLED:
        if logs[rank] > 0:
            pools.append([rank])
        while len(pools) > 1 and rate(pools[-2]) > rate(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    by_severity = {SEVERITIES[rank]: rate(pool) for pool in pools for rank in pool}
    by_severity |= dict.fromkeys(ERROR_SEVERITIES, 1.0)
    all_logs = float(logs[SAMPLED].sum())
    overall = _round(float(kept[SAMPLED].sum()) / all_logs, math.floor) if all_logs > 0 else 1.0
    return by_severity, min(max(overall, least), 1.0)


def _reason(why: str | None, rate: float, goal: float, floor: float, cap: float, judgement: Judgement | None) -> str:
    if why is not None:
        first = f"Kept whole: {_WHY[why]}."
    elif rate >= cap < 1.0:
        first = f"A person capped it at {cap:g}."
    elif rate > goal * (1 + 1e-3):
        first = f"On its way down to {goal:g}."
    elif floor >= 1.0:
        first = "Kept whole: the floor is all of its logs."
    elif rate >= 1.0:
        first = "Kept whole: the budget allows it."
    elif rate <= floor:
        first = "At its floor."
    else:
        first = "By worth and volume."
    return f"{first} {judgement.reason}" if judgement else first


def _reasoning(
    policy: Policy,
    whole: list[str | None],
    rates: NDArray[np.float64],
    found: Rates,
    goal: Rates,
    budget: Budget,
    said: Sequence[Ruling],
    listed: NDArray[np.bool_],
) -> str:
    expected = policy.expected
    logged = expected.logs if budget.unit == "logs" else expected.bytes
    sentences = [
        f"{budget.words}, of {amount(logged, budget.unit)} that {policy.service or 'the service'} logged on "
        f"{policy.day}."
    ]

    def much(value: float) -> bool:
        return value > 1e-6 * max(budget.amount, 1.0)

    if much(goal.shortfall):
        sentences.append(
            f"Floors and what is kept whole need {amount(goal.in_force, budget.unit)}, "
            f"{amount(goal.shortfall, budget.unit)} more: that is the budget in force, and everything else is at its "
            "floor."
        )
    if much(found.in_force - goal.in_force):
        sentences.append(
            f"As rates fall step by step, {amount(found.in_force, budget.unit)} are in force this time, "
            f"{amount(found.in_force - goal.in_force, budget.unit)} more."
        )
    if policy.ramp and policy.ramp.days_to_go:
        days = "the next day" if policy.ramp.days_to_go == 1 else f"in {policy.ramp.days_to_go} days"
        sentences.append(f"Rates keep at least {policy.ramp.fall:g} of the day before's and are at their goals {days}.")
    if capped := sum(ruling.cap < 1.0 for ruling in said):
        sentences.append(f"People capped {capped} of the patterns.")
    counts = {why: whole.count(why) for why in _WHY if whole.count(why)}
    own = rates[listed]
    thinned = own[own < 1.0]
    reasons = [whole[i] for i in np.flatnonzero(listed)]
    if others := int((own >= 1.0).sum()) - sum(why is not None for why in reasons):
        counts["by their floors or with room in the budget"] = others
    if counts:
        kinds = ", ".join(f"{count} {why}" for why, count in counts.items())
        sentences.append(f"Of {len(whole)} patterns {sum(counts.values())} are kept whole ({kinds}).")
    if len(thinned):
        sentences.append(
            f"{len(thinned)} are sampled, at rates from {thinned.min():g} to {thinned.max():g}, by worth and volume, "
            f"as judged by {policy.llm_model or 'rules'}."
        )
    else:
        sentences.append("None is sampled.")
    if unlisted := whole.count(None) - reasons.count(None):
        sentences.append(
            f"{unlisted} are not listed, having the fewest logs, and are treated as unknown: the first "
            f"{policy.unknown.first_per_hour} an hour are kept, then the severity's rate."
        )
    sentences.append("Errors, and messages that read like one, are kept whole at every severity.")
    sentences.append(
        f"Expected to be kept: {expected.kept_logs:,.0f} of {expected.logs:,.0f} logs, "
        f"{size(expected.kept_bytes)} of {size(expected.bytes)} ({expected.share:.1%})."
    )
    return " ".join(sentences)


def _check_scope(name: str, frame: pd.DataFrame, team_id: int, service: str, environment: str, day: date) -> None:
    scope = {"team_id": team_id, "service": service, "environment": environment, "day": day}
    for column, wanted in scope.items():
        others = frame.loc[frame[column] != wanted, column]
        if len(others):
            raise ValueError(
                f"{name}: {len(others)} of {len(frame)} rows have {column} {others.iloc[0]!r}, the policy is for "
                f"{wanted!r}: pass the rows of one service and environment of one team-day"
            )


def _round(rate: float, way: Any) -> float:
    """The rate to as many significant digits as policies keep, up (math.ceil) or down (math.floor)."""
    rate = float(rate)
    if rate <= 0.0 or round_rate(rate) == rate:
        return rate
    unit = 10.0 ** (math.floor(math.log10(rate)) + 1 - RATE_DIGITS)
    # What misses a step by the noise of floating point is on it.
    steps = rate / unit
    return round_rate((round(steps) if math.isclose(steps, round(steps), rel_tol=1e-9) else way(steps)) * unit)
