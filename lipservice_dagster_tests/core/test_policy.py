"""The policy document: bounds, canonical text, version and difference."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lipservice_dagster.core.frames import SEVERITIES
from lipservice_dagster.core.overlay import overlay_schema
from lipservice_dagster.core.policy import (
    Expected,
    Policy,
    PolicyError,
    diff,
    document,
    json_schema,
    keep_all,
    parse,
    round_rate,
    to_json,
    version,
)
from lipservice_sampler.decision import decide
from lipservice_sampler.text import signature

A, B = signature("checkout", "job <*> done"), signature("checkout", "GET <*>")
RATES = st.floats(0.0001, 1.0)


def _fields(**changed):
    return {
        "team_id": 7,
        "service": "checkout",
        "environment": "prod",
        "day": date(2026, 9, 10),
        "global_rate": 0.1,
        "severity_rates": {"info": 0.1, "error": 1.0, "fatal": 1.0},
        "pattern_rates": [
            {
                "signature": B,
                "template": "GET <*>",
                "rate": 0.05,
                "worth": 0.1,
                "reason": "By worth.",
                "class": "access_log",
            },
            {"signature": A, "template": "job <*> done", "rate": 0.5},
        ],
        "unknown": {"first_per_hour": 10},
        "generated_by": "rules",
    } | changed


def policy(**changed) -> Policy:
    return Policy.model_validate(_fields(**changed))


@st.composite
def policies(draw):
    templates = draw(st.lists(st.text(max_size=8), unique=True, max_size=6))
    return policy(
        global_rate=draw(RATES),
        severity_rates={"info": draw(RATES), "error": 1.0, "fatal": 1.0},
        pattern_rates=[{"signature": signature("checkout", t), "template": t, "rate": draw(RATES)} for t in templates],
        unknown={"first_per_hour": draw(st.integers(0, 50))},
        reasoning=draw(st.text(max_size=20)),
        expected=Expected(logs=(logs := draw(st.floats(0, 1e12))), kept_logs=logs),
    )


@given(policies())
def test_a_policy_survives_its_json(made):
    text = to_json(made)
    assert parse(text) == made
    assert to_json(parse(json.loads(text))) == text


def test_the_json_is_canonical():
    text = to_json(policy())
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    backwards = dict(reversed(_fields(pattern_rates=list(reversed(_fields()["pattern_rates"]))).items()))
    assert to_json(Policy.model_validate(backwards)) == text


def test_the_document_names_the_kind_of_log_class_and_carries_its_version():
    made = policy()
    plain = document(made)
    assert {entry["signature"]: entry["class"] for entry in plain["pattern_rates"]} == {A: "other", B: "access_log"}
    assert plain["version"] == version(made) == made.version
    assert len(made.version) == 16


def test_the_decision_reads_the_document():
    plain = document(policy())
    assert decide(plain, "info", B, False) == (0.05, "pattern")
    assert decide(plain, "info", None, False, unknown_seen=9) == (1.0, "unknown")
    assert decide(plain, "info", None, False, unknown_seen=10) == (0.1, "severity")


@pytest.mark.parametrize(
    ("rate", "rounded"), [(1 / 3, 0.3333), (0.99999, 1.0), (0.000123456, 0.0001235), (1.0, 1.0), (0.25, 0.25)]
)
def test_rates_keep_four_significant_digits(rate, rounded):
    assert round_rate(rate) == rounded
    assert policy(global_rate=rate).global_rate == rounded


def test_the_same_rates_on_another_day_are_the_same_version():
    later = policy(day=date(2026, 9, 11), reasoning="another day", expected=Expected(logs=5.0), global_rate=0.10000001)
    assert version(later) == version(policy())


@pytest.mark.parametrize(
    "changed",
    [
        {"team_id": 8},
        {"service": "cart"},
        {"environment": "dev"},
        {"mask_version": 999},
        {"global_rate": 0.2},
        {"severity_rates": {"info": 0.2, "error": 1.0, "fatal": 1.0}},
        {"severity_rates": {"error": 1.0, "fatal": 1.0}},
        {"unknown": {"first_per_hour": 11}},
        {"pattern_rates": []},
        {"pattern_rates": [{"signature": A, "template": "job <*> done", "rate": 0.4}]},
        {"pattern_rates": [{"signature": A, "template": "job <*> is done", "rate": 0.5}]},
    ],
)
def test_whatever_a_policy_does_otherwise_gives_another_version_and_a_difference(changed):
    assert version(policy(**changed)) != version(policy())
    assert diff(policy(), policy(**changed))


@given(policies(), policies())
def test_two_policies_differ_exactly_when_their_versions_do(a, b):
    assert (diff(a, b) == []) == (version(a) == version(b))
    assert diff(a, a) == []


def test_a_difference_reads_as_sentences_with_the_largest_change_first():
    other = policy(
        severity_rates={"debug": 0.02, "info": 0.1, "error": 1.0, "fatal": 1.0},
        pattern_rates=[
            {"signature": A, "template": "job <*> done", "rate": 0.25},
            {"signature": B, "template": "GET <*>", "rate": 0.01},
            {"signature": "c" * 16, "template": "hello", "rate": 1.0},
        ],
    )
    assert diff(policy(), other) == [
        "severity debug: kept at 0.02, not listed before",
        f"pattern {B} “GET <*>”: 0.05 → 0.01 (5 times as few kept)",
        f"pattern {A} “job <*> done”: 0.5 → 0.25 (2 times as few kept)",
        f"pattern {'c' * 16} “hello”: kept at 1, not listed before",
    ]


def test_a_long_template_leaves_room_for_what_changes():
    long = {"signature": A, "template": "word " * 100, "rate": 0.5}
    (said,) = diff(policy(pattern_rates=[long]), policy(pattern_rates=[long | {"rate": 0.25}]))
    assert said.endswith("…”: 0.5 → 0.25 (2 times as few kept)")
    assert len(said) < 200


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"severity_rates": {"info": 0.1, "error": 0.5, "fatal": 1.0}}, "severity_rates.error is 0.5.*set it to 1.0"),
        ({"severity_rates": {"error": 1.0}}, "severity_rates.fatal is missing"),
        ({"global_rate": 1.5}, r"global_rate: .*less than or equal to 1.*\(got 1.5\)"),
        ({"global_rate": 0.0}, r"global_rate: .*greater than 0.*\(got 0.0\)"),
        ({"global_rate": float("nan")}, "global_rate: .*"),
        ({"pattern_rates": [{"signature": A, "template": "t", "rate": -1}]}, r"pattern_rates.0.rate: .*\(got -1\)"),
        ({"pattern_rates": [{"signature": A, "template": "t", "rate": 1}] * 2}, f"lists {A} more than once"),
        ({"floors": {"min_rate": 0.07}}, rf"pattern_rates\[{B}\].rate is 0.05, below floors.min_rate 0.07"),
        ({"severity_rates": {"loud": 0.1, "error": 1.0, "fatal": 1.0}}, "severity_rates.loud"),
        ({"colour": "red"}, r"colour: Extra inputs are not permitted \(got 'red'\)"),
        ({"schema_version": 2}, "schema_version"),
        ({"generated_by": "llm"}, "name the model"),
        ({"version": "0" * 16}, "says version '0000000000000000', but its content is"),
        ({"pattern_rates": [{"signature": A, "template": "t", "rate": 1}]}, rf"\[{A}\]: there is no such signature of"),
        (
            {"pattern_rates": [{"signature": A, "template": "job <*> done", "rate": 1, "regex": "^x$"}]},
            "is not that of",
        ),
        ({"generated_by": "keep-all"}, "global_rate is 0.1, and generated_by says keep-all"),
        ({"expected": {"logs": 5, "kept_logs": 6}}, "expected.kept_logs is 6.0, more than the 5.0 logs there are"),
        ({"expected": {"budget_bytes": 5, "budget_logs": 6}}, "a budget is asked for in one way"),
        ({"expected": {"budget_kind": "money"}}, "expected.budget_kind is 'money' with budget_bytes None"),
        ({"expected": {"budget_kind": "time"}}, "expected.budget_kind: .*'reduction', 'bytes', 'logs' or 'money'"),
        ({"ramp": {"fall": 1.5}}, "ramp.fall: .*less than 1"),
    ],
)
def test_a_document_out_of_bounds_is_refused_with_what_and_where(changed, message):
    with pytest.raises(
        PolicyError, match=f"(?s)team 7, service 'checkout', environment 'prod' is not valid.*{message}"
    ):
        parse(_fields(**changed))


def test_json_far_too_deep_is_refused_as_a_document():
    with pytest.raises(PolicyError, match="far too deep"):
        parse("[" * 200_000 + "]" * 200_000)


def test_a_document_changed_after_it_was_made_is_refused():
    changed = json.loads(to_json(policy()))
    changed["pattern_rates"][0]["rate"] = 0.9
    with pytest.raises(PolicyError, match="changed after it was made"):
        parse(json.dumps(changed))


def _document(**changed):
    """A document in which all agrees; a name with dots leads to the field that is changed."""
    plain = document(policy(pattern_rates=[{"signature": A, "template": "job <*> done", "rate": 0.5, "goal": 0.4}]))
    plain |= {"floors": {"min_rate": 0.01, "per_hour": 10.0}}
    plain["ramp"] = {"fall": 0.5, "window_fingerprint": "f", "days_to_go": 1, "goal_in_force": 250.0}
    plain["expected"] |= {
        "logs": 100.0, "bytes": 1000.0, "kept_logs": 30.0, "kept_bytes": 300.0, "share": 0.3,
        "budget_kind": "reduction", "budget_asked": 0.7, "budget_bytes": 300.0, "budget_needed": 100.0,
        "budget_in_force": 300.0, "severities": {"info": {"logs": 100.0, "kept_logs": 30.0}},
    }  # fmt: skip
    del plain["version"]
    for path, value in changed.items():
        *way, last = [int(step) if step.isdigit() else step for step in path.split("__")]
        of: Any = plain
        for step in way:
            of = of[step]
        of[last] = value
    return plain


def test_a_document_in_which_all_agrees_is_read_as_it_stands():
    plain = _document()
    read = document(parse(json.dumps(plain)))
    assert {name: read[name] for name in plain} == plain


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pattern_rates__0__rate": "0.3"}, "pattern_rates.0.rate: .*valid number"),
        ({"global_rate": True}, "global_rate: .*valid number"),
        ({"pattern_rates__0__rate": 0.123456789}, "pattern_rates.0.rate: has more digits .* write 0.1235"),
        ({"severity_rates__info": 0.999999}, "severity_rates.info: has more digits .* write 1.0"),
        ({"expected__logs": 100.00001}, "expected.logs: has more digits .* write 100.0"),
        ({"day": 0}, "day: a day is a date"),
        ({"day": "2026-11-23T00:00:00"}, "day: a day is a date"),
        ({"team_id": "7"}, "team_id: .*valid integer"),
        ({"team_id": True}, "team_id: .*valid integer"),
        ({"team_id": 2**31}, "team_id: .*less than 2147483648"),
        ({"schema_version": True}, "schema_version: this is a number"),
        (
            {"expected__severities__error": {"logs": 5.0, "kept_logs": 4.0}},
            "severities.error.kept_logs is 4.0, less than the 5.0 there are: errors are kept whole",
        ),
        ({"unknown__first_per_hour": 2.0}, "unknown.first_per_hour: .*valid integer"),
        ({"mask_version": 99}, "mask_version is 99, and known are those to"),
        ({"expected__budget_in_force": 50.0, "expected__budget_bytes": 50.0}, "50.0, less than budget_needed, 100.0"),
        ({"expected__budget_in_force": 150.0}, "150.0, less than budget_bytes, 300.0"),
        ({"expected__kept_bytes": 2000.0}, "expected.kept_bytes is 2000.0, more than the 1000.0 bytes there are"),
        ({"expected__kept_bytes": 310.0}, "expected.kept_bytes is 310.0, more than budget_in_force, 300.0"),
        ({"severity_rates__debug": 0.9}, "severity_rates.info is 0.1, below severity_rates.debug, 0.9"),
        ({"expected__share": 0.9}, "expected.share is 0.9, and kept_bytes of bytes are 0.3"),
        ({"expected__severities__info__kept_logs": 500.0}, "severities.info.kept_logs is 500.0, more than the 100.0"),
        ({"pattern_rates__0__goal": 0.9, "ramp": None}, "goal is 0.9, above its rate 0.5, and there is no ramp"),
        ({"pattern_rates__0__goal": 0.001}, "goal is 0.001, below floors.min_rate 0.01"),
        ({"pattern_rates__0__goal": None}, "has no goal, and there is a ramp"),
    ],
)
def test_nothing_of_a_document_that_is_read_is_repaired_in_silence(changed, message):
    for form in (dict, json.dumps):
        with pytest.raises(PolicyError, match=f"(?s)is not valid.*{message}"):
            parse(form(_document(**changed)))


def test_a_name_that_stands_twice_in_a_document_is_refused():
    text = json.dumps(_document())
    with pytest.raises(PolicyError, match="global_rate stands twice in one object"):
        parse(text[:-1] + ', "global_rate": 0.9}')
    with pytest.raises(PolicyError, match="per_hour stands twice"):
        parse(text.replace('"per_hour": 10.0', '"per_hour": 10.0, "per_hour": 20.0'))


def test_the_json_schema_says_that_errors_are_kept_whole():
    rates = json_schema()["properties"]["severity_rates"]
    assert rates["properties"] == {"error": {"const": 1.0}, "fatal": {"const": 1.0}}
    assert sorted(rates["required"]) == ["error", "fatal"]


def test_text_that_is_no_json_is_refused():
    with pytest.raises(PolicyError, match="Invalid JSON"):
        parse("{")


def test_a_policy_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        policy().global_rate = 0.5


def test_keep_all_keeps_every_log():
    plain = document(keep_all(7, "checkout", "prod", date(2026, 9, 10)))
    for severity in SEVERITIES:
        for name in (None, A):
            assert decide(plain, severity, name, False, unknown_seen=1000).rate == 1.0
    assert plain["generated_by"] == "keep-all"
    assert plain["expected"]["share"] == 1.0


def test_each_pattern_carries_its_template_as_a_regular_expression():
    found = {entry["template"]: re.compile(entry["regex"]) for entry in document(policy())["pattern_rates"]}
    assert found["GET <*>"].match("GET /cart/7")
    assert not found["GET <*>"].match("I GET /cart/7")
    assert not found["job <*> done"].match("GET /cart/7")


@pytest.mark.parametrize(("name", "schema"), [("policy", json_schema()), ("overlay", overlay_schema())])
def test_the_published_schema_is_that_of_the_document(name, schema):
    # Made by `lipservice policy schema [--overlay]`.
    published = Path(__file__).parents[2] / "docs" / f"{name}.schema.json"
    assert published.read_text() == json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def test_the_json_schema_names_every_field_of_the_document():
    schema = json_schema()
    plain = document(policy())
    assert set(schema["properties"]) == set(plain)
    assert set(schema["$defs"]["PatternRate"]["properties"]) == set(plain["pattern_rates"][0])
    assert schema["additionalProperties"] is False
