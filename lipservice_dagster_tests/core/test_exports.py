"""Exports keep what the policy keeps, in Vector's language and Lua as they run, and no template leaves its quotes."""

import json
import random
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any

import lupa
import pytest
import pyvrl
import re2
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from lipservice_dagster.core.exports import FORMATS, UnknownFormatError, export
from lipservice_dagster.core.exports_plan import (
    ERROR_STEMS,
    ERROR_WORDS,
    LEVEL_FIELDS,
    MASK_STEPS,
    NUMBER_FIELDS,
    TAKEN_BACK,
    pattern,
)
from lipservice_dagster.core.policy import PatternRate, Policy, Unknown, document
from lipservice_dagster.ingest import objects
from lipservice_dagster.ingest.lines import read_line
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster_tests.core.otelcol_schema import (
    CONVERTERS,
    EDITORS,
    ENUMS,
    PATHS,
    PROCESSORS,
    STEPS,
    Fragment,
    ProbabilisticSampler,
)
from lipservice_sampler.decision import decide, error_like, indexed, severity_name
from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import repair, signature

DAY = date(2026, 9, 10)
SEVERITIES = {"trace": 0.1, "debug": 0.2, "info": 0.3, "warn": 0.6, "error": 1.0, "fatal": 1.0}
HOSTILE = (
    "it's \"quoted\" \\ and \\' more <*>",
    "line\nbreak: <*>\n- item: &anchor *alias !!tag",
    "') { abort } #<*>",
    '"; . = {}; "<*>',
    "]] .. os.execute('x') --[[ <*>",
    "${HOME} $HOME $$ {{ .x }} SECRET[a.b] <*>",
    "(a+)+$ (.*)*\\z [^]] <*>",
    "\x00\x07\x1b[31m\u2028\x85 ünï \U0001f600 <*>",
    "---\n...\n%YAML 1.1 <*>",
    "r'x' r'\\' <*>",
)


def policy(templates: dict[str, float], service: str = "demo", first: int = 0, environment: str = "") -> dict[str, Any]:
    return document(
        Policy(
            team_id=1,
            service=service,
            environment=environment,
            day=DAY,
            global_rate=0.5,
            severity_rates=SEVERITIES,  # type: ignore[arg-type]
            pattern_rates=tuple(
                PatternRate(signature=signature(service, t), template=t, rate=rate) for t, rate in templates.items()
            ),
            unknown=Unknown(first_per_hour=first),
            generated_by="rules",
        )
    )


def overlay(service: str = "demo", **entries: Any) -> dict[str, Any]:
    return {"team_id": 1, "service": service, "environment": "", **entries}


def vector_rates(doc: dict[str, Any], said: dict[str, Any] | None, logs: list[tuple[str, str]]) -> list[float]:
    """The rate that the exported program stamps; it is taken out of the YAML, as Vector would read it."""
    name, transforms = _vector(export(doc, said, "vector"))
    transform = pyvrl.Transform(transforms[f"{name}_rates"]["source"] + "\n.")
    events = [{"message": m, "severity": s, "service": doc["service"]} for m, s in logs]
    return [transform.remap(event).get("lipservice.sample_rate", 1.0) for event in events]


def _vector(text: str) -> tuple[str, dict[str, Any]]:
    assert "$" not in text.replace("$$", "")  # each is taken for a variable of the environment
    transforms = yaml.safe_load(text.replace("$$", "$"))["transforms"]
    return list(transforms)[-1], transforms


def lua(doc: dict[str, Any], said: dict[str, Any] | None = None) -> Any:
    """The filter, as Fluent Bit would call it."""
    code = yaml.safe_load(export(doc, said, "fluentbit"))["pipeline"]["filters"][0]["code"]
    runtime = lupa.LuaRuntime(encoding="utf-8")
    runtime.execute("os.time = function() return 1000 end")
    runtime.execute(code)

    def call(message: str, severity: str | None = None, **fields: object) -> tuple[int, float | None]:
        said = {} if severity is None else {"severity": severity}
        record = runtime.table_from({"log": message, **said, "service": doc["service"], **fields})
        answer, _, kept = runtime.globals().lipservice("tag", 0, record)
        return answer, kept["lipservice.sample_rate"]

    return call


