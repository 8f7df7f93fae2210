"""From a day's signatures, anomalies and judgements to the policy of a service and environment.

What belongs here: which patterns are kept whole and why, floors, the budget, severity rates, and the words. The rates
come from `core.sampling`, the expected effect from `core.effect`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lipservice_dagster.core.effect import ERRORS, SAMPLED, expected_effect, ratio, severity_volumes
from lipservice_dagster.core.frames import ERROR_SEVERITIES, REST_MESSAGE, SEVERITIES, hours_matrix
from lipservice_dagster.core.judgements import WORTH, Judgement
from lipservice_dagster.core.policy import (
    RATE_DIGITS,
    Expected,
    Floors,
    PatternRate,
    Policy,
    Unknown,
    keep_all,
    round_rate,
)
from lipservice_dagster.core.sampling import Rates, optimise
from lipservice_sampler.decision import error_like


class PolicySettings(BaseModel):
    """Limits and defaults of policy making."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_reduction: float = Field(
        default=0.7, ge=0.0, lt=1.0, description="Share of a day's bytes to save, where budget_bytes is unset."
    )
    budget_bytes: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="Bytes a day to keep at most; comes before target_reduction.",
    )
    min_rate: float = Field(default=0.01, gt=0.0, le=1.0, description="The least rate of anything.")
    floor_per_hour: float = Field(
        default=10.0, ge=0.0, allow_inf_nan=False, description="Logs kept of a pattern in an active hour, on average."
    )
    rare_logs: float = Field(
        default=100.0, ge=0.0, allow_inf_nan=False, description="A pattern with fewer logs a day is kept whole."
    )
    error_share: float = Field(
        default=0.5, gt=0.0, le=1.0, description="A pattern of whose logs this share are errors is kept whole."
    )
    must_keep_worth: float = Field(
        default=WORTH["must_keep"], ge=0.0, description="A pattern judged worth this much is kept whole."
    )
    must_keep_share: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="Share of the budget that patterns kept whole by judgement may take, the smallest first; the "
        "others are sampled by their worth.",
    )
    default_worth: float = Field(
        default=WORTH["normal"], ge=0.0, le=1.0, description="Worth of a pattern without a judgement."
    )
    unknown_first_per_hour: int = Field(
        default=10,
        ge=0,
        description="Logs of each unlisted pattern that are kept in an hour before its severity's rate.",
    )
    max_patterns: int = Field(
        default=5_000, ge=0, description="Patterns a policy lists; those of fewest logs beyond are unlisted."
    )


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
    judged_by: str = "",
) -> Policy:
    """The policy of a service and environment, made from one day; keep-all where the day has no logs.

    Kept whole are: messages that read like errors, patterns most of whose logs are errors, new patterns, patterns under
    an anomaly of the day, rare ones, and, within their share of the budget, those judged must-keep. The others share
    what is left of the budget by worth (`core.sampling`), none below its floor. Single error logs of a sampled pattern
    are kept by the decision, and are paid for before the others.

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

    volumes = severity_volumes(rows)
    bytes_per_log = ratio(rows["weighted_bytes"].to_numpy(float), rows["weighted_logs"].to_numpy(float))
    judged = {judgement.signature: judgement for judgement in judgements}
    worth = np.array([judged[s].worth if s in judged else settings.default_worth for s in rows["signature"]])
    total_bytes = float(volumes.sum(axis=1) @ bytes_per_log)
    budget = settings.budget_bytes or (1.0 - settings.target_reduction) * total_bytes
    sampled = volumes[:, SAMPLED].sum(axis=1)

    whole = _kept_whole(rows, volumes, anomalies, settings)
    _add_must_keep(whole, worth, sampled * bytes_per_log, budget, settings)
    pinned = np.array([why is not None for why in whole])
    floor = _floors(rows, sampled, settings)
    errors = volumes[:, ERRORS].sum(axis=1)
    # One more row for all error logs: they are kept whoever they belong to, and take their part of the budget.
    found = optimise(
        np.append(sampled, errors.sum()),
        np.append(sampled * bytes_per_log, errors @ bytes_per_log),
        np.append(worth, 1.0),
        np.append(floor, 1.0),
        np.append(pinned, True),
        budget,
    )
    # Down, so that rounding spends no more than the budget; floors are rounded up before, so none is undercut.
    rates = np.array([max(_round(rate, math.floor), low) for rate, low in zip(found.rates[:-1], floor, strict=True)])
    rates[pinned] = 1.0

    listed = _listed(rows, whole, settings)
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
                worth=worth[i],
                reason=_reason(whole[i], rates[i], floor[i], judged.get(rows["signature"][i])),
                category=judged[rows["signature"][i]].category if rows["signature"][i] in judged else "other",
            )
            for i in np.flatnonzero(listed)
        ),
        unknown=Unknown(first_per_hour=settings.unknown_first_per_hour),
        floors=Floors(min_rate=_round(settings.min_rate, math.ceil), per_hour=settings.floor_per_hour),
        generated_by="rules" if llm_model is None else "llm",
        llm_model=llm_model,
    )
    expected = expected_effect(policy, rows, found)
    reasoning = _reasoning(policy, expected, whole, rates, found, settings, int((~listed).sum()))
    return policy.model_copy(update={"expected": expected, "reasoning": f"{reasoning} {judged_by}".strip()})


_NEW, _ANOMALY = "new", "under an anomaly"
_WHY = {
    "error-like": "its text reads like an error",
    "errors": "most of its logs are errors",
    _NEW: "new today",
    _ANOMALY: "under an anomaly today",
    "rare": "rare",
    "must keep": "judged a must-keep",
    "rest": "too rare to be told apart",
}


def _kept_whole(
    rows: pd.DataFrame, volumes: NDArray[np.float64], anomalies: pd.DataFrame, settings: PolicySettings
) -> list[str | None]:
    """Why each pattern is kept whole, a key of `_WHY`, or None."""
    of_patterns = anomalies[anomalies["scope"] == "pattern"]
    new = set(of_patterns.loc[of_patterns["kind"] == "new_pattern", "subject"])
    anomalous = set(of_patterns["subject"])
    logs = volumes.sum(axis=1)
    error_share = ratio(volumes[:, ERRORS].sum(axis=1), logs)
    whole: list[str | None] = []
    for i, (signature, template) in enumerate(zip(rows["signature"], rows["template"], strict=True)):
        tests = (
            ("rest", template == REST_MESSAGE),
            ("error-like", error_like(template)),
            ("errors", error_share[i] >= settings.error_share),
            (_NEW, signature in new),
            (_ANOMALY, signature in anomalous),
            ("rare", logs[i] < settings.rare_logs),
        )
        whole.append(next((why for why, holds in tests if holds), None))
    return whole


def _add_must_keep(
    whole: list[str | None],
    worth: NDArray[np.float64],
    bytes_: NDArray[np.float64],
    budget: float,
    settings: PolicySettings,
) -> None:
    """Mark those judged must-keep, the smallest first, while they stay within their share of the budget.

    A judgement is a proposal: one pattern of much volume called a must-keep would otherwise spend what all need.
    """
    candidates = [i for i, why in enumerate(whole) if why is None and worth[i] >= settings.must_keep_worth]
    left = settings.must_keep_share * budget
    for i in sorted(candidates, key=lambda i: (bytes_[i], i)):
        left -= bytes_[i]
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
    """Which patterns the policy lists: all, or those new or anomalous and then those of most logs up to the limit.

    Rest-rows are never listed: no message at the edge matches them.
    """
    logs = rows["weighted_logs"].to_numpy(float)
    matchable = [i for i in range(len(rows)) if whole[i] != "rest"]
    order = sorted(matchable, key=lambda i: (whole[i] not in (_NEW, _ANOMALY), -logs[i], i))
    listed = np.zeros(len(rows), dtype=bool)
    listed[order[: settings.max_patterns]] = True
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


def _reason(why: str | None, rate: float, floor: float, judgement: Judgement | None) -> str:
    if why is not None:
        first = f"Kept whole: {_WHY[why]}."
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
    expected: Expected,
    whole: list[str | None],
    rates: NDArray[np.float64],
    found: Rates,
    settings: PolicySettings,
    unlisted: int,
) -> str:
    asked = (
        f"The budget is {_size(found.budget_bytes)} a day"
        if settings.budget_bytes is not None
        else f"To save {settings.target_reduction:.0%} of the bytes, {_size(found.budget_bytes)} may be kept"
    )
    sentences = [f"{asked}, of {_size(expected.bytes)} that {policy.service or 'the service'} logged on {policy.day}."]
    if found.shortfall > 1e-6 * max(found.budget_bytes, 1.0):
        sentences.append(
            f"Floors and what is kept whole need {_size(found.budget_in_force)}, {_size(found.shortfall)} more: that "
            "is the budget in force, and everything else is at its floor."
        )
    counts = {why: whole.count(why) for why in _WHY if whole.count(why)}
    thinned = rates[rates < 1.0]
    if others := len(rates) - len(thinned) - sum(counts.values()):
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
    if unlisted:
        sentences.append(f"{unlisted} are not listed and are treated as unknown.")
    sentences.append("Errors, and messages that read like one, are kept whole at every severity.")
    sentences.append(
        f"Expected to be kept: {expected.kept_logs:,.0f} of {expected.logs:,.0f} logs, "
        f"{_size(expected.kept_bytes)} of {_size(expected.bytes)} ({expected.share:.1%})."
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


def _size(bytes_: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= size:
            return f"{bytes_ / size:.3g} {unit}"
    return f"{bytes_:.0f} bytes"
