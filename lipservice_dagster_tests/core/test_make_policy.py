"""Policy making: what is kept whole, floors, the budget, and an expected effect that is what the decision does."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.core import frames
from lipservice_dagster.core.budget import TeamBudget, budget_of, key_of, part_of
from lipservice_dagster.core.effect import expected_effect, severity_volumes
from lipservice_dagster.core.judgements import WORTH, Judgement
from lipservice_dagster.core.make_policy import make_policies, make_policy
from lipservice_dagster.core.overlay import Overlay
from lipservice_dagster.core.policy import Policy, document, parse, to_json
from lipservice_dagster.core.policy_problem import ServiceDay
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_sampler.decision import decide, error_like, expected_kept
from lipservice_sampler.records import stamp_octets
from lipservice_sampler.text import signature

DAY = date(2026, 9, 10)
NO_ANOMALIES = frames.empty(frames.ANOMALIES)


def name(i: int) -> str:
    return f"{i:016x}"


def row(i, template, severities, *, weight=1.0, per_log=100.0, hours=24):
    """A row of SIGNATURES; error logs weigh 1, as every policy keeps them."""
    severities = [severities.get(s, 0) for s in frames.SEVERITIES]
    weighted = sum(severities[:4]) * weight + sum(severities[4:])
    return {
        "team_id": 7,
        "day": DAY,
        "service": "checkout",
        "environment": "prod",
        "signature": name(i),
        "template": template,
        "logs": sum(severities),
        "bytes": int(sum(severities) * per_log),
        "weighted_logs": float(weighted),
        "weighted_bytes": weighted * per_log,
        "hours": np.array([weighted / hours] * hours + [0.0] * (24 - hours)),
        "severities": np.array(severities),
        "messages": 1,
        "first_seen": None,
        "last_seen": None,
        "example": template,
    }


def day_of(*rows) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(frames.SIGNATURES))


def anomaly(i, kind) -> dict:
    blank = dict.fromkeys(frames.ANOMALIES)
    return blank | {
        "team_id": 7,
        "day": DAY,
        "service": "checkout",
        "environment": "prod",
        "scope": "pattern",
        "subject": name(i),
        "kind": kind,
    }


def of(signatures, anomalies=NO_ANOMALIES, **more) -> ServiceDay:
    return ServiceDay("checkout", "prod", signatures, anomalies, **more)


def make(signatures, anomalies=NO_ANOMALIES, judgements=(), **changed) -> Policy:
    return make_policy(7, DAY, of(signatures, anomalies), judgements, PolicySettings(**changed))


def rates(policy: Policy) -> dict[str, float]:
    return {entry.signature: entry.rate for entry in policy.pattern_rates}


def reasons(policy: Policy) -> dict[str, str]:
    return {entry.signature: entry.reason for entry in policy.pattern_rates}


def met(kept: float | None, budget: float) -> bool:
    """Whether a budget is spent; what stamps cost is known to 3 octets a log, and not spent beyond."""
    assert kept is not None
    return 0.97 * budget <= kept <= budget * (1 + 1e-9) + 0.01


BULK = row(1, "GET <*> took <*>", {"info": 1_000_000})

TEMPLATES = [
    "GET <*> took <*>",
    "cache miss <*>",
    "job <*> failed",
    "exception in <*>",
    "order <*> created",
    "<*> errors",
    frames.REST_MESSAGE,
]


@st.composite
def days(draw):
    """Signatures of a day, anomalies and judgements of some of them."""
    counts = st.sampled_from([0, 0, 0, 1, 50, 5_000, 200_000])
    rows, anomalies, judgements = [], [], []
    for i in range(draw(st.integers(1, 7))):
        severities = {s: draw(counts) for s in frames.SEVERITIES}
        if not any(severities.values()):
            severities["info"] = 3
        rows.append(
            row(
                i,
                draw(st.sampled_from(TEMPLATES)),
                severities,
                weight=draw(st.sampled_from([1.0, 1.0, 20.0])),
                per_log=draw(st.sampled_from([40.0, 333.3, 2_000.0])),
                hours=draw(st.sampled_from([1, 7, 24])),
            )
        )
        if draw(st.integers(0, 5)) == 0:
            anomalies.append(anomaly(i, draw(st.sampled_from(["new_pattern", "rate_spike"]))))
        if draw(st.booleans()):
            worth = draw(st.sampled_from(["noise", "low", "high", "must_keep"]))
            judgements.append(Judgement(signature=name(i), worth=WORTH[worth], category="other", reason="So it is."))
    frame = pd.DataFrame(anomalies, columns=list(frames.ANOMALIES)) if anomalies else NO_ANOMALIES
    return day_of(*rows), frame, judgements


@settings(max_examples=60, deadline=None)
@given(days(), st.sampled_from([0.0, 0.3, 0.7, 0.95]))
def test_the_expected_effect_is_the_sum_of_decisions_over_signatures_and_severities(day, reduction):
    signatures, anomalies, judgements = day
    policy = make(signatures, anomalies, judgements, target_reduction=reduction)
    plain = document(policy)
    kept, kept_bytes = np.zeros(6), 0.0
    volumes = severity_volumes(signatures)
    for i, (_, pattern) in enumerate(signatures.iterrows()):
        per_log = pattern["weighted_bytes"] / pattern["weighted_logs"]
        for rank, severity in enumerate(frames.SEVERITIES):
            rate = decide(plain, severity, pattern["signature"], error_like(pattern["template"])).rate
            kept[rank] += volumes[i, rank] * rate
            kept_bytes += volumes[i, rank] * rate * (per_log + stamp_octets(rate))
    expected = policy.expected
    assert expected.kept_logs == pytest.approx(kept.sum(), rel=1e-6, abs=0.01)
    assert expected.kept_bytes == pytest.approx(kept_bytes, rel=1e-6, abs=0.01)
    assert expected.logs == pytest.approx(signatures["weighted_logs"].sum(), rel=1e-6, abs=0.01)
    assert expected.bytes == pytest.approx(signatures["weighted_bytes"].sum(), rel=1e-6, abs=0.01)
    effects = {severity: effect.kept_logs for severity, effect in expected.severities.items()}
    by_severity = {severity: kept[rank] for rank, severity in enumerate(frames.SEVERITIES) if volumes[:, rank].any()}
    assert effects == pytest.approx(by_severity, rel=1e-6, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(days(), st.sampled_from([0.0, 0.3, 0.7, 0.95]))
def test_every_policy_holds_its_guardrails(day, reduction):
    signatures, anomalies, judgements = day
    policy = make(signatures, anomalies, judgements, target_reduction=reduction)
    expected = policy.expected
    assert expected.budget_bytes is not None
    assert expected.budget_in_force is not None
    assert expected.kept_bytes <= expected.budget_in_force * (1 + 1e-9) + 0.01
    assert expected.budget_in_force >= expected.budget_bytes - 0.01
    rising = [policy.severity_rates[s] for s in frames.SEVERITIES if s in policy.severity_rates]
    assert rising == sorted(rising)
    for severity, effect in expected.severities.items():
        assert severity not in frames.ERROR_SEVERITIES or effect.kept_logs == effect.logs
    found = rates(policy)
    pinned = set(anomalies["subject"])
    for _, pattern in signatures.iterrows():
        if pattern["template"] == frames.REST_MESSAGE:
            assert pattern["signature"] not in found
            continue
        rate = found[pattern["signature"]]
        if error_like(pattern["template"]) or pattern["signature"] in pinned or pattern["weighted_logs"] < 100:
            assert rate == 1.0
        active = (pattern["hours"] > 0).sum()
        assert rate >= 0.01
        assert rate * pattern["weighted_logs"] >= min(10 * active, pattern["severities"][:4].sum()) * (1 - 1e-3)


@settings(max_examples=30, deadline=None)
@given(days(), st.randoms(use_true_random=False))
def test_the_same_rows_in_any_order_give_the_same_document(day, random):
    signatures, anomalies, judgements = day
    expected = to_json(make(signatures, anomalies, judgements))
    order = list(range(len(signatures)))
    random.shuffle(order)
    shuffled = signatures.iloc[order].set_index(pd.Index(range(50, 50 + len(order))))
    random.shuffle(judgements)
    assert to_json(make(shuffled, anomalies.iloc[::-1], judgements)) == expected


def test_the_bytes_asked_for_are_saved():
    bulk = [row(i, f"step {'abcdefgh'[i]} of <*> done", {"info": 10_000 * (i + 1)}) for i in range(8)]
    policy = make(day_of(*bulk))
    assert met(policy.expected.share * policy.expected.bytes, 0.3 * policy.expected.bytes)
    assert "save 70%" in policy.reasoning


def test_a_budget_in_bytes_is_kept_to():
    policy = make(day_of(BULK), budget_bytes=50_000_000.0)
    assert met(policy.expected.kept_bytes, 50_000_000)
    assert "The team's budget is 50 MB a day" in policy.reasoning


def test_a_budget_of_money_is_one_of_bytes_at_its_price():
    policy = make(day_of(BULK), budget_money=3.0, price_per_gb=2.0)
    assert met(policy.expected.kept_bytes, 50_000_000)
    assert "The team's budget is 3.00 a month, which at 2 a GB is 50 MB a day" in policy.reasoning


def test_a_budget_in_logs_is_kept_to_and_thins_large_logs_no_more_than_small_ones():
    pair = day_of(row(1, "a <*>", {"info": 500_000}), row(2, "b <*>", {"info": 500_000}, per_log=2_000.0))
    policy = make(pair, budget_logs=100_000.0)
    assert policy.expected.kept_logs == pytest.approx(100_000, rel=1e-3)
    assert rates(policy)[name(1)] == rates(policy)[name(2)]
    assert (policy.expected.budget_bytes, policy.expected.budget_logs) == (None, 100_000)
    assert met(policy.expected.kept_bytes, policy.expected.budget_in_force or 0.0)
    assert "The team's budget is 100,000 logs a day, of 1,000,000 logs that checkout logged" in policy.reasoning


@pytest.mark.parametrize(
    ("asked", "kept", "words"),
    [
        (
            {"budget_logs": 1_000.0},
            250.0,
            "The team's budget is 1,000 logs a day; this service's part, 25.0%, is 250 logs",
        ),
        ({"budget_bytes": 1e6}, 2.5e5, "The team's budget is 1 MB a day; this service's part, 25.0%, is 250 kB"),
        (
            {"budget_money": 3.0, "price_per_gb": 2.0},
            12.5e6,
            "The team's budget is 3.00 a month, which at 2 a GB is 50 MB a day; this service's part, 25.0%, is 12.5 MB",
        ),
        (
            {"reduction_of_team": True},
            75.0,
            "To save 70% of the bytes of the team, 300 bytes may be kept; this service's part, 25.0%, is 75 bytes",
        ),
    ],
)
def test_a_service_has_its_part_of_its_teams_budget(asked, kept, words):
    found = part_of(budget_of(PolicySettings(**asked), 1_000.0), 0.25)
    assert found.amount == pytest.approx(kept)
    assert found.words == words


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({}, "reduction", 0.7),
        ({"budget_bytes": 50e6}, "bytes", 50e6),
        ({"budget_logs": 1e5}, "logs", 1e5),
        ({"budget_money": 3.0, "price_per_gb": 2.0}, "money", 3.0),
    ],
)
def test_a_policy_says_which_budget_was_asked_for_and_what_is_needed_and_in_force(asked, kind, said):
    pair = day_of(BULK, row(2, "opened <*>", {"info": 50}))
    expected = make(pair, **asked).expected
    assert (expected.budget_kind, expected.budget_asked) == (kind, said)
    amount = expected.budget_logs if kind == "logs" else expected.budget_bytes
    assert amount is not None
    rare = 50 if kind == "logs" else 50 * 100
    stamped = 100 + 29
    assert expected.budget_needed == pytest.approx(0.01 * 1e6 * (1 if kind == "logs" else stamped) + rare)
    assert expected.budget_in_force == pytest.approx(amount * (stamped if kind == "logs" else 1), rel=1e-2)
    below = make(pair, budget_bytes=10.0).expected
    assert below.budget_in_force == below.budget_needed
    assert (below.budget_bytes, below.budget_asked) == (10.0, 10.0)


def test_a_teams_own_budget_takes_the_place_of_the_general_one():
    settings = PolicySettings(budget_money=30.0, team_budgets={7: TeamBudget(reduction=0.5), 8: TeamBudget(bytes=1e9)})
    assert [key_of(settings.of_team(team)) for team in (6, 7, 8)] == [
        "money 30.0 at 0.25",
        "reduction 0.5 of the team",
        "bytes 1000000000.0",
    ]
    assert settings.of_team(7).min_rate == settings.min_rate


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget_bytes": 1.0, "budget_logs": 1.0}, "budget_bytes and budget_logs are set"),
        ({"budget_money": 1.0, "target_reduction": 0.5}, "budget_money and target_reduction are set"),
        ({"budget_money": 1.0, "price_per_gb": 0.0}, "say what a gigabyte costs"),
        ({"team_budgets": {7: {"bytes": 1.0, "logs": 1.0}}}, "team_budgets.7\n.*names bytes and logs: name one of"),
        ({"team_budgets": {7: {}}}, "names no budget: name one of reduction, bytes, logs, money"),
        ({"team_budgets": {7: {"byts": 1.0}}}, "team_budgets.7.byts\n.*Extra inputs"),
        ({"team_budgets": {7: {"money": 0.0}}}, "team_budgets.7.money\n.*greater than 0"),
        ({"team_budgets": {7: {"reduction": 1.0}}}, "team_budgets.7.reduction\n.*less than 1"),
    ],
)
def test_a_budget_is_asked_for_in_one_way(asked, message):
    with pytest.raises(ValueError, match=message):
        PolicySettings(**asked)


def said(*overrides) -> Overlay:
    of_all = {"owner": "ada", "reason": "so it is", "until": "2027-01-01T00:00:00Z"}
    scope = {"team_id": 7, "service": "checkout", "environment": "prod"}
    return Overlay.model_validate(scope | {"overrides": [of_all | o for o in overrides]})


def make_with(overlay, signatures, anomalies=NO_ANOMALIES, judgements=(), **changed) -> Policy:
    return make_policy(7, DAY, of(signatures, anomalies, overlay=overlay), judgements, PolicySettings(**changed))


def test_what_is_never_sampled_is_kept_whole_and_paid_from_the_budget():
    pair = day_of(BULK, row(2, "opened <*>", {"info": 200_000}))
    policy = make_with(said({"kind": "never_sample", "template": "opened <*>"}), pair)
    assert rates(policy)[name(2)] == 1.0
    assert reasons(policy)[name(2)] == "Kept whole: a person says it is never sampled."
    assert met(policy.expected.kept_bytes, 0.3 * policy.expected.bytes)
    assert rates(policy)[name(1)] < rates(make(pair))[name(1)]
    assert "(1 never to be sampled)" in policy.reasoning


@pytest.mark.parametrize("kept_for", ["new", "rare", "worth", "budget"])
def test_a_cap_holds_whatever_else_would_keep_the_pattern(kept_for):
    logs = 90 if kept_for == "rare" else 20_000
    pair = day_of(BULK, row(2, "opened <*>", {"info": logs}))
    new = pd.DataFrame([anomaly(2, "new_pattern")], columns=list(frames.ANOMALIES))
    must = [Judgement(signature=name(2), worth=1.0, category="audit", reason="Trail.")] if kept_for == "worth" else []
    policy = make_with(
        said({"kind": "cap", "rate": 0.02, "template": "opened <*>"}),
        pair,
        new if kept_for == "new" else NO_ANOMALIES,
        must,
        target_reduction=0.0 if kept_for == "budget" else 0.7,
    )
    assert rates(policy)[name(2)] == 0.02
    assert reasons(policy)[name(2)].startswith("A person capped it at 0.02.")
    assert "People capped 1 of the patterns." in policy.reasoning


def test_a_cap_keeps_errors_and_what_reads_like_one():
    pair = day_of(row(1, "job <*> failed", {"info": 50_000}), row(2, "put <*>", {"info": 5_000, "error": 45_000}))
    policy = make_with(said({"kind": "cap", "rate": 0.02}), pair)
    assert rates(policy) == {name(1): 1.0, name(2): 0.02}
    assert policy.expected.severities["error"].kept_logs == 45_000
    assert policy.expected.kept_logs == pytest.approx(50_000 + 45_000 + 100)


def test_a_pattern_that_a_person_lifted_is_sampled_like_another():
    pair = day_of(BULK, row(2, "retry <*> failed", {"info": 500_000}))
    lifted = make_with(said({"kind": "lift_error_like", "template": "retry <*> failed"}), pair)
    assert rates(lifted)[name(2)] < 0.5
    assert met(lifted.expected.kept_bytes, 0.3 * lifted.expected.bytes)


def test_an_override_that_ended_with_the_day_has_no_part():
    ended = said({"kind": "never_sample", "until": "2026-09-11T00:00:00Z"})
    assert to_json(make_with(ended, day_of(BULK))) == to_json(make(day_of(BULK)))


@settings(max_examples=40, deadline=None)
@given(days(), st.sampled_from(["never_sample", "cap"]), st.sampled_from([*TEMPLATES[:-1], None]))
def test_whatever_people_say_errors_are_kept_and_caps_hold(day, kind, template):
    signatures, anomalies, judgements = day
    override = {"kind": kind, "template": template} | ({"rate": 0.003} if kind == "cap" else {})
    policy = make_with(said(override), signatures, anomalies, judgements)
    for severity, effect in policy.expected.severities.items():
        assert severity not in frames.ERROR_SEVERITIES or effect.kept_logs == effect.logs
    for entry in policy.pattern_rates:
        if template in (None, entry.template):
            if kind == "never_sample" or error_like(entry.template):
                assert entry.rate == 1.0
            else:
                assert entry.rate <= 0.003
    in_force = policy.expected.budget_in_force
    assert in_force is not None
    assert policy.expected.kept_bytes <= in_force * (1 + 1e-9) + 0.01


@pytest.mark.parametrize(
    ("pattern", "anomalies", "why"),
    [
        (row(2, "job <*> failed", {"info": 50_000}), [], "reads like an error"),
        (row(2, "replica <*> lost", {"error": 40_000, "info": 10_000}), [], "most of its logs are errors"),
        (row(2, "opened <*>", {"info": 50_000}), [anomaly(2, "new_pattern")], "new today"),
        (row(2, "opened <*>", {"info": 50_000}), [anomaly(2, "rate_spike")], "under an anomaly today"),
        (row(2, "opened <*>", {"info": 99}), [], "rare"),
    ],
)
def test_errors_new_anomalous_and_rare_patterns_are_kept_whole_and_say_why(pattern, anomalies, why):
    frame = pd.DataFrame(anomalies, columns=list(frames.ANOMALIES)) if anomalies else NO_ANOMALIES
    policy = make(day_of(BULK, pattern), frame)
    assert rates(policy)[name(2)] == 1.0
    assert why in reasons(policy)[name(2)]
    assert rates(policy)[name(1)] < 0.4


def test_a_few_errors_do_not_keep_their_pattern_but_are_kept_and_paid_for():
    mixed = row(2, "upload of <*> ended", {"info": 900_000, "error": 100_000})
    policy = make(day_of(BULK, mixed), target_reduction=0.8)
    assert rates(policy)[name(2)] < 0.5
    assert policy.expected.severities["error"].kept_logs == 100_000
    assert met(policy.expected.kept_bytes, 0.2 * policy.expected.bytes)


def test_an_anomaly_of_a_service_keeps_no_pattern_whole():
    of_service = anomaly(1, "rate_spike") | {"scope": "service", "subject": ""}
    policy = make(day_of(BULK), pd.DataFrame([of_service], columns=list(frames.ANOMALIES)))
    assert rates(policy)[name(1)] < 0.4


def test_what_is_worth_more_is_kept_at_a_higher_rate():
    pair = day_of(row(1, "a <*>", {"info": 500_000}), row(2, "b <*>", {"info": 500_000}))
    judgements = [
        Judgement(signature=name(1), worth=WORTH["noise"], category="debug", reason="Chatter."),
        Judgement(signature=name(2), worth=WORTH["high"], category="billing", reason="Money."),
    ]
    policy = make(pair, judgements=judgements, min_rate=0.001)
    found = rates(policy)
    assert found[name(2)] / found[name(1)] == pytest.approx((WORTH["high"] / WORTH["noise"]) ** 0.5, rel=1e-2)
    assert reasons(policy)[name(2)] == "By worth and volume. Money."
    assert {entry.signature: entry.category for entry in policy.pattern_rates} == {name(1): "debug", name(2): "billing"}


def test_must_keep_is_kept_whole_only_within_its_share_of_the_budget():
    patterns = [BULK, row(2, "audit <*>", {"info": 10_000}), row(3, "audit of <*>", {"info": 900_000})]
    judgements = [
        Judgement(signature=name(i), worth=WORTH["must_keep"], category="audit", reason="Trail.") for i in (2, 3)
    ]
    found = rates(make(day_of(*patterns), judgements=judgements))
    assert found[name(2)] == 1.0
    assert found[name(1)] < found[name(3)] < 1.0


def test_each_pattern_keeps_its_floor_of_logs_in_active_hours():
    policy = make(
        day_of(BULK, row(2, "b <*>", {"info": 100_000}, hours=4)), budget_bytes=1.0, min_rate=1e-5, floor_per_hour=10
    )
    assert rates(policy) == {name(1): 240 / 1_000_000, name(2): 40 / 100_000}
    assert "the budget in force" in policy.reasoning
    assert policy.expected.budget_in_force == pytest.approx(280 * (100 + 31))
    assert "At its floor." in reasons(policy)[name(1)]


def test_a_pattern_whose_floor_is_all_its_logs_is_kept_whole_and_says_so():
    policy = make(day_of(BULK, row(2, "b <*>", {"info": 200})))
    assert rates(policy)[name(2)] == 1.0
    assert reasons(policy)[name(2)] == "Kept whole: the floor is all of its logs."
    assert "Of 2 patterns 1 are kept whole (1 by their floors or with room in the budget)." in policy.reasoning


def test_volumes_are_those_before_earlier_sampling():
    once = make(day_of(row(1, "a <*>", {"info": 500_000}), row(2, "b <*>", {"info": 100_000})))
    again = make(day_of(row(1, "a <*>", {"info": 5_000}, weight=100.0), row(2, "b <*>", {"info": 100_000})))
    assert once.version == again.version
    assert once.expected == again.expected


def test_weighted_logs_go_to_the_sampled_severities_and_errors_count_as_stored():
    volumes = severity_volumes(day_of(row(1, "a <*>", {"debug": 10, "info": 30, "error": 50}, weight=20.0)))
    assert volumes.tolist() == [[0.0, 200.0, 600.0, 0.0, 50.0, 0.0]]
    only_errors = day_of(row(1, "a <*>", {"error": 50}))
    only_errors["weighted_logs"] = 100.0
    assert severity_volumes(only_errors).tolist() == [[0.0, 0.0, 0.0, 0.0, 100.0, 0.0]]


def test_severity_rates_are_what_their_patterns_come_to():
    patterns = [row(1, "a <*>", {"info": 2_000_000}), row(2, "b <*>", {"warn": 1_000_000})]
    policy = make(day_of(*patterns), target_reduction=0.9)
    assert policy.severity_rates == {
        "info": rates(policy)[name(1)],
        "warn": rates(policy)[name(2)],
        "error": 1.0,
        "fatal": 1.0,
    }
    assert policy.global_rate == pytest.approx(policy.expected.kept_logs / policy.expected.logs, rel=1e-3)


def test_a_severity_is_kept_no_less_than_a_lower_one_and_few_logs_do_not_lift_many():
    patterns = [row(1, "a <*>", {"info": 1_000_000}), row(2, "b <*>", {"debug": 1_000})]
    policy = make(day_of(*patterns), target_reduction=0.9)
    found = rates(policy)
    pooled = (found[name(1)] * 1_000_000 + found[name(2)] * 1_000) / 1_001_000
    assert found[name(2)] > found[name(1)]
    assert policy.severity_rates["debug"] == policy.severity_rates["info"] == pytest.approx(pooled, rel=1e-3)


def test_severities_whose_logs_all_have_one_rate_get_that_rate_to_the_digit():
    for logs in range(1_001, 200_000, 7_919):
        shares = {"trace": logs, "debug": 3 * logs, "info": 200_001, "warn": 7 * logs}
        policy = make(day_of(row(1, "b <*>", shares, weight=3.7)), target_reduction=0.9)
        rate = rates(policy)[name(1)]
        assert policy.severity_rates == dict.fromkeys(shares, rate) | {"error": 1.0, "fatal": 1.0}


def test_patterns_beyond_the_limit_are_unlisted_and_expected_as_unknown():
    few = row(2, "b <*>", {"info": 48_000}, hours=24)
    policy = make(day_of(BULK, few), max_patterns=1)
    assert set(rates(policy)) == {name(1)}
    rate = policy.severity_rates["info"]
    kept = rates(policy)[name(1)] * 1_000_000 + 24 * (10 + (2_000 - 10) * rate)
    assert policy.expected.kept_logs == pytest.approx(kept, rel=1e-6)
    assert "1 are not listed" in policy.reasoning


def test_of_patterns_alike_the_limit_lists_the_same_whatever_the_order_of_rows():
    one, two = row(1, "a <*>", {"info": 9_000}), row(2, "b <*>", {"info": 9_000})
    assert to_json(make(day_of(one, two), max_patterns=1)) == to_json(make(day_of(two, one), max_patterns=1))


@pytest.mark.parametrize("kept", ["rare", "new", "anomalous", "must keep"])
def test_what_is_kept_whole_is_listed_beyond_the_limit_and_pushes_nothing_off_the_list(kept):
    logs = 90 if kept == "rare" else 500
    small = [row(i, f"step {'abc'[i - 2]} <*>", {"info": logs}, hours=1) for i in (2, 3, 4)]
    kind = {"new": "new_pattern", "anomalous": "rate_spike"}.get(kept)
    found = pd.DataFrame([anomaly(i, kind) for i in (2, 3, 4) if kind], columns=list(frames.ANOMALIES))
    must = [
        Judgement(signature=name(i), worth=WORTH["must_keep"], category="audit", reason="Audited.")
        for i in (2, 3, 4)
        if kept == "must keep"
    ]
    policy = make(day_of(BULK, *small), found, must, max_patterns=1, target_reduction=0.9)
    assert set(rates(policy)) == {name(1), name(2), name(3), name(4)}
    for i in (2, 3, 4):
        assert expected_kept(document(policy), "info", name(i), False, [logs]) == logs
    assert "not listed" not in policy.reasoning


def test_what_the_reasoning_says_is_kept_whole_is_kept_whole():
    bulk = [row(i, f"step {chr(97 + i)} <*>", {"info": 4_000}, hours=2) for i in range(8)]
    rare = row(9, "rare thing <*>", {"info": 90}, hours=1)
    policy = make(day_of(*bulk, rare), max_patterns=3, target_reduction=0.9)
    assert "Of 9 patterns 1 are kept whole (1 rare). 3 are sampled" in policy.reasoning
    assert "5 are not listed" in policy.reasoning
    assert expected_kept(document(policy), "info", name(9), False, [90]) == 90


def test_every_pattern_of_a_service_that_is_new_as_a_whole_is_kept_whole():
    whole = anomaly(1, "new_pattern") | {"scope": "service", "subject": "checkout"}
    found = pd.DataFrame([whole], columns=list(frames.ANOMALIES))
    policy = make(day_of(BULK, row(2, "b <*>", {"info": 50_000})), found, target_reduction=0.9)
    assert rates(policy) == {name(1): 1.0, name(2): 1.0}
    assert "2 new" in policy.reasoning
    spike = pd.DataFrame([whole | {"kind": "rate_spike"}], columns=list(frames.ANOMALIES))
    assert rates(make(day_of(BULK), spike, target_reduction=0.9))[name(1)] < 1.0


def test_a_day_without_logs_keeps_all():
    policy = make(frames.empty(frames.SIGNATURES))
    assert policy.generated_by == "keep-all"


def test_the_model_behind_the_judgements_is_named():
    policy = make_policy(7, DAY, of(day_of(BULK), llm_model="some-model"), [], PolicySettings())
    assert (policy.generated_by, policy.llm_model) == ("llm", "some-model")
    assert "judged by some-model" in policy.reasoning


def test_the_document_is_valid_and_its_effect_can_be_computed_anew():
    signatures = day_of(BULK, row(2, "b <*>", {"warn": 700}))
    signatures["signature"] = [signature("checkout", template) for template in signatures["template"]]
    policy = make(signatures)
    assert parse(to_json(policy)) == policy
    again = expected_effect(policy, signatures)
    assert (again.kept_logs, again.kept_bytes) == (policy.expected.kept_logs, policy.expected.kept_bytes)


@settings(max_examples=60, deadline=None)
@given(days(), st.sampled_from([{}, {"target_reduction": 0.95}, {"budget_logs": 900.0}, {"budget_bytes": 1e5}]))
def test_every_policy_that_is_made_is_a_document_that_agrees_with_itself(day, asked):
    signatures, anomalies, _ = day
    signatures["template"] = [
        t if t == frames.REST_MESSAGE else f"{t} {chr(97 + i)}" for i, t in enumerate(signatures["template"])
    ]
    signatures = signatures.drop_duplicates("template")
    signatures["signature"] = [signature("checkout", template) for template in signatures["template"]]
    limits, tomorrow = PolicySettings(**asked), DAY + timedelta(days=1)
    first = make_policy(7, DAY, of(signatures, anomalies, before=[]), [], limits)
    second = make_policy(7, tomorrow, of(signatures.assign(day=tomorrow), before=[first]), [], limits)
    for policy in (first, second):
        assert parse(to_json(policy)) == policy


@pytest.mark.parametrize(
    ("column", "value"), [("service", "cart"), ("environment", "dev"), ("team_id", 8), ("day", date(2026, 9, 11))]
)
def test_rows_of_another_scope_are_refused(column, value):
    with pytest.raises(ValueError, match=f"signatures: 1 of 1 rows have {column} "):
        make(day_of(BULK | {column: value}))


def test_a_signature_twice_is_refused():
    with pytest.raises(ValueError, match=f"{name(1)} has more than one row"):
        make(day_of(BULK, BULK))


@settings(max_examples=60, deadline=None)
@given(days(), st.sampled_from([0.3, 0.9, 0.99]))
def test_an_advisor_that_calls_all_noise_cannot_bring_what_is_protected_below_its_floor(day, reduction):
    signatures, anomalies, _ = day
    # A rare pattern whose floor, of an hour, would be less than all of it.
    rare = row(90, "user <*> logged in", {"info": 90}, hours=1)
    signatures = pd.concat([signatures, day_of(rare)], ignore_index=True)
    worst = [
        Judgement(signature=name, worth=0.0, category="debug", reason="Keep nothing.")
        for name in signatures["signature"]
    ]
    limits = PolicySettings(target_reduction=reduction)
    policy = make_policy(7, DAY, of(signatures, anomalies), worst, limits)
    plain = document(policy)
    assert decide(plain, "info", name(90), False).rate == 1.0
    protected = set(anomalies["subject"])
    volumes = severity_volumes(signatures)
    for i, (_, pattern) in enumerate(signatures.iterrows()):
        reads_like_an_error = error_like(pattern["template"])
        for rank, severity in enumerate(frames.SEVERITIES):
            rate = decide(plain, severity, pattern["signature"], reads_like_an_error).rate
            kept_whole = (
                severity in frames.ERROR_SEVERITIES
                or reads_like_an_error
                or (
                    pattern["template"] != frames.REST_MESSAGE
                    and (pattern["signature"] in protected or volumes[i].sum() < limits.rare_logs)
                )
            )
            assert rate == 1.0 if kept_whole else rate >= limits.min_rate, (pattern["template"], severity, rank)
    for entry in policy.pattern_rates:
        sampled = float(volumes[list(signatures["signature"]).index(entry.signature), :4].sum())
        active = np.count_nonzero(signatures.set_index("signature").loc[entry.signature, "hours"])
        assert entry.rate * sampled >= min(limits.floor_per_hour * active, sampled) * (1 - 1e-9)


def test_who_judged_stands_in_the_reasoning():
    judged = of(day_of(BULK), llm_model="m", judged_by="m judged 1 pattern.")
    policy = make_policy(7, DAY, judged, [], PolicySettings())
    assert policy.reasoning.endswith(" m judged 1 pattern.")
    assert policy.generated_by == "llm"


def test_a_teams_budget_of_money_needs_a_price() -> None:
    with pytest.raises(ValueError, match="team_budgets of 7 is one of money with a price_per_gb of 0"):
        PolicySettings(team_budgets={7: TeamBudget(money=1.0)}, price_per_gb=0.0)


def of_team(*services: ServiceDay, **asked: Any) -> list[Policy]:
    return make_policies(7, DAY, services, [], PolicySettings(**asked))


def service(name: str, *rows: dict[str, Any]) -> ServiceDay:
    return ServiceDay(name, "prod", day_of(*rows).assign(service=name), NO_ANOMALIES)


def two_services() -> list[ServiceDay]:
    quiet = [row(i, f"step {'abcdefgh'[i]} <*>", {"info": 40_000}) for i in range(8)]
    loud = [row(9, "GET <*>", {"info": 670_000}), row(10, "job <*> failed", {"info": 10_000})]
    return [service("quiet", *quiet), service("loud", *loud)]


@pytest.mark.parametrize(
    "asked",
    [
        {"budget_bytes": 1e7},
        {"budget_logs": 1e5},
        {"budget_money": 7.5e-2},
        {"target_reduction": 0.9, "reduction_of_team": True},
    ],
)
def test_a_teams_budget_is_spent_over_its_services_where_it_estimates_counts_best(asked):
    quiet, loud = of_team(*two_services(), **asked)
    unit = "kept_logs" if "budget_logs" in asked else "kept_bytes"
    amount = "budget_logs" if "budget_logs" in asked else "budget_bytes"
    whole = 1e5 if "budget_logs" in asked else 1e7
    assert met(sum(getattr(p.expected, unit) for p in (quiet, loud)), whole)
    assert sum(getattr(p.expected, amount) for p in (quiet, loud)) == pytest.approx(whole)
    # One multiplier: of patterns worth the same as many logs are kept, whichever service they are of.
    kept = {p.service: rate for p in (quiet, loud) for rate in rates(p).values() if rate < 1.0}
    assert kept["quiet"] * 40_000 == pytest.approx(kept["loud"] * 670_000, rel=1e-2)
    assert rates(loud)[name(10)] == 1.0
    for policy in (quiet, loud):
        assert "this service's part" in policy.reasoning
        assert met(getattr(policy.expected, unit), getattr(policy.expected, amount))
        assert policy.expected.kept_bytes <= (policy.expected.budget_in_force or 0.0) * (1 + 1e-9) + 0.01


def test_a_reduction_that_is_not_a_teams_is_one_of_each_service():
    alone = [make_policy(7, DAY, of, [], PolicySettings(target_reduction=0.9)) for of in two_services()]
    assert of_team(*two_services(), target_reduction=0.9) == alone


def test_what_a_teams_services_need_beyond_its_budget_is_in_force_in_each():
    made = of_team(*two_services(), budget_bytes=10.0)
    assert sum(p.expected.budget_bytes or 0.0 for p in made) == pytest.approx(10.0, abs=0.01)
    for policy in made:
        assert policy.expected.budget_in_force == policy.expected.budget_needed
        assert "more: that is the budget in force" in policy.reasoning


def test_the_order_of_a_teams_services_and_one_without_logs_change_nothing():
    services = two_services()
    empty = ServiceDay("idle", "prod", frames.empty(frames.SIGNATURES), NO_ANOMALIES)
    quiet, loud = of_team(*services, budget_bytes=1e7)
    made = of_team(services[1], empty, services[0], budget_bytes=1e7)
    assert [p.service for p in made] == ["loud", "idle", "quiet"]
    assert [rates(p) for p in made] == [rates(loud), {}, rates(quiet)]
    assert made[1].generated_by == "keep-all"


def test_must_keep_has_its_share_of_the_teams_budget_the_smallest_first_of_all_services():
    small, large = row(1, "audit <*>", {"info": 10_000}), row(2, "audit of <*>", {"info": 15_000})
    services = [service("loud", BULK | {"signature": name(3)}, large), service("quiet", small)]
    judgements = [
        Judgement(signature=name(i), worth=WORTH["must_keep"], category="audit", reason="Trail.") for i in (1, 2)
    ]
    loud, quiet = make_policies(7, DAY, services, judgements, PolicySettings(budget_bytes=1e7))
    assert rates(quiet)[name(1)] == 1.0
    assert "judged a must-keep" in reasons(quiet)[name(1)]
    assert "judged a must-keep" not in reasons(loud)[name(2)]


def test_unlisted_patterns_first_logs_are_needed_and_the_policy_says_so():
    many = [row(i, f"step {chr(97 + i)} <*>", {"info": 4_000}) for i in range(2, 10)]
    policy = make(day_of(BULK, *many), max_patterns=1, target_reduction=0.985, unknown_first_per_hour=100)
    expected = policy.expected
    assert expected.budget_in_force == expected.kept_bytes == expected.budget_needed
    assert "more, which are in force too." in policy.reasoning


def test_a_budget_of_logs_says_that_it_needs_the_first_logs_of_what_is_not_listed():
    pair = day_of(row(1, "a <*> ok", {"debug": 10**6, "info": 10**6}), row(2, "b <*> x", {"info": 10**6}))
    unlisted = {"max_patterns": 0, "floor_per_hour": 0.0, "unknown_first_per_hour": 10}
    expected = make(pair, budget_logs=1.0, **unlisted).expected
    assert expected.kept_logs > 0.01 * expected.logs
    assert expected.budget_needed == pytest.approx(expected.kept_logs)