_HOURS = count(3600, 3600)


def lua_rate(doc: dict[str, Any], said: dict[str, Any] | None, message: str) -> float:
    """The rate of a log that is the first of its hour."""
    return float(_lua_program(export(doc, said, "fluentbit"))(message, "info", next(_HOURS)))


@cache
def _lua_program(text: str) -> Any:
    code = yaml.safe_load(text)["pipeline"]["filters"][0]["code"]
    head, found, rest = code.partition("function lipservice(")
    runtime = lupa.LuaRuntime(encoding="utf-8")
    runtime.execute(f"{head}function rate(...) return rate_of(...) end\n{found}{rest}")
    return runtime.globals().rate


def decided(doc: dict[str, Any], said: dict[str, Any] | None, message: str, severity: str) -> float:
    masked = mask(repair(message))
    template = _matcher(tuple(p["template"] for p in doc["pattern_rates"])).match(masked)
    name = None if template is None else signature(doc["service"], template)
    at = datetime.now(UTC)
    return decide(indexed(doc), severity, name, error_like(message), overlay=said, masked=masked, at=at).rate


@cache
def _matcher(templates: tuple[str, ...]) -> Matcher:
    return Matcher(templates)


@cache
def _messages(seed: int) -> list[tuple[str, str]]:
    logs = generate(1, DAY, until=DAY, days=1, seed=seed, logs_per_day=4000)
    bodies = (b.decode() for b in logs["body"].to_pylist())
    return list(zip(bodies, logs["severity_text"].to_pylist(), strict=True))


@cache
def _learnt(first: int = 0) -> dict[str, Any]:
    """A policy with the commonest masked messages of a day."""
    common = [m for m, _ in Counter(mask(m) for m, _ in _messages(1)).most_common(60)]
    return policy({text: 0.05 + 0.9 * (i % 17) / 17 for i, text in enumerate(common)}, first=first)


def test_vector_decides_as_the_sampler_does_over_a_later_day() -> None:
    doc, logs = _learnt(), _messages(2)
    got = vector_rates(doc, None, logs)
    wanted = [decided(doc, None, m, s) for m, s in logs]
    assert sum(g != pytest.approx(w) for g, w in zip(got, wanted, strict=True)) <= 0.01 * len(logs)
    for (message, severity), rate in zip(logs, got, strict=True):
        assert rate == 1.0 or (severity not in ("error", "fatal") and not error_like(message))


def test_lua_decides_as_the_sampler_does_over_a_later_day() -> None:
    doc, logs = _learnt(), _messages(2)
    calm = [(m, s) for m, s in logs if "error" not in m.lower()]  # what only sounds like one is kept
    run = _lua_program(export(doc, None, "fluentbit"))
    got = [run(m, s.lower(), next(_HOURS)) for m, s in calm]
    wanted = [decided(doc, None, m, s) for m, s in calm]
    assert all(g > w - 1e-9 for g, w in zip(got, wanted, strict=True))
    assert sum(g != pytest.approx(w) for g, w in zip(got, wanted, strict=True)) <= 0.25 * len(calm)


def test_vectors_draws_keep_the_shares_of_the_policy_and_counts_can_be_rebuilt() -> None:
    doc, logs = _learnt(), _messages(2)
    got = vector_rates(doc, None, logs)
    rng = random.Random(7)
    expected, variance, kept, rebuilt = (Counter[float]() for _ in range(4))
    for (message, severity), stamped in zip(logs, got, strict=True):
        rate = decided(doc, None, message, severity)
        expected[rate] += rate  # type: ignore[assignment]
        variance[rate] += rate * (1 - rate)  # type: ignore[assignment]
        if rng.random() < stamped:
            kept[rate] += 1
            rebuilt[rate] += 1 / stamped  # type: ignore[assignment]
    sampled = [rate for rate in expected if variance[rate] > 5]
    statistic = sum((kept[rate] - expected[rate]) ** 2 / variance[rate] for rate in sampled)
    assert len(sampled) > 5
    assert statistic < chi2.ppf(0.99, len(sampled))
    assert kept[1.0] == expected[1.0]
    assert sum(rebuilt.values()) == pytest.approx(len(logs), rel=0.1)


