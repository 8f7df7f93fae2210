"""The overlay document: bounds, contradictions, canonical text, and how it reads."""

import json
from datetime import UTC, datetime

import pytest

from lipservice_dagster.core.overlay import (
    OverlayError,
    describe,
    overlay_document,
    overlay_json,
    overlay_schema,
    parse_overlay,
)
from lipservice_sampler.decision import decide
from lipservice_sampler.text import signature

TEMPLATE = "job <*> took <*>"
UNTIL = "2026-11-27T18:00:00Z"


def override(**changed):
    return {"kind": "cap", "rate": 0.1, "until": UNTIL, "owner": "ada", "reason": "too loud"} | changed


NEVER = override(kind="never_sample", rate=None)
LIFT = override(kind="lift_error_like", rate=None, template=TEMPLATE)
BOOST = {"factor": 5, "until": UNTIL, "reason": "incident"}


def fields(*overrides, **changed):
    return {"team_id": 7, "service": "shop", "environment": "", "overrides": list(overrides)} | changed


def test_an_overlay_survives_its_canonical_json():
    made = parse_overlay(fields(override(template=TEMPLATE), NEVER, LIFT, boosts=[BOOST]))
    text = overlay_json(made)
    assert parse_overlay(text) == made
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_the_decision_reads_the_document():
    plain = overlay_document(parse_overlay(fields(override())))
    at = datetime(2026, 11, 24, tzinfo=UTC)
    assert decide({"global_rate": 1.0}, "info", None, False, overlay=plain, at=at) == (0.1, "override")


def test_equal_moments_are_equal_text():
    assert overlay_json(parse_overlay(fields(override(until="2026-11-27T20:00:00+02:00")))) == overlay_json(
        parse_overlay(fields(override()))
    )


def test_an_overlay_reads_as_sentences():
    made = parse_overlay(fields(override(template=TEMPLATE), override(kind="never_sample", rate=None, until=None)))
    assert describe(made) == [
        f"pattern “{TEMPLATE}”: at most 0.1 kept (ada, until 2026-11-27 18:00 UTC: too loud)",
        "the service: never sampled (ada, without an end: too loud)",
    ]
    assert describe(parse_overlay(fields(boosts=[BOOST]))) == [
        "the service: 5 times the rate, until 2026-11-27 18:00 UTC (incident)"
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"overrides": [override(rate=1.5)]}, r"overrides.0.rate: .*less than 1.*\(got 1.5\)"),
        ({"overrides": [override(rate=1e-5)]}, r"overrides.0.rate: .*greater than or equal to 0.0001"),
        ({"overrides": [override(rate="0.1")]}, "overrides.0.rate: .*valid number"),
        ({"overrides": [override(until=5)]}, "overrides.0.until: a moment is a date"),
        ({"overrides": [override(owner="  ")]}, "overrides.0.owner: it is blank"),
        ({"schema_version": True}, "schema_version: this is a number"),
        ({"overrides": [override(rate=float("nan"))]}, "overrides.0.rate"),
        ({"overrides": [override(rate=None)]}, "a cap names the most that is kept"),
        ({"overrides": [NEVER | {"rate": 0.5}]}, "and only a cap"),
        ({"overrides": [override(until=None)]}, "what loses logs must name when it is over"),
        ({"overrides": [LIFT | {"until": None}]}, "what loses logs"),
        ({"overrides": [LIFT | {"template": None}]}, "name a pattern"),
        ({"overrides": [override(until="2026-11-27T18:00:00")]}, "overrides.0.until: .*timezone"),
        ({"overrides": [override(owner="")]}, "overrides.0.owner"),
        ({"overrides": [override(kind="halve")]}, "overrides.0.kind"),
        ({"overrides": [override(colour="red")]}, "overrides.0.colour: Extra inputs"),
        ({"overrides": [override(template=TEMPLATE, signature="a" * 16)]}, "overrides.0.signature is aaaa.*has signat"),
        ({"overrides": [override(), NEVER]}, "the service is both at most 0.1 kept .* and never sampled"),
        (
            {"overrides": [override(template=TEMPLATE), NEVER | {"signature": signature("shop", TEMPLATE)}]},
            "is both at most 0.1",
        ),
        ({"boosts": [BOOST | {"factor": 0.5}]}, "boosts.0.factor"),
        ({"boosts": [BOOST | {"until": None}]}, "boosts.0.until"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_an_overlay_out_of_bounds_is_refused_with_what_and_where(changed, message):
    with pytest.raises(OverlayError, match=f"(?s)overlay of team 7, service 'shop', environment '' is not.*{message}"):
        parse_overlay(fields(**changed))


def test_as_text_it_is_refused_for_the_same():
    for changed in (override(rate="0.1"), override(until=5), override(owner=" ")):
        with pytest.raises(OverlayError, match=r"overrides\.0"):
            parse_overlay(json.dumps(fields(overrides=[changed])))
    for team in (True, "7", 2**31):
        with pytest.raises(OverlayError, match="team_id: "):
            parse_overlay(json.dumps(fields(team_id=team)))


def test_the_schema_names_every_field():
    schema = overlay_schema()
    assert set(schema["properties"]) == set(overlay_document(parse_overlay(fields())))
    assert schema["additionalProperties"] is False
