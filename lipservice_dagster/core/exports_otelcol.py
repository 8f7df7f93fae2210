"""A policy for the OpenTelemetry Collector (contrib): `transform`, `probabilistic_sampler`, `transform`.

The first finds the rate of a log and asks the sampler for it by ``sampling_priority``, which only ever raises what the
sampler keeps: its own percentage is the least it knows, and everything that is not decided here asks for 100. At 0 it
would draw nothing and keep whatever asks for more than 0. The last takes away what
only the two said to each other. OTTL has no branches, so the templates stand in groups by their first word, and only
the group whose range of words holds the message's is looked at. There is no `filter`: no rate of a policy is 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import yaml

from lipservice_dagster.core.exports_plan import (
    ERROR_STEMS,
    ERROR_WORDS,
    MASK_STEPS,
    PUT_BACK_SIGN,
    SEVERITY_NUMBERS,
    TAKEN_BACK,
    Entry,
    Pattern,
    Plan,
    errors_regex,
    exactly,
    moment,
    plain,
    quoted,
    severity_regex,
    unquoted,
)
from lipservice_sampler.masks import VARIABLE

STEPS = 16384
"""The sampler tells this many rates apart; a rate is rounded up to the next."""

LEAST_PERCENTAGE = 0.0062
"""A little more than one step, lest it is cut to none; with one step it keeps no more than the least rate asked for."""

_SCRATCH = ("masked", "word", "error", "keep", "said", "near", "cap", "boost", "lifted", "rate", "percentage", "draw")

NOT_COVERED = (
    "The collector keeps no state: where the policy keeps the first logs an hour of a pattern it does not list, all"
    " are kept.",
    "A log whose body is no text is kept, and so is one with lipservice.sample_rate or sampling.threshold, which was "
    "sampled before. Never chain two samplers.",
    f"The sampler knows multiples of 1/{STEPS}: rates are rounded up to the next.",
    "What reads like an error is told by the same words as elsewhere; but names of handlers and limits (on_error,"
    " max_failed), which the sampler passes over, count here too, and their logs are kept.",
    "Logs of one trace are drawn by one number, its id; others one by one, not evenly as the sampler draws them.",
    "A pattern's rate holds for messages that it fits word by word. Where the sampler also lets a variable stand for"
    " several words, a quoted text, a list or a unit, all are kept; so are overlays read: a cap or lift word by word,"
    " what keeps more wherever the constant texts stand in their order.",
)


def otelcol(plan: Plan) -> str:
    """The fragment: YAML with three processors and the order they stand in."""
    name = f"lipservice_{plan.name}"
    processors = {
        f"transform/{name}": {"error_mode": "ignore", "log_statements": list(_groups(plan))},
        f"probabilistic_sampler/{name}": {
            "mode": "hash_seed",
            "sampling_percentage": LEAST_PERCENTAGE,
            "sampling_priority": "lipservice.percentage",
            "attribute_source": "traceID",  # where there is none, the attribute below
            "from_attribute": "lipservice.draw",
            "fail_closed": False,
        },
        f"transform/{name}_tidy": {
            "error_mode": "ignore",
            "log_statements": [
                {
                    "context": "log",
                    "statements": [f'delete_key(log.attributes, "lipservice.{key}")' for key in _SCRATCH],
                }
            ],
        },
    }
    document = {
        "processors": processors,
        "service": {"pipelines": {"logs": {"processors": list(processors)}}},
    }
    text = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, width=10**9, allow_unicode=False)
    return text.replace("$", "$$")  # a single one begins a variable of the environment


def _groups(plan: Plan) -> Iterator[dict[str, Any]]:
    decided = f"{_at('masked')} != nil"
    yield _group(_scope(plan), list(_masked()))
    if plan.entries:
        yield _group(decided, list(_overlay(plan.entries)))
    yield _group(f"{decided} and {_at('keep')} == nil", list(_error_like()))
    yield from _by_word(plan)
    yield _group(f"{decided} and {_at('keep')} == nil and {_at('rate')} == nil", list(_unlisted(plan)))
    yield _group(decided, list(_stamped(plan)))
    yield _group(None, [_set("percentage", "100.0", f"{_at('percentage')} == nil"), _set("draw", "UUID()")])


def _group(condition: str | None, statements: list[str]) -> dict[str, Any]:
    return {"context": "log"} | ({"conditions": [condition]} if condition else {}) | {"statements": statements}


def _at(key: str) -> str:
    return f'log.attributes["lipservice.{key}"]'


def _set(key: str, value: str, where: str = "") -> str:
    return f"set({_at(key)}, {value})" + (f" where {where}" if where else "")


def _scope(plan: Plan) -> str:
    """Logs of the service that may be sampled: no errors, not sampled before."""
    holds = [f'IsMatch(resource.attributes["service.name"], {_regex(exactly(plan.service))})']
    if plan.environment:
        either = [
            f'(resource.attributes["{key}"] != nil and IsMatch(resource.attributes["{key}"], '
            f"{_regex(exactly(plan.environment))}))"
            for key in ("deployment.environment.name", "deployment.environment")
        ]
        holds.append(f"({' or '.join(either)})")
    holds += [
        "IsString(log.body)",
        'log.attributes["lipservice.sample_rate"] == nil',
        'log.attributes["sampling.threshold"] == nil',
        "log.severity_number < SEVERITY_NUMBER_ERROR",
        f"not IsMatch(log.severity_text, {_regex('(?i)' + errors_regex())})",
    ]
    return " and ".join(holds)


def _masked() -> Iterator[str]:
    yield _set("masked", "log.body")
    yield f"replace_pattern({_at('masked')}, {_regex(chr(92) + 'x00')}, {_string('␀')})"
    for expression, replacement in MASK_STEPS:
        groups = re.sub(r"\\([0-9])", r"${\1}", replacement)
        yield f"replace_pattern({_at('masked')}, {_regex(expression)}, {_string(groups)})"
    yield _set("word", f'Concat([{_at("masked")}, ""], " ")')


def _overlay(entries: Sequence[Entry]) -> Iterator[str]:
    """What people and incidents say; what is said of a pattern comes before what is said of the service."""
    for entry in sorted(entries, key=lambda e: e.pattern is None):
        holds = []
        if entry.until is not None:
            holds.append(f'Now() < Time("{moment(entry.until)}", "%Y-%m-%dT%H:%M:%SZ", "UTC")')
        if entry.pattern is not None:
            # In doubt, no less is kept.
            more = entry.kind in ("never_sample", "boost")
            others = () if more else entry.others
            test = (_near if more else _fits)(entry.pattern)
            holds.append(" and not ".join([test, *(f"({_fits(other)})" for other in others)]))
        elif entry.kind == "cap":
            holds.append(f"{_at('said')} == nil and {_at('near')} == nil")
        elif entry.kind == "never_sample":
            holds.append(f"{_at('said')} == nil")
        where = " and ".join(holds)
        if entry.kind == "never_sample":
            yield _set("keep", "true", where)
        elif entry.kind == "lift_error_like":
            yield _set("lifted", "true", where)
        else:
            key, than = ("cap", ">") if entry.kind == "cap" else ("boost", "<")
            better = f"({_at(key)} == nil or {_at(key)} {than} {_number(entry.value)})"
            yield _set(key, _number(entry.value), f"{where} and {better}" if where else better)
        if entry.pattern is not None and entry.kind == "cap":
            yield _set("said", "true", where)
            yield _set("near", "true", " and ".join([*holds[:-1], _near(entry.pattern)]))


def _error_like() -> Iterator[str]:
    yield _set("error", "log.body", f"{_at('lifted')} == nil and IsMatch(log.body, {_regex(ERROR_STEMS)})")
    for expression, groups in TAKEN_BACK:
        around = ["", *(f"${{{i + 1}}}" for i in range(groups))]
        put = _string(PUT_BACK_SIGN.join(around) if groups else PUT_BACK_SIGN)
        yield f"replace_pattern({_at('error')}, {_regex(expression)}, {put}) where {_at('error')} != nil"
    words = _regex(ERROR_WORDS)
    yield _set(
        "keep", "true", f"{_at('error')} != nil and IsMatch({_at('error')}, {words}) and IsMatch(log.body, {words})"
    )


def _by_word(plan: Plan) -> Iterator[dict[str, Any]]:
    """Groups of about as many templates as there are groups, by ranges of the first word; then the others."""
    undecided = f"{_at('masked')} != nil and {_at('keep')} == nil and {_at('rate')} == nil"
    words: dict[str, list[Pattern]] = {}
    others = []
    for pattern in plan.patterns:
        word = pattern.words[0]
        if VARIABLE in word or not plain(word):
            others.append(pattern)
        else:
            words.setdefault(f"{word} ", []).append(pattern)
    size = max(isqrt(len(plan.patterns)), 8)
    chunks: list[list[str]] = [[]]
    for word in sorted(words):
        if sum(len(words[w]) for w in chunks[-1]) >= size:
            chunks.append([])
        chunks[-1].append(word)
    for i, chunk in enumerate(chunks):
        if not chunk:
            continue
        holds = [undecided, f"{_at('word')} >= {_string(chunk[0])}"]
        if i + 1 < len(chunks):
            holds.append(f"{_at('word')} < {_string(chunks[i + 1][0])}")
        yield _group(" and ".join(holds), list(_tests([p for word in chunk for p in words[word]], plan)))
    for start in range(0, len(others), size):
        yield _group(undecided, list(_tests(others[start : start + size], plan)))


def _tests(patterns: Sequence[Pattern], plan: Plan) -> Iterator[str]:
    """A message that is a template's own text is that one's, whatever else would fit."""
    open_still = f"{_at('rate')} == nil"
    for pattern in patterns:
        if plain(pattern.template):
            equal = f"{_at('masked')} == {_string(pattern.template)}"
            yield _set("rate", _number(pattern.rate), f"{open_still} and {equal}")
    for pattern in patterns:
        if VARIABLE in pattern.template or not plain(pattern.template):
            passed_over = "".join(f" and not ({_fits(other)})" for other in plan.preferred[pattern.template])
            yield _set("rate", _number(pattern.rate), f"{open_still} and {_fits(pattern)}{passed_over}")


def _near(pattern: Pattern) -> str:
    return f"IsMatch({_at('masked')}, {_regex(pattern.near)})"


def _fits(pattern: Pattern) -> str:
    """By a literal, which Go finds without running an expression, then by the expression."""
    tests = [pattern.regex]
    if pattern.literal and not pattern.template.startswith(pattern.literal):
        tests.insert(0, quoted(pattern.literal))
    return " and ".join(f"IsMatch({_at('masked')}, {_regex(test)})" for test in tests)


def _unlisted(plan: Plan) -> Iterator[str]:
    if plan.first_per_hour:
        yield _set("rate", "1.0")
        return
    rest = _number(plan.severities.get("info", plan.global_rate))
    for severity, (least, most) in SEVERITY_NUMBERS.items():
        rate = _number(plan.severities.get(severity, plan.global_rate))
        text = _regex("(?i)" + severity_regex(severity))
        number = f'(log.severity_text == "" and log.severity_number >= {least} and log.severity_number <= {most})'
        yield _set("rate", rate, f"IsMatch(log.severity_text, {text}) or {number}")
    yield _set("rate", rest, f"{_at('rate')} == nil")
    # It may be one of a pattern in a reading that is not told here: no less is kept of it.
    for pattern in plan.patterns:
        rate = _number(pattern.rate)
        yield _set("rate", rate, f"{_at('rate')} < {rate} and {_near(pattern)}")


def _stamped(plan: Plan) -> Iterator[str]:
    rate = _at("rate")
    if any(entry.kind == "boost" for entry in plan.entries):
        yield _set("rate", f"{rate} * {_at('boost')}", f"{_at('keep')} == nil and {_at('boost')} != nil")
    yield _set("rate", "1.0", f"{_at('keep')} != nil or {rate} > 1.0")
    if any(entry.kind == "cap" for entry in plan.entries):
        cap = _at("cap")
        yield _set("rate", cap, f"{_at('keep')} == nil and {cap} != nil and {rate} > {cap}")
    yield _set("rate", f"Double(Int({rate} * {STEPS}.0 + 0.999999)) / {STEPS}.0")
    yield _set("percentage", f"{rate} * 100.0")
    yield f'set(log.attributes["lipservice.sample_rate"], {rate}) where {rate} < 1.0'


def _regex(expression: str) -> str:
    return _string(unquoted(expression))


def _string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "\\x00") + '"'


def _number(rate: float) -> str:
    """The number as OTTL reads floats: with a point and without an exponent."""
    return f"{rate:.12f}".rstrip("0").rstrip(".") if rate != int(rate) else f"{rate:.1f}"
