"""A policy for Vector: a `remap` that finds the rate, a `sample` that draws by it, and a `remap` that tidies up.

Vector keeps no state between events, so of patterns that the policy does not list every log counts as the first of its
hour. A message's pattern is found along its words: a binary search over the first one, then the next, and so on, until
few templates are left, which are told apart by an equality, else by a literal and a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import yaml

from lipservice_dagster.core.exports_plan import (
    ERROR_STEMS,
    ERROR_WORDS,
    LEVEL_FIELDS,
    LEVELS_READ,
    MASK_STEPS,
    NUMBER_FIELDS,
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
    severity_regex,
    unquoted,
)
from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.text import MAX_CHARS

LINEAR = 4
"""Templates that are tried one after the other."""

DEEPEST = 6
"""Words from the beginning that are looked at in turn."""

_LAST = "w_last"
_Tests = Callable[[list[Pattern]], Iterator[str]]
_ERROR_NUMBER = 17
NOT_COVERED = (
    "Vector keeps no state: where the policy keeps the first logs an hour of what it does not list, all are kept.",
    "A log with lipservice.sample_rate, sampling.threshold or sample_rate was sampled before and is left alone.",
    "What reads like an error is told by the same words as elsewhere; but names of handlers and limits (on_error,"
    " max_failed), which the sampler passes over, count here too, and their logs are kept.",
    "A pattern's rate holds for messages that it fits word by word. Where the sampler also lets a variable stand for"
    " several words, a quoted text, a list or a unit, all are kept; so are overlays read: a cap or lift word by word,"
    " what keeps more wherever the constant texts stand in their order.",
    *LEVELS_READ,
)


def vector(plan: Plan) -> str:
    """The fragment: YAML with three transforms; the first takes the inputs, the last is the output."""
    name = f"lipservice_{plan.name}"
    transforms = {
        f"{name}_rates": {
            "type": "remap",
            "inputs": ["your_source"],
            "drop_on_error": False,
            "drop_on_abort": False,
            "source": _Literal(program(plan)),
        },
        f"{name}_sample": {
            "type": "sample",
            "inputs": [f"{name}_rates"],
            "ratio": 1.0,
            "ratio_field": "lipservice_ratio",
            "exclude": "!exists(.lipservice_ratio)",
        },
        name: {
            "type": "remap",
            "inputs": [f"{name}_sample"],
            "source": "del(.lipservice_ratio)",
        },
    }
    text = yaml.dump({"transforms": transforms}, Dumper=_Dumper, sort_keys=False, width=10**9, allow_unicode=False)
    return text.replace("$", "$$")  # a single one begins a variable of the environment


def program(plan: Plan) -> str:
    """The VRL of the first transform, as Vector runs it."""
    return "\n".join(_program(plan)) + "\n"


def _program(plan: Plan) -> Iterator[str]:
    yield 'service = to_string(.service) ?? ""'
    yield 'if service == "" { service = to_string(.service_name) ?? "" }'
    yield 'environment = to_string(.environment) ?? ""'
    scope = [f"match(service, {_regex(exactly(plan.service))})"]
    if plan.environment:
        scope.append(f'(environment == "" || match(environment, {_regex(exactly(plan.environment))}))')
    stamped = " || ".join(
        f"exists({path})" for path in ('."lipservice.sample_rate"', '."sampling.threshold"', ".sample_rate")
    )
    yield f"if is_string(.message) && !({stamped}) && {' && '.join(scope)} {{"
    yield f"  raw = truncate(string!(.message), {MAX_CHARS})"
    yield from ("  " + line for line in _level())
    yield "  # Errors are kept whole, whatever else is said."
    yield f"  if number < {_ERROR_NUMBER} && !match(level, {_regex(errors_regex())}) {{"
    yield from ("    " + line for line in _decided(plan))
    yield "    if rate < 1.0 {"
    yield '      ."lipservice.sample_rate" = rate'
    yield "      .lipservice_ratio = rate"
    yield "    }"
    yield "  }"
    yield "}"


def _level() -> Iterator[str]:
    yield 'level = ""'
    for path in (*(f'."{field}"' for field in LEVEL_FIELDS), ".log.level"):
        read = f'strip_whitespace(downcase(to_string({path}) ?? ""))'
        yield f'if level == "" && (is_string({path}) || is_integer({path})) {{ level = {read} }}'
    yield "number = 0"
    for field in NUMBER_FIELDS:
        yield f"if number == 0 {{ number = to_int(.{field}) ?? 0 }}"
    for name, (least, most) in SEVERITY_NUMBERS.items():
        yield f'if level == "" && number >= {least} && number <= {most} {{ level = "{name}" }}'


def _decided(plan: Plan) -> Iterator[str]:
    yield "# The masked message: its values are <*>."
    yield "m = replace(raw, r'\\x00', \"␀\")"
    for expression, replacement in MASK_STEPS:
        put = re.sub(r"\\([0-9])", r"${\1}", replacement)
        yield f"m = replace(m, {_regex(expression)}, {_string(put)})"
    yield "keep = false"
    yield "cap = 1.0"
    yield "boost = 1.0"
    yield "lifted = false"
    yield "said = false"
    yield "near = false"
    yield from _overlay(plan.entries)
    yield "rate = 1.0"
    yield "if !keep {"
    yield "  error_like = false"
    yield f"  if !lifted && match(raw, {_regex(ERROR_STEMS)}) {{"
    yield "    e = raw"
    for expression, groups in TAKEN_BACK:
        around = ["", *(f"${{{i + 1}}}" for i in range(groups))]
        put = _string(PUT_BACK_SIGN.join(around) if groups else PUT_BACK_SIGN)
        yield f"    e = replace(e, {_regex(expression)}, {put})"
    yield f"    error_like = match(e, {_regex(ERROR_WORDS)}) && match(raw, {_regex(ERROR_WORDS)})"
    yield "  }"
    yield "  if !error_like {"
    yield "    r = -1.0"
    yield from ("    " + line for line in _found(plan))
    yield "    if r < 0.0 {"
    yield from ("      " + line for line in _unlisted(plan))
    yield "    }"
    yield "    rate = r * boost"
    yield "    if rate > 1.0 { rate = 1.0 }"
    yield "    if rate > cap { rate = cap }"
    yield "  }"
    yield "}"


def _unlisted(plan: Plan) -> Iterator[str]:
    if plan.first_per_hour:
        yield "# One of the first of its hour, for all that can be known here."
        yield "r = 1.0"
        return
    yield f"r = {_number(plan.severities.get('info', plan.global_rate))}"
    for severity in ("trace", "debug", "warn"):
        rate = _number(plan.severities.get(severity, plan.global_rate))
        yield f"if match(level, {_regex(severity_regex(severity))}) {{ r = {rate} }}"
    # It may be one of a pattern in a reading that is not told here: no less is kept of it.
    for pattern in plan.patterns:
        yield f"if r < {_number(pattern.rate)} && {_near(pattern)} {{ r = {_number(pattern.rate)} }}"


def _overlay(entries: Sequence[Entry]) -> Iterator[str]:
    """What people and incidents say; what is said of a pattern comes before what is said of the service."""
    for entry in sorted(entries, key=lambda e: e.pattern is None):
        holds = [] if entry.until is None else [f"now() < t'{moment(entry.until)}'"]
        if entry.pattern is not None:
            # In doubt, no less is kept.
            more = entry.kind in ("never_sample", "boost")
            others = () if more else entry.others
            holds.append(" && !".join([(_near if more else _fits)(entry.pattern), *(f"({_fits(o)})" for o in others)]))
        elif entry.kind == "cap":
            holds.append("!said && !near")
        elif entry.kind == "never_sample":
            holds.append("!said")
        says = {
            "never_sample": "keep = true",
            "cap": f"if cap > {_number(entry.value)} {{ cap = {_number(entry.value)} }}",
            "lift_error_like": "lifted = true",
            "boost": f"if boost < {_number(entry.value)} {{ boost = {_number(entry.value)} }}",
        }[entry.kind]
        if entry.pattern is not None and entry.kind == "cap":
            says += "; said = true"
            yield f"if {' && '.join([*holds[:-1], _near(entry.pattern)])} {{ near = true }}"
        yield f"if {' && '.join(holds) or 'true'} {{ {says} }}"


def _found(plan: Plan) -> Iterator[str]:
    if len(plan.patterns) > LINEAR:
        yield 'w = split(m, " ")'
        for i in range(DEEPEST):
            yield f'w{i} = string(w[{i}]) ?? ""'
        yield f'{_LAST} = string(w[-1]) ?? ""'
    yield from _tree(list(plan.patterns), 0, lambda patterns: _tests(patterns, plan))


def _tree(patterns: list[Pattern], depth: int, tests: _Tests) -> Iterator[str]:
    """Those with a constant word at this place by that word, then the others by their last word."""
    if len(patterns) <= LINEAR or depth >= DEEPEST:
        yield from _by_last(patterns, tests)
        return
    keyed, free = _keyed(patterns, depth)
    yield from _search(sorted(keyed.items()), f"w{depth}", lambda found: _tree(found, depth + 1, tests))
    if free:
        yield "if r < 0.0 {" if keyed else "if true {"
        yield from ("  " + line for line in _by_last(free, tests))
        yield "}"


def _by_last(patterns: list[Pattern], tests: _Tests) -> Iterator[str]:
    if len(patterns) <= LINEAR:
        yield from tests(patterns)
        return
    keyed, free = _keyed(patterns, -1)
    yield from _search(sorted(keyed.items()), _LAST, tests)
    yield from tests(free)


def _keyed(patterns: list[Pattern], place: int) -> tuple[dict[str, list[Pattern]], list[Pattern]]:
    keyed: dict[str, list[Pattern]] = {}
    free = []
    for pattern in patterns:
        word = pattern.words[place] if place < len(pattern.words) else ""
        if VARIABLE in word or not plain(word):
            free.append(pattern)
        else:
            keyed.setdefault(word, []).append(pattern)
    return keyed, free


def _search(
    cases: Sequence[tuple[str, list[Pattern]]], word: str, inner: Callable[[list[Pattern]], Iterator[str]]
) -> Iterator[str]:
    """A binary search for the word among the cases, which ascend."""
    if not cases:
        return
    if len(cases) == 1:
        key, found = cases[0]
        yield f"if {word} == {_string(key)} {{"
        yield from ("  " + line for line in inner(found))
        yield "}"
        return
    middle = len(cases) // 2
    yield f"if {word} < {_string(cases[middle][0])} {{"
    yield from ("  " + line for line in _search(cases[:middle], word, inner))
    yield "} else {"
    yield from ("  " + line for line in _search(cases[middle:], word, inner))
    yield "}"


def _tests(patterns: Sequence[Pattern], plan: Plan) -> Iterator[str]:
    """A message that is a template's own text is that one's, whatever else would fit."""
    for pattern in patterns:
        if plain(pattern.template):
            yield f"if r < 0.0 && m == {_string(pattern.template)} {{ r = {_number(pattern.rate)} }}"
    for pattern in patterns:
        if VARIABLE in pattern.template or not plain(pattern.template):
            passed_over = "".join(f" && !({_fits(other)})" for other in plan.preferred[pattern.template])
            yield f"if r < 0.0 && {_fits(pattern)}{passed_over} {{ r = {_number(pattern.rate)} }}"


def _near(pattern: Pattern) -> str:
    return f"match(m, {_regex(pattern.near)})"


def _fits(pattern: Pattern) -> str:
    """Whether the masked message is one of the pattern's: by a literal, then by the expression."""
    test = f"match(m, {_regex(pattern.regex)})"
    if plain(pattern.literal) and pattern.literal:
        return f"contains(m, {_string(pattern.literal)}) && {test}"
    return test


def _regex(expression: str) -> str:
    # Rust's \b knows the letters of all scripts.
    ascii_words = re.sub(r"\\\\|\\b", lambda m: "(?-u:\\b)" if m[0] == "\\b" else m[0], unquoted(expression))
    return f"r'{ascii_words}'"


def _string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "\\0") + '"'


def _number(rate: float) -> str:
    """The number as VRL writes floats: with a point and without an exponent."""
    return f"{rate:.12f}".rstrip("0").rstrip(".") if rate != int(rate) else f"{rate:.1f}"


class _Literal(str):
    """Text over several lines."""

    __slots__ = ()


class _Dumper(yaml.CSafeDumper):
    pass


_Dumper.add_representer(
    _Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)