def test_lua_draws_what_the_policy_keeps_and_rebuilt_counts_agree() -> None:
    doc = policy({"user <*> logged in": 0.1, "cache hit for <*>": 0.4, "tick": 0.7})
    call = lua(doc)
    statistic = 0.0
    for message, rate in (("user 17 logged in", 0.1), ("cache hit for abc", 0.4), ("tick", 0.7), ("other", 0.3)):
        answers = [call(message) for _ in range(4000)]
        kept = [stamp for answer, stamp in answers if answer == 2]
        assert all(stamp == pytest.approx(rate) for stamp in kept)
        assert {answer for answer, _ in answers} == {2, -1}
        statistic += (len(kept) - 4000 * rate) ** 2 / (4000 * rate * (1 - rate))
    assert statistic < chi2.ppf(0.9999, 4)


def test_lua_keeps_the_first_of_an_hour_of_what_is_not_listed() -> None:
    call = lua(policy({}, first=10))
    answers = [call(f"new thing {i}")[0] for i in range(2000)]
    assert answers[:10] == [0] * 10
    assert answers.count(-1) == pytest.approx(1990 * 0.7, abs=150)


def test_vector_keeps_whole_what_it_cannot_count() -> None:
    assert vector_rates(policy({}, first=10), None, [("nobody has seen this", "info")]) == [1.0]
    assert vector_rates(policy({}), None, [("nobody has seen this", "info"), ("nor this", "WARNING")]) == [0.3, 0.6]


ERRORS = [("it works", "error"), ("it works", "CRITICAL"), ("job failed", "info"), ("TypeError: x", "debug")]


def test_errors_are_kept_whole_by_vector_and_lua() -> None:
    doc = policy({"it works": 0.01, "job failed": 0.01, "TypeError: x": 0.01})
    assert vector_rates(doc, None, ERRORS) == [1.0] * 4
    call = lua(doc)
    assert all(call(m, s)[0] == 0 for m, s in ERRORS for _ in range(50))


NAMES = ["job_failed at 3", "PAYMENT_FAILED", "db_failures seen", "on 3 io_error", "run: load_error"]


@pytest.mark.parametrize("message", NAMES)
def test_a_name_that_ends_in_a_word_of_an_error_is_kept_by_vector_and_lua(message: str) -> None:
    doc = policy({mask(message): 0.01})
    assert error_like(message)
    assert vector_rates(doc, None, [(message, "info")]) == [1.0]
    assert {lua(doc)(message)[0] for _ in range(50)} == {0}


LEVELS: list[Any] = [
    *({"level": n} for n in (*range(9), 10, 20, 30, 40, 50, 60)),
    *({"severity_text": "ERROR", "level": "info"}, {"severity": "", "level": "E"}),
    *({"lvl": "dpanic"}, {"log.level": "warn"}, {"level": "finest"}, {"severity_number": 17}, {"severity_number": 24}),
    *({"severity_number": n} for n in (1, 6, 9, 13)),
    *({name: "ERROR"} for name in LEVEL_FIELDS),
    *({name: n} for name in NUMBER_FIELDS for n in (5, 17)),
    *({"severity": "info", "severity_number": 9}, {"level": True, "severity_number": 5}, {}),
]


def test_a_level_is_looked_for_where_ingest_looks_for_it() -> None:
    assert LEVEL_FIELDS == objects.SEVERITY_FIELDS
    assert NUMBER_FIELDS == objects.NUMBER_FIELDS


@pytest.mark.parametrize("fields", LEVELS, ids=str)
def test_vector_and_lua_read_a_level_as_ingest_does(fields: dict[str, object]) -> None:
    read = read_line(json.dumps({"message": "tick", **fields}).encode(), 2026).severity
    name = severity_name(read or "info")
    name = "fatal" if read == "dpanic" else name
    wanted = SEVERITIES[name]
    doc = policy({"never mind": 0.5})
    transforms = _vector(export(doc, None, "vector"))[1]
    transform = pyvrl.Transform(next(iter(transforms.values()))["source"] + "\n.")
    event = transform.remap({"message": "tick", "service": "demo", **fields})
    assert event.get("lipservice.sample_rate", 1.0) == wanted
    stamps = {stamp for answer, stamp in (lua(doc)("tick", **fields) for _ in range(60)) if answer >= 0}
    assert stamps == {None if wanted == 1.0 else wanted}


