"""The ramp: rates fall at most by the factor a day, from goals alone, and say when they have arrived."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.core import frames
from lipservice_dagster.core.make_policy import make_policy
from lipservice_dagster.core.policy import Policy, parse, to_json
from lipservice_dagster.core.policy_problem import ServiceDay
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.ramp import days_to_go, ramp_floors, window_days
from lipservice_sampler.text import signature

FIRST = date(2026, 9, 1)
TEMPLATES = ["GET <*> took <*>", "cache miss <*>", "order <*> created", "job <*> failed"]


def day(i: int) -> date:
    return FIRST + timedelta(days=i)


def signatures(i: int, logs: dict[str, int]) -> pd.DataFrame:
    """Rows of SIGNATURES of day i: info logs by template, 100 bytes each."""
    rows = [
        dict.fromkeys(frames.SIGNATURES)
        | {
            "team_id": 7,
            "day": day(i),
            "service": "shop",
            "environment": "",
            "signature": signature("shop", template),
            "template": template,
            "logs": n,
            "bytes": n * 100,
            "weighted_logs": float(n),
            "weighted_bytes": n * 100.0,
            "hours": np.full(24, n / 24),
            "severities": np.array([0, 0, n, 0, 0, 0]),
            "messages": 1,
            "example": template,
        }
        for template, n in logs.items()
    ]
    return pd.DataFrame(rows, columns=list(frames.SIGNATURES))


def make(i: int, logs: dict[str, int], before: list[Policy] | None, **changed: float) -> Policy:
    asked = PolicySettings(**({"target_reduction": 0.9} | changed))  # type: ignore[arg-type]
    none = frames.empty(frames.ANOMALIES)
    return make_policy(7, day(i), ServiceDay("shop", "", signatures(i, logs), none, before=before), [], asked)


def rates(policy: Policy) -> dict[str, float]:
    return {entry.template: entry.rate for entry in policy.pattern_rates}


BULK = {TEMPLATES[0]: 1_000_000, TEMPLATES[1]: 300_000}


def series(days: list[dict[str, int]], **changed: float) -> list[Policy]:
    made: list[Policy] = []
    for i, logs in enumerate(days):
        made.append(make(i, logs, made, **changed))
    return made


def test_rates_halve_from_keep_all_until_they_are_at_their_goals():
    made = series([BULK] * 6)
    without = make(5, BULK, None)
    assert [rates(p)[TEMPLATES[0]] for p in made[:5]] == [0.5, 0.25, 0.125, 0.0625, rates(without)[TEMPLATES[0]]]
    assert rates(made[-1]) == rates(without)
    assert [p.ramp and p.ramp.days_to_go for p in made] == [4, 3, 2, 1, 0, 0]


def test_the_budget_in_force_says_what_the_ramp_needs_and_when_it_has_arrived():
    first, second, *_, last = series([BULK] * 6)
    assert first.expected.budget_bytes == pytest.approx(13_000_000)
    assert first.expected.budget_in_force == pytest.approx(0.5 * 1_300_000 * (100 + 29))
    assert first.ramp
    assert first.ramp.goal_in_force == pytest.approx(13_000_000)
    assert "83.8 MB are in force this time, 70.8 MB more." in first.reasoning
    assert "Rates keep at least 0.5 of the day before's and are at their goals in 4 days." in first.reasoning
    assert "On its way down to" in first.pattern_rates[0].reason
    assert second.expected.budget_in_force == pytest.approx(0.25 * 1_300_000 * (100 + 29))
    assert last.expected.budget_in_force == last.expected.budget_bytes
    assert "step by step" not in last.reasoning


def test_rates_rise_at_once():
    made = series([BULK] * 6)
    risen = make(6, BULK, made, target_reduction=0.1)
    assert rates(risen) == rates(make(6, BULK, None, target_reduction=0.1))


def test_a_pattern_not_listed_the_day_before_starts_from_one():
    made = series([BULK] * 6)
    more = BULK | {TEMPLATES[2]: 500_000}
    found = make(6, more, made)
    assert rates(found)[TEMPLATES[2]] == 0.5
    assert rates(found)[TEMPLATES[0]] < 0.1


def test_days_are_joined_by_what_templates_match_and_not_by_their_names():
    specific = {"user alice logged in": 400_000, "user bob logged in": 500_000, TEMPLATES[0]: 1_000_000}
    general = {"user <*> logged in": 900_000, TEMPLATES[0]: 1_000_000}
    for before, after in ((specific, general), (general, specific)):
        made = series([before] * 6)
        highest = max(goal for t, goal in rates(made[-1]).items() if t.startswith("user"))
        found = ramp_floors(
            [signature("shop", t) for t in after], list(after), made, day(6), PolicySettings().fall_a_day, 0.01
        )
        users = [floor for t, floor in zip(after, found.floors, strict=True) if t.startswith("user")]
        assert users == pytest.approx([0.5 * highest] * len(users), rel=0.4)
        assert max(users) < 0.25


volumes = st.dictionaries(st.sampled_from(TEMPLATES), st.sampled_from([50, 5_000, 100_000, 2_000_000]), min_size=1)


@settings(max_examples=40)
@given(st.lists(volumes, min_size=2, max_size=6), st.sampled_from([0.3, 0.5, 0.8]), st.sampled_from([0.5, 0.9, 0.98]))
def test_no_rate_falls_faster_than_the_ramp(days, fall, reduction):
    made = series(days, fall_a_day=fall, target_reduction=reduction)
    for before, after in pairwise(made):
        known = rates(before)
        for template, rate in rates(after).items():
            assert rate >= fall * known.get(template, 1.0) * (1 - 1e-3)


@settings(max_examples=20)
@given(st.lists(volumes, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_a_day_made_again_is_equal_whatever_later_days_and_their_order_were(days, random):
    made = series(days)
    stored = made[:-1]
    random.shuffle(stored)
    assert to_json(make(len(days) - 1, days[-1], stored)) == to_json(made[-1])
    again = make(0, days[0], [])
    assert to_json(again) == to_json(made[0])
    assert parse(to_json(made[-1])) == made[-1]


def test_goals_beyond_the_window_hold_nothing_up():
    assert [window_days(fall, 0.01) for fall in (0.5, 0.1, 0.9)] == [7, 2, 44]
    made = series([BULK] * 12)
    assert to_json(make(12, BULK, made)) == to_json(make(12, BULK, made[-7:]))


def test_a_service_that_was_silent_for_the_window_begins_anew():
    silent = make(20, BULK, series([BULK] * 6))
    assert rates(silent) == rates(make(20, BULK, []))


def test_a_gap_makes_rates_higher_and_never_lower():
    made = series([BULK] * 6)
    whole = make(6, BULK, made)
    for gap in range(6):
        found = rates(make(6, BULK, made[:gap] + made[gap + 1 :]))
        assert all(found[t] >= rate for t, rate in rates(whole).items())


def test_days_that_are_not_before_are_refused():
    with pytest.raises(ValueError, match="follows from days before it, not from 2026-09-01"):
        make(0, BULK, series([BULK]))


def test_days_to_go_are_those_until_the_last_rate_is_at_its_goal():
    goals = np.array([0.1, 0.02, 1.0])
    assert days_to_go(np.array([0.5, 0.5, 1.0]), goals, 0.5) == 5
    assert days_to_go(goals, goals, 0.5) == 0
    assert days_to_go(np.array([0.2, 0.02, 1.0]), goals, 0.5) == 1
