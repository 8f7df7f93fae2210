"""The overlay in the decision: people first, boosts on top, everything until its end."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_sampler.decision import decide, expected_kept
from lipservice_sampler.overlay import Overlay

NOW = datetime(2026, 9, 10, 12, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
A, B = "a" * 16, "b" * 16
TEMPLATE = "job <*> took <*>"
POLICY: dict[str, Any] = {
    "global_rate": 0.05,
    "severity_rates": {"info": 0.2, "error": 1.0, "fatal": 1.0},
    "pattern_rates": [{"signature": A, "rate": 0.1}, {"signature": B, "rate": 0.5}],
    "unknown": {"first_per_hour": 3, "then": "severity"},
}


def never(until: datetime | None = LATER, **target: str) -> dict[str, Any]:
    return {"kind": "never_sample", "until": until and until.isoformat()} | target


def cap(rate: float, until: datetime = LATER, **target: str) -> dict[str, Any]:
    return {"kind": "cap", "rate": rate, "until": until.isoformat()} | target


def lift(until: datetime = LATER, **target: str) -> dict[str, Any]:
    return {"kind": "lift_error_like", "until": until.isoformat()} | target


def boost(factor: float, until: datetime = LATER, **target: str) -> dict[str, Any]:
    return {"factor": factor, "until": until.isoformat()} | target


def over(*overrides: dict[str, Any], boosts: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"overrides": list(overrides), "boosts": list(boosts)}


def asked(overlay: Any, severity: str = "info", signature: str | None = A, like: bool = False, **more: Any) -> tuple:
    return tuple(decide(POLICY, severity, signature, like, overlay=overlay, at=NOW, **more))


TARGETS: list[dict[str, str]] = [{}, {"signature": A}, {"signature": B}, {"template": TEMPLATE}]
targets = st.sampled_from(TARGETS)
ends = st.sampled_from([BEFORE, NOW, LATER])
overrides = st.one_of(
    st.builds(lambda t, u: never(u, **t), targets, st.one_of(st.none(), ends)),
    st.builds(lambda t, u, r: cap(r, u, **t), targets, ends, st.floats(0.001, 0.999)),
    st.builds(lambda t, u: lift(u, **t), st.sampled_from(TARGETS[1:]), ends),
)
boosts = st.builds(lambda t, u, f: boost(f, u, **t), targets, ends, st.floats(1, 100))
logs = st.fixed_dictionaries(
    {
        "severity": st.sampled_from(["trace", "debug", "info", "Warning", "error", "fatal", "CRITICAL", "nonsense"]),
        "signature": st.sampled_from([None, A, B, "c" * 16]),
        "body_error_like": st.booleans(),
        "unknown_seen": st.integers(0, 5),
        "masked": st.sampled_from([None, TEMPLATE, "job 7 took <*>", "else"]),
    }
)


@given(logs, st.lists(overrides, max_size=4), st.lists(boosts, max_size=3))
def test_no_overlay_brings_an_error_below_one(log, said, lifts):
    log = log | {"severity": "error"}
    assert decide(POLICY, **log, overlay=over(*said, boosts=tuple(lifts)), at=NOW).rate == 1.0


@given(logs, st.lists(overrides, max_size=4), st.lists(boosts, max_size=3))
def test_a_boost_never_lowers_a_rate_nor_lifts_it_above_one(log, said, lifts):
    without = decide(POLICY, **log, overlay=over(*said), at=NOW).rate
    boosted = decide(POLICY, **log, overlay=over(*said, boosts=tuple(lifts)), at=NOW).rate
    assert without <= boosted <= 1.0


@given(logs, st.lists(overrides, max_size=4), st.lists(boosts, max_size=3))
def test_what_is_over_says_nothing(log, said, lifts):
    overlay = over(*said, boosts=tuple(lifts))
    live = {
        name: [e for e in entries if e["until"] is None or datetime.fromisoformat(e["until"]) > NOW]
        for name, entries in overlay.items()
    }
    assert decide(POLICY, **log, overlay=overlay, at=NOW) == decide(POLICY, **log, overlay=live, at=NOW)
    ended = {name: [e | {"until": BEFORE.isoformat()} for e in entries] for name, entries in overlay.items()}
    assert decide(POLICY, **log, overlay=ended, at=NOW) == decide(POLICY, **log)


@given(logs, st.lists(overrides, max_size=4), st.lists(st.sampled_from([BEFORE, NOW, LATER, LATER]), max_size=4))
def test_an_overlay_made_ready_decides_as_the_document_whenever_it_is_asked(log, said, moments):
    ready = Overlay(over(*said))
    for at in moments:
        assert decide(POLICY, **log, overlay=ready, at=at) == decide(POLICY, **log, overlay=over(*said), at=at)


@given(logs, st.lists(overrides, max_size=4), st.sampled_from(TARGETS))
def test_never_sample_keeps_whole_what_it_speaks_of(log, said, target):
    own = {k: v for k, v in target.items() if k == "signature"}
    log = log | own | ({"masked": TEMPLATE} if "template" in target else {})
    rivals = said if target else [o for o in said if o["kind"] != "cap"]
    assert decide(POLICY, **log, overlay=over(never(**target), *rivals), at=NOW) == (1.0, "override")


@given(logs, st.floats(0.001, 0.999), st.lists(boosts, max_size=3))
def test_a_cap_holds_against_boosts_and_policy_but_not_for_errors(log, rate, lifts):
    found = decide(POLICY, **log, overlay=over(cap(rate), boosts=tuple(lifts)), at=NOW)
    if found.reason in ("error", "error_like"):
        assert found.rate == 1.0
    else:
        assert found.rate <= rate


def test_people_come_first_in_the_order():
    assert asked(over(never(signature=A)), "error") == (1.0, "override")
    assert asked(over(cap(0.01)), "error") == (1.0, "error")
    assert asked(over(cap(0.01)), like=True) == (1.0, "error_like")
    assert asked(over(cap(0.01))) == (0.01, "override")
    assert asked(over(cap(0.3))) == (0.1, "pattern")
    assert asked(over(cap(0.01)), signature=None) == (0.01, "override")
    assert asked(over(cap(0.3)), signature=None, unknown_seen=9) == (0.2, "severity")


def test_a_person_may_lift_what_reads_like_an_error_but_no_error():
    overlay = over(lift(signature=A))
    assert asked(overlay, like=True) == (0.1, "pattern")
    assert asked(overlay, "error", like=True) == (1.0, "error")
    assert asked(overlay, signature=B, like=True) == (1.0, "error_like")
    assert asked(over(lift(signature=A), cap(0.02)), like=True) == (0.02, "override")


def test_the_word_about_a_pattern_comes_before_that_about_its_service():
    assert asked(over(never(), cap(0.02, signature=A))) == (0.02, "override")
    assert asked(over(cap(0.02), never(signature=A))) == (1.0, "override")
    assert asked(over(cap(0.02), cap(0.05, signature=A))) == (0.05, "override")


def test_boosts_multiply_up_to_one_and_the_highest_holds():
    assert asked(over(boosts=(boost(3, signature=A), boost(2)))) == (pytest.approx(0.3), "boost")
    assert asked(over(boosts=(boost(100),))) == (1.0, "boost")
    assert asked(over(boosts=(boost(1),))) == (0.1, "pattern")
    assert asked(over(cap(0.2), boosts=(boost(3),))) == (0.2, "override")


def test_a_template_speaks_of_the_messages_it_matches_whatever_their_signature():
    overlay = over(never(template=TEMPLATE))
    assert asked(overlay, signature="c" * 16, masked="job nightly took <*>") == (1.0, "override")
    assert asked(overlay, signature="c" * 16, masked=TEMPLATE) == (1.0, "override")
    assert asked(overlay, masked="job nightly ended") == (0.1, "pattern")
    assert asked(overlay) == (0.1, "pattern")


def test_an_end_is_a_moment_in_any_time_zone():
    there = timezone(timedelta(hours=5))
    overlay = over(never(NOW.astimezone(there)))
    assert decide(POLICY, "info", A, False, overlay=overlay, at=NOW - timedelta(seconds=1)).rate == 1.0
    assert decide(POLICY, "info", A, False, overlay=overlay, at=NOW).rate == 0.1
    zulu = {"overrides": [{"kind": "never_sample", "until": "2026-09-10T12:00:00Z"}]}
    assert decide(POLICY, "info", A, False, overlay=zulu, at=BEFORE).rate == 1.0


@pytest.mark.parametrize(
    ("overlay", "at", "message"),
    [
        (over(never()), None, "pass the time"),
        (over({"kind": "sometimes"}), NOW, "'sometimes' is no kind of override"),
        (over(never(LATER.replace(tzinfo=None))), NOW, "has no time zone"),
    ],
)
def test_an_overlay_that_cannot_be_read_is_refused(overlay, at, message):
    with pytest.raises(ValueError, match=message):
        decide(POLICY, "info", A, False, overlay=overlay, at=at)


@given(logs, st.lists(overrides, max_size=3), st.lists(boosts, max_size=2), st.lists(st.integers(0, 9), max_size=4))
def test_expected_kept_is_the_sum_of_decisions_with_an_overlay_too(
    log: dict[str, Any], said: list[dict[str, Any]], lifts: list[dict[str, Any]], hours: list[int]
) -> None:
    asked_of = {k: v for k, v in log.items() if k != "unknown_seen"}
    with_overlay: dict[str, Any] = {"overlay": Overlay(over(*said, boosts=tuple(lifts))), "at": NOW}
    single = sum(
        decide(POLICY, **asked_of, unknown_seen=n, **with_overlay).rate for logs_ in hours for n in range(logs_)
    )
    assert expected_kept(POLICY, **asked_of, hours=hours, **with_overlay) == pytest.approx(single)