@pytest.mark.parametrize("number", [*range(17, 25), "17", "50", "60"])
def test_a_number_of_an_error_is_one_wherever_a_level_may_stand_also_as_text(number: object) -> None:
    doc = policy({"tick": 0.01})
    transforms = _vector(export(doc, None, "vector"))[1]
    transform = pyvrl.Transform(next(iter(transforms.values()))["source"] + "\n.")
    as_level = [] if number == 20 else [{"severity": number}, {"level": number}]  # pino's debug
    for fields in (*as_level, {"severity": "info", "severity_number": number}):
        assert "lipservice.sample_rate" not in transform.remap({"message": "tick", "service": "demo", **fields})
        assert {lua(doc)("tick", **fields)[0] for _ in range(50)} == {0}


LATER, EARLIER = ((datetime.now(UTC) + timedelta(days=d)).strftime("%Y-%m-%dT%H:%M:%SZ") for d in (2, -2))
SAID = {"owner": "ada", "reason": "because"}


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ({"overrides": [{"kind": "never_sample", "template": "user <*> logged in", **SAID}]}, 1.0),
        ({"overrides": [{"kind": "cap", "rate": 0.05, "until": LATER, **SAID}]}, 0.05),
        ({"overrides": [{"kind": "cap", "rate": 0.05, "until": EARLIER, **SAID}]}, 0.2),
        ({"boosts": [{"factor": 3.0, "until": LATER, "reason": "spike"}]}, 0.6),
        ({"boosts": [{"factor": 3.0, "until": EARLIER, "reason": "spike"}]}, 0.2),
        (
            {
                "overrides": [
                    {"kind": "never_sample", **SAID},
                    {"kind": "cap", "rate": 0.1, "template": "user <*> logged in", "until": LATER, **SAID},
                ]
            },
            0.1,
        ),
    ],
)
def test_what_stands_over_a_policy_holds_until_its_end(said: dict[str, Any], rate: float) -> None:
    doc, said = policy({"user <*> logged in": 0.2}), overlay(**said)
    log = ("user 17 logged in", "info")
    assert decided(doc, said, *log) == pytest.approx(rate)
    assert vector_rates(doc, said, [log]) == [pytest.approx(rate)]
    stamps = _lua_stamps(doc, said, log[0])
    assert len(stamps) == 1
    assert (stamps.pop() or 1.0) == pytest.approx(rate)


def _lua_stamps(doc: dict[str, Any], said: dict[str, Any], message: str) -> set[float | None]:
    code = yaml.safe_load(export(doc, said, "fluentbit"))["pipeline"]["filters"][0]["code"]
    runtime = lupa.LuaRuntime(encoding="utf-8")
    runtime.execute(code)
    found = set()
    for _ in range(300):
        record = runtime.table_from({"log": message, "service": doc["service"]})
        answer, _, kept = runtime.globals().lipservice("tag", 0, record)
        if answer >= 0:
            found.add(kept["lipservice.sample_rate"])
    return found


def test_other_services_and_what_was_sampled_before_are_left_alone() -> None:
    doc = policy({"tick": 0.01})
    name, transforms = _vector(export(doc, None, "vector"))
    transform = pyvrl.Transform(transforms[f"{name}_rates"]["source"] + "\n.")
    call = lua(doc)
    assert "lipservice.sample_rate" in transform.remap({"message": "tick", "service_name": "demo"})
    for fields in ({"service": "another"}, {"sample_rate": "0.5"}, {"lipservice.sample_rate": 0.5}):
        event = {"message": "tick", "severity": "info", "service": "demo", **fields}
        assert transform.remap(dict(event)) == event
        assert {call("tick", **fields)[0] for _ in range(50)} == {0}


