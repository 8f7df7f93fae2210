"""What all exports share: the policy and its overlay made ready for a target, and texts that no target can misread.

What belongs here: templates as regular expressions over masked messages, the masks and what reads like an error in the
subset of RE2 and Rust's regex (no look-around), quoting, and what a target says in its comments. Each target is a
module of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lipservice_dagster.core.overlay import Boost, Override, parse_overlay
from lipservice_dagster.core.policy import keep_all, parse
from lipservice_sampler.decision import (
    ERROR_LIKE,
    ERROR_SEVERITIES,
    ERROR_WORD,
    NEGATED,
    NEGATING,
    SEVERITY_NAMES,
)
from lipservice_sampler.masks import MASKS, VARIABLE
from lipservice_sampler.matching import collapse
from lipservice_sampler.matching import words as cut

_OTLP = ("trace", "debug", "info", "warn", "error", "fatal")
_SYSLOG = ("fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug")
LEVELS: Mapping[str, str] = {
    **SEVERITY_NAMES,
    **dict.fromkeys(("finest", "finer"), "trace"),
    "dpanic": "fatal",
    **{str(n): name for n, name in enumerate(_SYSLOG)},
    **{str(n): _OTLP[(n - 1) // 4] for n in range(17, 25)},
    **{str(n): name for n, name in zip(range(10, 70, 10), _OTLP, strict=True)},
}
"""What a level may say, as `lipservice ingest` reads it, and the severity it is: names, and numbers of syslog (0 to 7)
and of pino and bunyan (10 to 60). So that no error is lost, numbers count as text too, and so do those of errors
that OpenTelemetry has (17 to 24 but 20)."""

LEVEL_FIELDS = (
    *("severity_text", "severity", "level", "lvl", "log.level", "@l", "@level"),
    *("levelname", "loglevel", "log_level", "severityText", "Level", "LogLevel"),
)
NUMBER_FIELDS = ("severity_number", "severityNumber")
"""Where a record may say its level, in the order of `lipservice ingest`; else ``level`` within ``log`` does, else
OpenTelemetry's number."""

LEVELS_READ = (
    f"The level is what `lipservice ingest` reads: the first of {', '.join(LEVEL_FIELDS)}, as a name or a number (0 to"
    " 7 as syslog, 10 to 60 as pino), else severity_number. Beyond that, numbers count as text too, OpenTelemetry's of"
    " errors (17 to 24 but pino's 20) as a level, and a severity_number from 17 on in any case.",
)

SEVERITY_NUMBERS: Mapping[str, tuple[int, int]] = {"trace": (1, 4), "debug": (5, 8), "warn": (13, 16)}
"""OpenTelemetry's numbers of the severities below error whose rate may differ from that of info."""

_PLAIN = re.compile(r"[A-Za-z0-9_ .,:;=/<>*'|!?@#%&+()\[\]-]*")
_AS_IS = re.compile(r"[A-Za-z0-9_ ,:;=/<>@%!&#-]")
# Signs that part words wherever they stand, as `matching.words` has them, white space of all scripts among them.
_PARTING = (
    r"\t-\r\x1c-\x1f ,;=()\[\]{}\x22\x27|#:<>\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}"
    + "\\x{3000}"
    + "".join(f"\\x{{{ord(sign):x}}}" for sign in "，。：；、！？（）「」『』【】《》")
)
_SIGN = rf"(?:<\*>|[^.{_PARTING}])"
_LAST_SIGN = rf"(?:<\*>|[^.!?{_PARTING}])"
_NO_ESCAPE = rf"(?:<\*>|[^.\\{_PARTING}])"


@dataclass(frozen=True)
class Pattern:
    """A template, the rate of its messages, and how a masked message is told to be one.

    ``regex``: anchored, over the masked message, in ASCII; fits what the sampler's strictest reading does, where a
    variable is one word, and nothing else. ``near``: fits what any of its readings does, and more: the ``constants`` in
    their order. ``literal``: the longest constant text. ``rank``: order in which patterns are tried, as the sampler's,
    the most specific first.
    """

    template: str
    rate: float
    regex: str
    near: str
    constants: tuple[str, ...]
    literal: str
    words: tuple[str, ...]
    rank: tuple[int, tuple[int, ...], str]


