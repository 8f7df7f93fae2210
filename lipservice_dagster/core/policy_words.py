"""A policy in words: why each pattern has its rate, and what the policy as a whole comes to."""

from __future__ import annotations

import numpy as np

from lipservice_dagster.core.budget import amount, size
from lipservice_dagster.core.policy import Policy
from lipservice_dagster.core.policy_problem import WHY, Found, Problem


def reason(problem: Problem, i: int, rate: float, goal: float) -> str:
    """Why the i-th pattern has its rate, with what was judged of it."""
    why, floor, cap = problem.whole[i], problem.floor[i], problem.said[i].cap
    if why is not None:
        first = f"Kept whole: {WHY[why]}."
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
    judgement = problem.judged.get(problem.rows["signature"][i])
    return f"{first} {judgement.reason}" if judgement else first


def reasoning(policy: Policy, problem: Problem, now: Found, goal: Found) -> str:
    """The policy in sentences: its budget, what it needs, what is kept whole and sampled, and what that comes to.

    ``now`` and ``goal``: the answers with the ramp and without.
    """
    whole, budget, listed = problem.whole, goal.budget, problem.listed
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
    if much(now.in_force - goal.in_force):
        sentences.append(
            f"As rates fall step by step, {amount(now.in_force, budget.unit)} are in force this time, "
            f"{amount(now.in_force - goal.in_force, budget.unit)} more."
        )
    if policy.ramp and policy.ramp.days_to_go:
        days = "the next day" if policy.ramp.days_to_go == 1 else f"in {policy.ramp.days_to_go} days"
        sentences.append(f"Rates keep at least {policy.ramp.fall:g} of the day before's and are at their goals {days}.")
    if capped := sum(ruling.cap < 1.0 for ruling in problem.said):
        sentences.append(f"People capped {capped} of the patterns.")
    counts = {why: whole.count(why) for why in WHY if whole.count(why)}
    own = now.rates[listed]
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
    if much((expected.budget_in_force or 0.0) - now.in_force_bytes):
        sentences.append(
            f"That needs {size((expected.budget_in_force or 0.0) - now.in_force_bytes)} more, which are in force too."
        )
    sentences.append("Errors, and messages that read like one, are kept whole at every severity.")
    sentences.append(
        f"Expected to be kept: {expected.kept_logs:,.0f} of {expected.logs:,.0f} logs, "
        f"{size(expected.kept_bytes)} of {size(expected.bytes)} ({expected.share:.1%})."
    )
    return f"{' '.join(sentences)} {problem.of.judged_by}".strip()