def test_the_sampler_of_vector_draws_by_the_rate_that_is_found_and_leaves_the_stamp() -> None:
    _, transforms = _vector(export(policy({"tick": 0.25}), None, "vector"))
    rates, sample, out = transforms.values()
    event = pyvrl.Transform(rates["source"] + "\n.").remap({"message": "tick", "service": "demo"})
    assert event[sample["ratio_field"]] == 0.25
    assert pyvrl.Transform(out["source"] + "\n.").remap(event) == {
        "message": "tick",
        "service": "demo",
        "lipservice.sample_rate": 0.25,
    }
    assert {"rate", "ratio"} & set(sample) == {"ratio"}


@pytest.mark.parametrize("to", FORMATS)
def test_a_service_in_shadow_has_everything_kept_and_the_export_says_so(to: str) -> None:
    text = export(policy({"tick": 0.01}), None, to, mode="shadow")
    assert "In shadow" in text
    assert "tick" not in text


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownFormatError, match="otelcol, vector, fluentbit"):
        export(policy({}), None, "syslog")


# Never less than the sampler keeps.

LISTED = {
    "Deleted <*> bytes": 0.01,
    "Deleted account of <*>": 1.0,
    "took <*> ms": 0.01,
    "took <*>": 0.9,
    "Uploaded file <*> in <*> ms": 0.02,
    "Uploaded file <*> rejected: <*>": 1.0,
    "user <*> logged in": 0.03,
    "user admin logged in": 1.0,
    "GET <*> <*> <*> ms": 0.04,
    "<*> of the last <*>": 0.05,
    "<*> of the <*> day": 0.8,
    'at "<*>" by=<*> (<*>)': 0.06,
    'at "home" by=<*> (<*>)': 0.7,
    "a <*> <*> d": 0.07,
    "<*> b c <*>": 0.6,
    "wait... <*> done": 0.08,
    "a <*>, then. <*>": 0.09,
    "<*>": 0.5,
    "ssh0 <*> up": 0.1,
}
CONSTANT = sorted({w for t in LISTED for w in t.split(" ") if "<*>" not in w})
ODD = (
    '5|3.5|/x|admin|ada|home|of|last|day|"home"|"a b"|by=5|by=ada|(7)|(x y)|1,|a:5|5:6|wow!|x.|..|ssh2|ssh22222|ms.|'
    "[1, 2]|true|11:12:13|h\u00e9|\uff0cb"
)
WORDS = [*CONSTANT, *ODD.split("|")]


@st.composite
def _altered(draw: st.DrawFn) -> str:
    """A message of a listed pattern, its values drawn, with words put in, taken out or put in another's place."""
    template = draw(st.sampled_from(sorted(LISTED)))
    while "<*>" in template:
        template = template.replace("<*>", draw(st.sampled_from(WORDS) | st.sampled_from(["5", "ada"])), 1)
    ws = template.split(" ")
    for _ in range(draw(st.integers(0, 2))):
        at, size = draw(st.integers(0, len(ws))), draw(st.integers(0, 1))
        ws[at : at + size] = draw(st.lists(st.sampled_from(WORDS), max_size=2))
    return " ".join(ws)


def _entries(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """At most three entries: of the service, of a template, or of a signature alone."""
    overrides: list[dict[str, Any]] = []
    boosts: list[dict[str, Any]] = []
    for template in draw(st.lists(st.sampled_from(sorted(LISTED)), max_size=3, unique=True)):
        of = draw(st.sampled_from([{"template": template}, {"signature": signature("demo", template)}]))
        kind = draw(st.sampled_from(["cap", "cap", "never_sample", "boost"]))
        if kind == "boost":
            boosts.append({**of, "factor": 4.0, "until": LATER, "reason": "spike"})
        else:
            rate = {"rate": draw(st.sampled_from([0.001, 0.4]))} if kind == "cap" else {}
            overrides.append({**of, "kind": kind, **rate, "until": LATER, **SAID})
    if draw(st.booleans()):
        overrides.append({"kind": "cap", "rate": 0.02, "until": LATER, **SAID})
    return {"overrides": overrides, "boosts": boosts}


@st.composite
def _said(draw: st.DrawFn) -> dict[str, Any]:
    entries: dict[str, Any] = _entries(draw)
    return overlay("demo", **entries)


NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=40, deadline=None, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_altered(), min_size=20, max_size=40), st.sampled_from([0, 3]), _said())
def test_vector_never_keeps_less_than_the_sampler(messages: list[str], first: int, said: dict[str, Any]) -> None:
    doc = policy(LISTED, first=first)
    got = vector_rates(doc, said, [(m, "info") for m in messages])
    for message, rate in zip(messages, got, strict=True):
        assert rate >= decided(doc, said, message, "info") - 1e-9, message