@dataclass(frozen=True)
class Entry:
    """An override or boost: ``value`` is the rate of a cap or the factor of a boost; no pattern: the whole service.

    ``others``: patterns whose messages are not meant though they fit, where it names a signature and no template.
    """

    kind: str
    value: float
    until: datetime | None
    pattern: Pattern | None
    others: tuple[Pattern, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a target has to say. ``preferred``: by template, the patterns that come before it
    where both fit. ``severities``: rate by name; ``first_per_hour``: of patterns that are not listed."""

    team_id: int
    service: str
    environment: str
    version: str
    mode: str
    patterns: tuple[Pattern, ...]
    preferred: Mapping[str, tuple[Pattern, ...]]
    severities: Mapping[str, float]
    global_rate: float
    first_per_hour: int
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """The service in letters, digits and _, for names of components."""
        return re.sub(r"[^a-z0-9]+", "_", self.service.lower()).strip("_")[:40] or "service"


def plan(policy: Mapping[str, Any], overlay: Mapping[str, Any] | None, mode: str) -> Plan:
    """The documents made ready. In shadow nothing is dropped: everything is kept, and the overlay says nothing.

    Raises PolicyError and OverlayError where a document is not valid.
    """
    document = parse(policy)
    if mode == "shadow":
        kept = keep_all(document.team_id, document.service, document.environment, document.day)
        document = kept.model_copy(update={"reasoning": document.reasoning})
        overlay = None
    said = parse_overlay(overlay) if overlay else None
    templates = {p.signature: p.template for p in document.pattern_rates}
    patterns = tuple(sorted((pattern(p.template, p.rate) for p in document.pattern_rates), key=lambda p: p.rank))
    preferred = _preferred(patterns)
    entries: list[Entry] = []
    left_out: list[str] = []
    spoken: list[tuple[Override | Boost, str, float]]
    spoken = [] if said is None else [(o, o.kind, o.rate or 1.0) for o in said.overrides]
    spoken += [] if said is None else [(b, "boost", b.factor) for b in said.boosts]
    for item, kind, value in spoken:
        template = item.template if item.template is not None else templates.get(item.signature or "")
        if template is None and not item.of_service:
            left_out.append(f"{kind} of signature {item.signature}: the policy lists no such pattern")
            continue
        others = () if template is None or item.template is not None else preferred[template]
        entries.append(Entry(kind, value, item.until, None if template is None else pattern(template, 1.0), others))
    return Plan(
        document.team_id,
        document.service,
        document.environment,
        version=str(policy.get("version", document.version)),
        mode=mode,
        patterns=patterns,
        preferred=preferred,
        severities={str(name): rate for name, rate in document.severity_rates.items()},
        global_rate=document.global_rate,
        first_per_hour=document.unknown.first_per_hour,
        entries=tuple(entries),
        left_out=tuple(left_out),
    )


def pattern(template: str, rate: float) -> Pattern:
    """A template made ready; see `Pattern`."""
    parts, fixed = cut(template)
    around = ["", *fixed, ""]
    out = []
    for i, part in enumerate(parts):
        word = quoted(part) if part != VARIABLE else _word(around[i], around[i + 1])
        # Nothing may stand for a word where a message begins or ends with what parts words.
        out.append(f"(?:{word})?" if part == VARIABLE and 0 in (i, len(fixed) - i) else word)
        out.append(quoted(around[i + 1]))
    places = tuple(i for i, part in enumerate(parts) if part != VARIABLE)
    constants = tuple(text for text in re.split(r"[\"'()\[\]{}]|<\*>", collapse(template)) if text)
    return Pattern(
        template,
        rate,
        f"^{''.join(out)}\\z",
        f"(?s){'.*'.join(map(quoted, constants))}",
        constants,
        max(template.split(VARIABLE), key=len),
        tuple(template.split(" ")),
        (-len(places), places, template),
    )


def _word(before: str, after: str) -> str:
    """An expression for any word, as `matching.words` cuts them, between two texts that part them."""
    start = "" if before.endswith(".") else "\\.?"
    if not after or after.isspace() or after[0].isspace():
        return f"{start}(?:{_SIGN}\\.?)*{_LAST_SIGN}"  # a full stop, ! or ? would end a sentence
    if after.startswith("."):
        return f"{start}(?:{_SIGN}\\.?)*{_SIGN}"
    if after.startswith('"'):
        return f"{start}(?:{_SIGN}\\.?)*(?:{_NO_ESCAPE}|{_SIGN}\\.)"
    return f"{start}(?:{_SIGN}\\.?)+"


def _preferred(patterns: Sequence[Pattern]) -> dict[str, tuple[Pattern, ...]]:
    """By template, those of the patterns (in their order) that come before it where both fit."""
    alike: dict[tuple[str, ...], list[tuple[Pattern, tuple[str, ...]]]] = {}
    found = {}
    for one in patterns:
        parts, fixed = cut(one.template)
        earlier = alike.setdefault(fixed, [])
        found[one.template] = tuple(
            other
            for other, theirs in earlier
            if all(a == b or VARIABLE in (a, b) for a, b in zip(parts, theirs, strict=True))
        )
        earlier.append((one, parts))
    return found


def quoted(text: str) -> str:
    """A regular expression for this text, in printable ASCII without quotes and dollar signs."""
    return "".join(map(_quoted_sign, text))


def exactly(text: str) -> str:
    """A regular expression for this text and no other."""
    return f"^{quoted(text)}\\z"


def _quoted_sign(sign: str) -> str:
    if _AS_IS.fullmatch(sign):
        return sign
    return f"\\{sign}" if sign in ".+*?()[]{}|^\\" else f"\\x{{{ord(sign):x}}}"


def plain(text: str) -> bool:
    """Whether the text can stand in a string of any target as it is: no escape, no quote, nothing to be expanded."""
    return _PLAIN.fullmatch(text) is not None and "SECRET[" not in text


def comment(text: str) -> str:
    """The text for a comment: letters, digits and harmless signs, on one line."""
    return re.sub(r"[^A-Za-z0-9_ .,:;=/<>*()+-]", "?", text)[:200]


def moment(until: datetime) -> str:
    """The time as RFC 3339 in UTC."""
    return f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def severity_regex(name: str) -> str:
    """All spellings of a severity, lower case."""
    return f"^(?:{'|'.join(sorted(s for s, n in LEVELS.items() if n == name))})\\z"


def errors_regex() -> str:
    """All spellings of the severities that are kept whole, lower case."""
    return f"^(?:{'|'.join(sorted(s for s, n in LEVELS.items() if n in ERROR_SEVERITIES))})\\z"


def unquoted(expression: str) -> str:
    """An expression without quotes, which are written as numbers, so that no string of a target ends in it."""
    return re.sub(r"\\\\|\\?([\"'])", lambda m: f"\\x{ord(m[1]):02x}" if m[1] else m[0], expression)


MASK_STEPS: tuple[tuple[str, str], ...] = (("[1-9]", "0"), *((m.pattern, m.replacement) for m in MASKS))
"""Expression and replacement of each step of masking, in order."""

# A boolean search may consume what a look-around only looks at. Whether a name is one of a handler or a limit is not
# asked: more is kept than the sampler would.
_LOOKS = (
    (r"(?<![\w/.-])", r"(?:^|[^0-9A-Za-z_/.-])"),
    (r"(?!(?:on|is|has|no|non|if|when|ignore|skip|max|min|allow|log|handle|raise|retry)_)", ""),
    (r"(?![-/]?\w|\.\w|\()", r"(?:$|[^0-9A-Za-z_/.(-]|[/.-](?:$|[^0-9A-Za-z_]))"),
    (r"(?=[\"']?\s*[=:])", r"[\"']?\s*[=:]"),
    (r"(?<![\w/.])", r"(?:^|[^0-9A-Za-z_/.])"),
    (r"(?<!/)", r"(?:^|[^/])"),
    (r"(?![/-]?\w|\.\w)", r"(?:$|[^0-9A-Za-z_/.-]|[/.-](?:$|[^0-9A-Za-z_]))"),
    (r"(?![-/_]?\w)", r"(?:$|[^0-9A-Za-z_/-]|[/-](?:$|[^0-9A-Za-z_]))"),
)
# In a replacement what was looked at is put back.
_PUT_BACK = (
    (r"(?<![^\W_])", "(^|[^0-9A-Za-z])"),
    (r"(?<![\w.])", r"(^|[^0-9A-Za-z_.])"),
    (r"(?<=<\*>\s)", r"(<\*>\s)"),
    (r"(?=", "("),
    (r"\w", "[0-9A-Za-z_]"),
    (r"[\s", r"[ \t-\r"),
    (r"\s", r"[ \t-\r]"),
)


def _rewritten(expression: str, rules: tuple[tuple[str, str], ...]) -> str:
    for found, put in rules:
        expression = expression.replace(found, put)
    return expression


ERROR_STEMS = "(?i)" + "|".join(dict.fromkeys(stem for stem, _ in ERROR_LIKE))
"""What a message must hold to read like an error: the cheap test."""

ERROR_WORDS = "(?i)" + "|".join(f"(?:{_rewritten(e, _LOOKS)})" for _, e in ERROR_LIKE)
"""What reads like an error, as `lipservice_sampler.decision.ERROR_LIKE` says it."""

_NEGATED_WORD = rf"(?<![^\W_]){ERROR_WORD}(?:_?(?:codes?|messages?|msg))?(?:{{}})"
TAKEN_BACK: tuple[tuple[str, int], ...] = tuple(
    (f"(?i){expression}", re.compile(expression).groups)
    for expression in (_rewritten(e, _PUT_BACK) for e in (*NEGATED, *(_NEGATED_WORD.format(n) for n in NEGATING)))
    if "(?!" not in expression  # what RE2 cannot say is not taken back: more is kept than the sampler would
)
"""Phrases that take such a word back, and how many groups of each are put back around a sign that says nothing."""

PUT_BACK_SIGN = " ! "
