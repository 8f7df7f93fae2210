"""From a team-day's signatures, anomalies and judgements to the policies of its services and environments.

What belongs here: the budget and who shares it, severity rates, and the document. What is asked of the optimiser stands
in `core.policy_problem`, the words in `core.policy_words`, the expected effect in `core.effect`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipservice_dagster.core.budget import budget_of, of_team
from lipservice_dagster.core.effect import SAMPLED, expected_effect
from lipservice_dagster.core.frames import ERROR_SEVERITIES, SEVERITIES
from lipservice_dagster.core.judgements import Judgement
from lipservice_dagster.core.policy import Floors, PatternRate, Policy, Ramp, Unknown, keep_all
from lipservice_dagster.core.policy_problem import Found, Problem, ServiceDay, add_must_keep, found, rounded, state
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.policy_words import reason, reasoning
from lipservice_dagster.core.ramp import RampFloors, days_to_go
from lipservice_sampler.decision import error_like


def make_policies(
    team_id: int,
    day: date,
    services: Sequence[ServiceDay],
    judgements: Sequence[Judgement],
    settings: PolicySettings,
) -> list[Policy]:
    """The policies of a team's services and environments, made from one day, in their order; keep-all of a service
    without logs.

    Kept whole are: messages that read like errors, patterns most of whose logs are errors, new patterns, patterns under
    an anomaly of the day, rare ones, and, within their share of the budget, those judged must-keep. The others share
    what is left of the budget by worth (`core.sampling`), none below its floor: of the service's budget where each has
    its own, of the team's, over all services at once, where it has one. Single error logs of a sampled pattern are kept
    by the decision, and are paid for before the others.

    People come first: what they said is never sampled is kept whole and paid for, what they capped stays at or below
    its cap, whatever else would keep it whole, and what they lifted is not kept for reading like an error.

    Args:
        team_id: of the policies.
        day: the UTC day.
        services: all of the team's on the day; with a budget of the team, what is left out has no part of it.
        judgements: of any signatures; one without gets ``settings.default_worth``.
        settings: limits and defaults, with the team's budget (`PolicySettings.of_team`).

    Raises:
        ValueError: rows of another scope, or a signature twice.
    """
    judged = {judgement.signature: judgement for judgement in judgements}
    problems = {i: state(team_id, day, of, judged, settings) for i, of in enumerate(services) if len(of.signatures)}
    shared = [list(problems)] if of_team(settings) else [[i] for i in problems]
    made = {i: keep_all(team_id, of.service, of.environment, day) for i, of in enumerate(services)}
    for places in filter(None, shared):
        together = [problems[i] for i in places]
        budget = budget_of(settings, sum(problem.bytes for problem in together))
        add_must_keep(together, budget, settings)
        goals = found(together, budget)
        ramps = [problem.ramp() for problem in together]
        rates = goals
        if any(ramp is not None for ramp in ramps):
            raised = [
                problem.floor if ramp is None else np.minimum(np.maximum(problem.floor, ramp.floors), problem.ceiling)
                for problem, ramp in zip(together, ramps, strict=True)
            ]
            rates = found(together, budget, raised)
        for i, problem, goal, now, ramp in zip(places, together, goals, rates, ramps, strict=True):
            made[i] = _policy(team_id, day, problem, goal, now, ramp)
    return [made[i] for i in range(len(services))]


def make_policy(
    team_id: int, day: date, of: ServiceDay, judgements: Sequence[Judgement], settings: PolicySettings
) -> Policy:
    """The policy of a service that is all its team has; see `make_policies`."""
    return make_policies(team_id, day, [of], judgements, settings)[0]


def _policy(team_id: int, day: date, problem: Problem, goal: Found, now: Found, ramp: RampFloors | None) -> Policy:
    """The document of these rates."""
    rows, settings, listed, of = problem.rows, problem.settings, problem.listed, problem.of
    judged = [problem.judged.get(signature) for signature in rows["signature"]]
    severity_rates, global_rate = _severity_rates(rows, problem.volumes, now.rates, settings)
    policy = Policy(
        team_id=team_id,
        service=of.service,
        environment=of.environment,
        day=day,
        global_rate=global_rate,
        severity_rates=severity_rates,  # type: ignore[arg-type]
        pattern_rates=tuple(
            PatternRate(
                signature=rows["signature"][i],
                template=rows["template"][i],
                rate=now.rates[i],
                goal=None if ramp is None else goal.rates[i],
                worth=problem.worth[i],
                reason=reason(problem, i, now.rates[i], goal.rates[i]),
                category=entry.category if (entry := judged[i]) else "other",
            )
            for i in np.flatnonzero(listed).tolist()
        ),
        unknown=Unknown(first_per_hour=settings.unknown_first_per_hour),
        floors=Floors(
            min_rate=min(rounded(settings.min_rate, math.ceil), *problem.ceiling), per_hour=settings.floor_per_hour
        ),
        generated_by="rules" if of.llm_model is None else "llm",
        llm_model=of.llm_model,
    )
    budget, effect = now.budget, expected_effect(policy, rows, problem.people, problem.at)
    # The first logs of an hour of patterns that are not listed are kept by no rate of the optimiser's: where they take
    # the policy beyond its budget, they are needed: a budget of logs by its logs too, as its bytes reckon with stamps.
    kept = effect.kept_bytes if budget.unit == "bytes" else effect.kept_logs
    pairs = (kept, now.in_force), (effect.kept_bytes, now.in_force_bytes)
    beyond = any(what > most * (1 + 1e-9) + 0.01 for what, most in pairs)
    expected = effect.model_copy(
        update={
            "budget_kind": budget.kind,
            "budget_asked": budget.asked,
            "budget_needed": round(max(now.needed, kept) if beyond else now.needed, 3),
            "budget_bytes": round(budget.amount, 3) if budget.unit == "bytes" else None,
            "budget_logs": round(budget.amount, 3) if budget.unit == "logs" else None,
            "budget_in_force": round(max(effect.kept_bytes, now.in_force_bytes) if beyond else now.in_force_bytes, 3),
        }
    )
    on_the_way = ramp and Ramp(
        fall=settings.fall_a_day,
        window_fingerprint=ramp.fingerprint,
        days_to_go=days_to_go(now.rates, goal.rates, settings.fall_a_day),
        goal_in_force=goal.in_force_bytes,
    )
    policy = policy.model_copy(update={"expected": expected, "ramp": on_the_way})
    return policy.model_copy(update={"reasoning": reasoning(policy, problem, now, goal)})


def _severity_rates(
    rows: pd.DataFrame, volumes: NDArray[np.float64], rates: NDArray[np.float64], settings: PolicySettings
) -> tuple[dict[str, float], float]:
    """The rates of severities that had logs, and the global rate: what their patterns' rates come to on average.

    Messages that read like errors are left out, as they never get here. A severity is kept no less than a lower one:
    where the averages say otherwise, neighbours share theirs (isotonic regression by pooling adjacent violators,
    weighted by logs), so that a lower severity's few logs cannot lift a higher one's many.
    """
    least = rounded(settings.min_rate, math.ceil)
    plain = np.array([not error_like(template) for template in rows["template"]])
    logs, kept = volumes[plain].sum(axis=0), (volumes[plain] * rates[plain, None]).sum(axis=0)

    def rate(pool: list[int]) -> float:
        return min(max(rounded(float(kept[pool].sum() / logs[pool].sum()), math.floor), least), 1.0)

    pools: list[list[int]] = []  # of severities; compared by their rounded rates, as those stand in the policy
    for rank in SAMPLED:
        if logs[rank] > 0:
            pools.append([rank])
        while len(pools) > 1 and rate(pools[-2]) > rate(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    by_severity = {SEVERITIES[rank]: rate(pool) for pool in pools for rank in pool}
    by_severity |= dict.fromkeys(ERROR_SEVERITIES, 1.0)
    all_logs = float(logs[SAMPLED].sum())
    overall = rounded(float(kept[SAMPLED].sum()) / all_logs, math.floor) if all_logs > 0 else 1.0
    return by_severity, min(max(overall, least), 1.0)