@settings(max_examples=40, deadline=None, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_altered(), min_size=20, max_size=40), st.sampled_from([0, 3]), _said())
def test_lua_never_keeps_less_than_the_sampler(messages: list[str], first: int, said: dict[str, Any]) -> None:
    doc = policy(LISTED, first=first)
    for message in messages:
        wanted = decided(doc, said, message, "info")
        assert lua_rate(doc, said, message) >= wanted - 1e-9, message


@pytest.mark.parametrize("value", ["5:6", "1:2:3", "12:3.5", "15:06:1", "0:0", "15:06", "10:500", "1.2.3.4:80"])
def test_lua_takes_for_one_value_no_more_than_the_masks_do(value: str) -> None:
    doc, message = policy({"took <*> ms": 0.01, "took <*>": 0.9}), f"took {value} ms"
    assert lua_rate(doc, None, message) >= decided(doc, None, message, "info") - 1e-9


@settings(max_examples=300, deadline=None, phases=NO_SHRINKING)
@given(_altered())
def test_an_expression_fits_what_the_samplers_strictest_reading_does_and_nothing_else(message: str) -> None:
    masked = mask(message)
    for template, (strict, near) in _expressions().items():
        matcher = Matcher([template])
        assert (strict.search(masked) is not None) == (masked == template or matcher._words.find(masked) is not None)
        assert near.search(masked) is not None or matcher.match(masked) is None


@cache
def _expressions() -> dict[str, tuple[Any, Any]]:
    made = [pattern(template, 1.0) for template in LISTED]
    return {p.template: (re2.compile(p.regex), re2.compile(p.near)) for p in made}


@pytest.mark.parametrize(
    ("listed", "message", "rate"),
    [
        ({"Deleted <*> bytes": 0.01}, "Deleted account of customer ada", 1.0),
        ({"Deleted <*> bytes": 0.01, "Deleted <*>: <*>": 1.0}, "Deleted volume: 7", 1.0),
        (
            {"Uploaded file <*> in <*> ms": 0.01, "Uploaded file <*> rejected: <*>": 1.0},
            "Uploaded file 7 rejected: 9",
            1.0,
        ),
        ({"user <*> logged in": 0.01}, "user bob logged in", 0.01),
        # More constants come first, wherever they stand.
        ({f"user <*> <*> x{i}": 0.01 for i in "abcdef"} | {"<*> one two xa": 0.9}, "user one two xa", 0.9),
    ],
)
def test_a_pattern_keeps_to_its_words_in_vector(listed: dict[str, float], message: str, rate: float) -> None:
    doc = policy(listed, first=3)
    assert decided(doc, None, message, "info") == rate
    assert vector_rates(doc, None, [(message, "info")]) == [rate]
    assert not any(
        re2.search(_unquote(statement.split(", ")[-1]), mask(message))
        for statement in _ottl(export(doc, None, "otelcol"))
        if rate == 1.0 and "0.01" in statement and "IsMatch" in statement
    )


@pytest.mark.parametrize("kind", ["cap", "lift_error_like"])
def test_a_word_about_a_signature_does_not_reach_a_more_special_pattern(kind: str) -> None:
    doc = policy(
        {"user <*> logged in": 0.5, "user admin logged in": 1.0, "user <*> has err": 0.1, "user ab has err": 1.0}
    )
    rate = {"rate": 0.001} if kind == "cap" else {}
    for template in ("user <*> logged in", "user <*> has err"):
        name = signature("demo", template)
        said = overlay(overrides=[{"kind": kind, "signature": name, "until": LATER, **rate, **SAID}])
        for message in ("user admin logged in", "user 7 logged in", "user ab has err", "user 7 has err"):
            wanted = decided(doc, said, message, "info")
            assert vector_rates(doc, said, [(message, "info")]) == [wanted]
            if "err" not in message or kind == "cap":
                assert lua_rate(doc, said, message) == wanted


# No text leaves its quotes.


@pytest.mark.parametrize("to", FORMATS)
def test_a_hostile_template_or_service_changes_nothing_of_the_structure(to: str) -> None:
    tame = _shape(yaml.safe_load(export(policy({f"tame{i} <*>": 0.25 for i in range(len(HOSTILE))}), None, to)))
    assert _shape(yaml.safe_load(export(policy(dict.fromkeys(HOSTILE, 0.25)), None, to))) == tame
    for service in HOSTILE:
        text = export(policy({}, service=service), None, to)
        assert len(_shape(yaml.safe_load(text))) == len(_shape(yaml.safe_load(export(policy({}), None, to))))
        assert "SECRET[" not in text
        assert "${HOME}" not in text


def _shape(value: Any) -> list[str]:
    """The keys of a document, at their depth."""
    if isinstance(value, dict):
        return [f"{key}>{inner}" for key, of in value.items() for inner in ["", *_shape(of)]]
    return [inner for of in value for inner in _shape(of)] if isinstance(value, list) else []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(HOSTILE)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXT, min_size=1, max_size=3, unique=True), TEXT)
def test_any_template_compiles_and_matches_its_own_text(texts: list[str], around: str) -> None:
    masked = {mask(repair(text)): 0.25 for text in texts}
    doc = policy(masked)
    said = overlay(overrides=[{"kind": "cap", "rate": 0.125, "template": around or "x", "until": LATER, **SAID}])
    texts = [text for text in masked if mask(text) == text]
    wanted = [decided(doc, said, text, "info") for text in texts]
    assert vector_rates(doc, said, [(text, "info") for text in texts]) == pytest.approx(wanted)
    assert lua(doc, said)("never seen by anyone zzz", "error") == (0, None)
    for statement in _ottl(export(doc, said, "otelcol")):
        _readable(statement)


# OpenTelemetry Collector: the documented keys, and expressions as RE2 reads them.

RATE = 'log.attributes["lipservice.rate"]'
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')


def _otelcol(text: str) -> dict[str, Any]:
    assert "$" not in text.replace("$$", "")
    loaded = yaml.safe_load(text.replace("$$", "$"))
    assert isinstance(loaded, dict)
    return loaded


def _ottl(text: str) -> list[str]:
    groups = [group for of in _otelcol(text)["processors"].values() for group in of.get("log_statements", ())]
    return [line for group in groups for line in (*group.get("conditions", ()), *group["statements"])]


def _readable(statement: str) -> None:
    """Its strings are whole, its expressions RE2's, and nothing else in it comes from a log."""
    for expression in re.findall(r'IsMatch\([^,"]*(?:\["[^"]*"\])?, ("(?:[^"\\]|\\.)*")\)', statement):
        re2.compile(_unquote(expression))
    rest = _LITERAL.sub('""', statement)
    assert re.fullmatch(r"[A-Za-z0-9_ .,()\[\]=!<>*+/\"]*", rest), rest
    assert re.fullmatch(r"[^()]*", _called(rest)), rest
    words = set(re.findall(r"[A-Za-z_][A-Za-z_.]*", rest.replace('""', "")))
    known = {*EDITORS, *CONVERTERS, *ENUMS, *PATHS, "and", "or", "not", "where", "nil", "true"}
    assert words <= known, words - known


def _called(rest: str) -> str:
    """The statement with every call and group taken out, from the inside; each call has as many arguments as it may."""
    functions = EDITORS | CONVERTERS
    while (inner := re.search(r"([A-Za-z_]*)( ?)\(([^()]*)\)", rest)) is not None:
        name, space, given = inner.groups()
        if name in functions and not space:
            least, most = functions[name]
            arguments = given
            while "[" in arguments:
                arguments = re.sub(r"\[[^\[\]]*\]", "", arguments)
            assert least <= (arguments.count(",") + 1 if given.strip() else 0) <= most, rest
        else:
            assert name in ("", "and", "or", "not", "where"), rest
        rest = f"{rest[: inner.start()]}{name if name not in functions else ''} _ {rest[inner.end() :]}"
    return rest


def _unquote(literal: str) -> str:
    """A Go string, of the escapes that are used."""
    return re.sub(r"\\(\\|x00)", lambda m: chr(0) if m[1] == "x00" else m[1], literal[1:-1])


def test_every_key_of_the_collectors_fragment_is_documented_and_every_statement_can_be_read() -> None:
    said = overlay(
        overrides=[{"kind": "cap", "rate": 0.1, "template": "tick <*>", "until": LATER, **SAID}],
        boosts=[{"factor": 3.0, "until": LATER, "reason": "spike"}],
    )
    doc = policy(dict.fromkeys((*HOSTILE, *(f"word{i} <*> done" for i in range(100))), 0.25), environment="")
    document = _otelcol(export(doc, said, "otelcol"))
    fragment = Fragment.model_validate(document)
    assert fragment.service.pipelines.logs.processors == list(fragment.processors)
    for name, processor in fragment.processors.items():
        PROCESSORS[name.partition("/")[0]].model_validate(processor)
    statements = _ottl(export(doc, said, "otelcol"))
    for statement in statements:
        _readable(statement)
    assert sum("= 0.25" in s or ", 0.25)" in s for s in statements) >= len(doc["pattern_rates"])
    assert any(s.startswith("set(") and "Now() < Time(" in s for s in statements)


@pytest.mark.parametrize("rate", [1e-6, 1 / 16384, 0.0003, 0.05, 0.25, 0.37, 0.999, 1.0])
def test_the_collectors_sampler_keeps_at_the_rate_that_is_stamped(rate: float) -> None:
    document = _otelcol(export(policy({"tick": rate}), None, "otelcol"))
    (given,) = (p for name, p in document["processors"].items() if name.startswith("probabilistic_sampler/"))
    sampler = ProbabilisticSampler.model_validate(given)
    stamped = int(rate * STEPS + 0.999999) / STEPS  # as the statement says
    assert f"Double(Int({RATE} * 16384.0 + 0.999999)) / 16384.0" in "\n".join(
        _ottl(export(policy({}), None, "otelcol"))
    )
    assert rate <= stamped <= rate + 1 / STEPS
    assert sampler.kept(stamped * 100.0) == pytest.approx(stamped, rel=1e-9)
    assert sampler.kept(100.0) == 1.0
    # Logs of a trace share its draw, others have one of their own, and what was sampled before passes.
    assert (sampler.attribute_source, sampler.from_attribute) == ("traceID", "lipservice.draw")
    assert not sampler.fail_closed


def test_a_boost_without_its_end_in_force_is_a_condition_of_every_target() -> None:
    said = overlay(boosts=[{"factor": 3.0, "until": LATER, "reason": "spike"}])
    doc = policy({"tick": 0.2})
    assert f"now() < t'{LATER}'" in export(doc, said, "vector")
    assert f'Time("{LATER}"' in "\n".join(_ottl(export(doc, said, "otelcol")))
    assert "boost" in export(doc, said, "fluentbit")


def test_masks_and_error_words_mean_the_same_in_re2() -> None:
    texts = (
        {m for m, _ in _messages(2)}
        | set(HOSTILE)
        | {
            *(
                "no errors",
                "failed=0",
                "3 failed, 0 errors",
                "error: null",
                "on_error set",
                "/errors/404",
                "TypeError: x",
            ),
            *(
                "worker 0 failed",
                "error=oops failed=0 x",
                "12 passed, 0 failed",
                "NullPointerException at",
                "fail-safe",
            ),
        }
    )
    for text in sorted(texts):
        masked = error = text
        for expression, replacement in MASK_STEPS:
            masked = re2.sub(expression, replacement, masked)
        assert masked == mask(text)
        for expression, groups in TAKEN_BACK:
            error = re2.sub(expression, " ! ".join(["", *(f"\\{i + 1}" for i in range(groups))]) or " ! ", error)
        found = all(re2.search(e, t) for e, t in ((ERROR_STEMS, text), (ERROR_WORDS, text), (ERROR_WORDS, error)))
        # RE2 cannot ask whether a name is one of a handler or a limit (on_error, max_failed): that is kept.
        handler = re.search(r"\b(?:on|is|has|no|non|if|when|ignore|skip|max|min|allow|log|handle|raise|retry)_", text)
        assert found == error_like(text) or (found and handler), text
