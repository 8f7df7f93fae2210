"""The policy document of a service and environment: at which rate each of its patterns is kept, and why.

What belongs here: the document's schema, its bounds, its canonical JSON, its version and what differs between two. How
rates are found is `core.make_policy`; how the document decides over a log is `lipservice_sampler.decision`, which reads
the same JSON as a plain mapping.

A version names what a policy *does*: `version` hashes the scope (team, service, environment), the masks and every rate,
and nothing else. The day it was made for, worth, reasons and the expected effect are left out, so two days whose rates
agree have the same version: releasing the second changes nothing at the edge, clients need not fetch it, and
``diff(a, b)`` is empty exactly when the versions agree.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    computed_field,
    model_validator,
)

from lipservice_dagster.core.frames import ERROR_SEVERITIES, SEVERITIES
from lipservice_dagster.core.judgements import Category
from lipservice_dagster.core.problems import explain
from lipservice_sampler.masks import MASK_VERSION
from lipservice_sampler.matching import template_regex
from lipservice_sampler.records import stamp_octets
from lipservice_sampler.text import signature as signature_of

SCHEMA_VERSION = 1
"""Raised when a document of before can no longer be read."""

RATE_DIGITS = 4
"""Significant digits of a rate: more than counting needs, few enough that the text of a number is stable."""


LONGEST_STAMP = stamp_octets(0.0001234)
"""Octets of the longest stamp of a rate of so many digits."""


def round_rate(rate: float) -> float:
    """The rate to `RATE_DIGITS` significant digits."""
    return float(f"{rate:.{RATE_DIGITS}g}")


_DOCUMENT = {"document": True}
"""Context of validation of a document that is read, where nothing is repaired; a policy that is made is rounded."""


def _rounded(to: Callable[[float], float]) -> AfterValidator:
    def check(number: float, info: ValidationInfo) -> float:
        rounded = to(number)
        if info.context == _DOCUMENT and rounded != number:
            raise ValueError(f"has more digits than a policy keeps: write {rounded}")
        return rounded

    return AfterValidator(check)


def _plain_day(value: Any) -> Any:
    """A date, or its text; neither a moment nor a number of seconds or days."""
    if isinstance(value, datetime) or not isinstance(value, (str, date)):
        raise ValueError("a day is a date, as 2026-11-23")
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("a day is a date, as 2026-11-23")
    return value


Rate = Annotated[float, Strict(), Field(gt=0.0, le=1.0, allow_inf_nan=False), _rounded(round_rate)]
"""A probability to keep. Never 0: what is dropped whole looks like silence, and no weight repairs its counts."""

Amount = Annotated[float, Strict(), Field(ge=0.0, allow_inf_nan=False), _rounded(lambda amount: round(amount, 3))]
"""Logs or bytes of a day, before sampling or expected after it."""

Number = Annotated[float, Strict()]
Count = Annotated[int, Strict()]
TeamId = Annotated[int, Strict(), Field(ge=0, lt=2**31)]


def _no_truth(value: Any) -> Any:
    """Numbers alone; true is 1 to Python."""
    if isinstance(value, bool):
        raise ValueError("this is a number")
    return value


SchemaVersion = Annotated[Literal[1], BeforeValidator(_no_truth)]

Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]


class PolicyError(ValueError):
    """A document is not a valid policy; the message names the policy and each field that is wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PatternRate(_Part):
    """The rate of one pattern."""

    signature: str = Field(min_length=1, description="Hash of service and template.")
    template: str = Field(description="Text of the pattern; variables are <*>.")
    rate: Rate = Field(description="Probability to keep a log of this pattern.")
    goal: Rate | None = Field(
        default=None, description="The rate that worth and budget ask for without the ramp; null: there is no ramp."
    )
    worth: Number = Field(
        default=0.0, ge=0.0, le=1.0, allow_inf_nan=False, description="What it was judged to be worth."
    )
    reason: str = Field(default="", description="Why this rate.")
    category: Category = Field(
        default="other",
        validation_alias=AliasChoices("class", "category"),
        serialization_alias="class",
        description="What kind of log it is.",
    )

    @computed_field(description="The template as an anchored regular expression (RE2) over messages.")  # type: ignore[prop-decorator]
    @property
    def regex(self) -> str:
        """See `lipservice_sampler.matching.template_regex`."""
        return template_regex(self.template)

    @model_validator(mode="wrap")
    @classmethod
    def _as_matched(cls, data: Any, handler: ModelWrapValidatorHandler[PatternRate]) -> PatternRate:
        """A regular expression that is carried must be the template's."""
        if not isinstance(data, Mapping) or "regex" not in data:
            return handler(data)
        entry = handler({key: value for key, value in data.items() if key != "regex"})
        if data["regex"] != entry.regex:
            raise ValueError(
                f"regex {data['regex']!r} is not that of the template, {entry.regex!r}: change the template, or drop "
                "`regex` to have it made"
            )
        return entry


def _by_signature(entries: tuple[PatternRate, ...]) -> tuple[PatternRate, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.signature))


class Unknown(_Part):
    """What happens to logs of patterns the policy does not list."""

    first_per_hour: Count = Field(default=0, ge=0, description="This many logs of each such pattern are kept an hour.")
    then: Literal["severity"] = Field(default="severity", description="After them, the rate of the severity applies.")


class Floors(_Part):
    """What rates were not allowed to fall below."""

    min_rate: Number = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False, description="The least rate of all.")
    per_hour: Number = Field(
        default=0.0, ge=0.0, allow_inf_nan=False, description="Kept logs of a pattern in an active hour, on average."
    )


class SeverityEffect(_Part):
    """The expected effect on one severity."""

    logs: Amount
    kept_logs: Amount


class Expected(_Part):
    """What the policy would have kept of the day it was made from (volumes before sampling, weighted)."""

    logs: Amount = 0.0
    bytes: Amount = 0.0
    kept_logs: Amount = 0.0
    kept_bytes: Amount = Field(default=0.0, description="With the stamps by which sampled logs tell their rate.")
    share: Number = Field(
        default=1.0,
        ge=0.0,
        allow_inf_nan=False,
        description="Kept bytes of all bytes; 1 of an empty day, and more where stamps outweigh what is dropped.",
    )
    budget_kind: Literal["reduction", "bytes", "logs", "money"] | None = Field(
        default=None, description="In which way a budget was asked for; null where none was."
    )
    budget_asked: Number | None = Field(
        default=None,
        ge=0.0,
        allow_inf_nan=False,
        description="What was asked for: a share of the bytes to save, or of the whole team bytes a day, logs a day, "
        "or money a month.",
    )
    budget_bytes: Amount | None = Field(
        default=None,
        description="Bytes of the day that this leaves to the service; null where a budget of logs, or none, was asked "
        "for.",
    )
    budget_logs: Amount | None = Field(default=None, description="Likewise logs, where a budget of logs was asked for.")
    budget_needed: Amount | None = Field(
        default=None,
        description="What floors, patterns kept whole and the ramp need of the day, in bytes, or in logs where a "
        "budget of logs was asked for.",
    )
    budget_in_force: Amount | None = Field(
        default=None,
        description="The larger of the two, the budget that the policy keeps to; in bytes, also where it is one of "
        "logs.",
    )
    severities: dict[Severity, SeverityEffect] = Field(default_factory=dict)


class Ramp(_Part):
    """How far rates are on their way down to their goals."""

    fall: Number = Field(gt=0.0, lt=1.0, description="A rate is at least this share of the day before's.")
    window_fingerprint: str = Field(description="Hash of the goals of the days before that it was counted from.")
    days_to_go: Count = Field(ge=0, description="In how many days rates are at their goals, should those stay.")
    goal_in_force: Amount = Field(description="The budget in force, in bytes, once they are.")


class Policy(_Part):
    """A policy of a service and environment, made from one day."""

    schema_version: SchemaVersion = 1
    mask_version: Count = Field(default=MASK_VERSION, ge=1, description="Masks the signatures were made with.")
    team_id: TeamId
    service: str
    environment: str
    day: Annotated[date, BeforeValidator(_plain_day)] = Field(description="The UTC day it was made from.")
    global_rate: Rate = Field(description="Rate where nothing else applies.")
    severity_rates: dict[Severity, Rate] = Field(
        description="Rate of a severity, for patterns not listed; errors are kept whole.",
        json_schema_extra={
            "properties": {severity: {"const": 1.0} for severity in ERROR_SEVERITIES},
            "required": list(ERROR_SEVERITIES),
        },
    )
    pattern_rates: Annotated[tuple[PatternRate, ...], AfterValidator(_by_signature)] = Field(
        default=(), description="Sorted by signature."
    )
    unknown: Unknown = Unknown()
    floors: Floors = Floors()
    ramp: Ramp | None = None
    reasoning: str = ""
    generated_by: Literal["rules", "llm", "keep-all"]
    llm_model: str | None = None
    expected: Expected = Expected()

    @computed_field(description="Content hash of what the policy does.")  # type: ignore[prop-decorator]
    @property
    def version(self) -> str:
        """See `version`."""
        return version(self)

    @model_validator(mode="wrap")
    @classmethod
    def _as_named(cls, data: Any, handler: ModelWrapValidatorHandler[Policy]) -> Policy:
        """A document that carries a version must be the one it names."""
        if not isinstance(data, Mapping) or "version" not in data:
            return handler(data)
        policy = handler({key: value for key, value in data.items() if key != "version"})
        if data["version"] != policy.version:
            raise ValueError(
                f"the document says version {data['version']!r}, but its content is {policy.version!r}: it was changed "
                "after it was made, or cut; fetch it again, or drop `version` to name it anew"
            )
        return policy

    @model_validator(mode="after")
    def _bounds(self) -> Policy:
        for severity in ERROR_SEVERITIES:
            rate = self.severity_rates.get(severity)  # type: ignore[call-overload]
            if rate != 1.0:
                found = "missing" if rate is None else rate
                raise ValueError(f"severity_rates.{severity} is {found}: errors are kept whole, set it to 1.0")
        if (self.generated_by == "llm") != (self.llm_model is not None):
            raise ValueError(
                f"generated_by is {self.generated_by!r} and llm_model {self.llm_model!r}: name the model where one "
                "generated the policy, and only there"
            )
        least = round_rate(self.floors.min_rate)
        for name, rate in _named_rates(self).items():
            if rate < least:
                raise ValueError(f"{name} is {rate}, below floors.min_rate {least}: raise the rate or lower the floor")
        listed = Counter(entry.signature for entry in self.pattern_rates)
        if len(listed) != len(self.pattern_rates):
            twice = ", ".join(sorted(signature for signature, times in listed.items() if times > 1))
            raise ValueError(f"pattern_rates lists {twice} more than once: give each signature one rate")
        return self


def document(policy: Policy) -> dict[str, Any]:
    """The policy as plain JSON values, `version` included: what `lipservice_sampler.decision` reads."""
    return policy.model_dump(mode="json", by_alias=True)


def to_json(policy: Policy) -> str:
    """The canonical text of the document: sorted keys, no white space, rounded rates; equal policies, equal text."""
    return _canonical(document(policy))


def parse(text: str | bytes | Mapping[str, Any]) -> Policy:
    """The policy of a document, as JSON text or plain mapping.

    Nothing in it is repaired: numbers are numbers, a day is a date, rates have as many digits as are stored.

    Raises:
        PolicyError: the document is not valid; says which policy, which fields, and why.
    """
    if isinstance(text, (str, bytes)):
        try:
            text = json.loads(text, object_pairs_hook=_once)
        except PolicyError:
            raise
        except ValueError as error:
            raise PolicyError(f"policy is not valid:\n  Invalid JSON: {error}") from error
        except RecursionError as error:
            raise PolicyError("policy is not valid:\n  Invalid JSON: one value within another, far too deep") from error
    try:
        policy = Policy.model_validate(text, context=_DOCUMENT)
    except ValidationError as error:
        raise PolicyError(explain("policy", text, error)) from error
    if problems := list(_contradictions(policy)):
        scope = f"team {policy.team_id}, service {policy.service!r}, environment {policy.environment!r}"
        raise PolicyError("\n  ".join([f"policy of {scope} is not valid:", *problems]))
    return policy


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names and values, each of which stands there once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = sorted(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise PolicyError(f"policy is not valid:\n  {', '.join(twice)} stands twice in one object: say it once")
    return found


def _contradictions(policy: Policy) -> Iterator[str]:
    """Where a document, each of whose fields is in bounds, does not agree with itself."""
    for entry in policy.pattern_rates:
        if entry.signature != (right := signature_of(policy.service, entry.template)):
            yield (
                f"pattern_rates[{entry.signature}]: there is no such signature of service {policy.service!r}; that of "
                f"{entry.template!r} is {right}"
            )
    if policy.generated_by == "keep-all":
        for name, rate in _named_rates(policy).items():
            if rate < 1.0:
                yield f"{name} is {rate}, and generated_by says keep-all: one of the two is wrong"
    if policy.mask_version > MASK_VERSION:
        yield f"mask_version is {policy.mask_version}, and known are those to {MASK_VERSION}: no signature would match"
    least = round_rate(policy.floors.min_rate)
    for entry in policy.pattern_rates:
        name = f"pattern_rates[{entry.signature}]"
        if policy.ramp is not None and entry.goal is None:
            yield f"{name} has no goal, and there is a ramp: name the rate that it falls to"
        if policy.ramp is None and entry.goal is not None and entry.goal > entry.rate:
            yield f"{name}.goal is {entry.goal}, above its rate {entry.rate}, and there is no ramp: they are the same"
        if entry.goal is not None and entry.goal < least:
            yield f"{name}.goal is {entry.goal}, below floors.min_rate {least}: raise the goal or lower the floor"
    lower: tuple[str, float] | None = None
    for severity in SEVERITIES:
        rate = policy.severity_rates.get(severity)  # type: ignore[call-overload]
        if rate is not None and lower is not None and rate < lower[1]:
            yield (
                f"severity_rates.{severity} is {rate}, below severity_rates.{lower[0]}, {lower[1]}: a severity is kept"
                " no less than a lower one"
            )
        lower = lower if rate is None else (severity, rate)
    yield from _effect_contradictions(policy.expected)


def _effect_contradictions(expected: Expected) -> Iterator[str]:
    """Where the figures of the expected effect do not agree, beyond what rounding them makes."""
    for severity, effect in expected.severities.items():
        if _more(effect.kept_logs, effect.logs):
            name = f"expected.severities.{severity}.kept_logs"
            yield f"{name} is {effect.kept_logs}, more than the {effect.logs} there are"
        elif severity in ERROR_SEVERITIES and _more(effect.logs, effect.kept_logs):
            name = f"expected.severities.{severity}.kept_logs"
            yield f"{name} is {effect.kept_logs}, less than the {effect.logs} there are: errors are kept whole"
    share = expected.kept_bytes / expected.bytes if expected.bytes else 1.0
    if abs(expected.share - share) > 1e-5 + (0.01 / expected.bytes if expected.bytes else 0.0):
        yield f"expected.share is {expected.share}, and kept_bytes of bytes are {share:.6g}: one of them is wrong"
    if expected.budget_in_force is not None and expected.budget_logs is None:
        for other in ("budget_needed", "budget_bytes"):
            amount = getattr(expected, other)
            if amount is not None and _more(amount, expected.budget_in_force):
                yield (
                    f"expected.budget_in_force is {expected.budget_in_force}, less than {other}, {amount}: it is the "
                    "larger of what is asked for and what is needed"
                )
    if _more(expected.kept_logs, expected.logs):
        yield f"expected.kept_logs is {expected.kept_logs}, more than the {expected.logs} logs there are"
    stamps = LONGEST_STAMP * expected.kept_logs
    if _more(expected.kept_bytes, expected.bytes + stamps):
        yield (
            f"expected.kept_bytes is {expected.kept_bytes}, more than the {expected.bytes} bytes there are and"
            f" stamps of {LONGEST_STAMP} octets a kept log"
        )
    if expected.budget_in_force is not None and _more(expected.kept_bytes, expected.budget_in_force):
        yield (
            f"expected.kept_bytes is {expected.kept_bytes}, more than budget_in_force, {expected.budget_in_force}: a"
            " policy keeps to its budget"
        )
    if expected.budget_bytes is not None and expected.budget_logs is not None:
        yield "expected names budget_bytes and budget_logs: a budget is asked for in one way"
    if (expected.budget_kind is None) != (expected.budget_bytes is None and expected.budget_logs is None):
        yield (
            f"expected.budget_kind is {expected.budget_kind!r} with budget_bytes {expected.budget_bytes} and "
            f"budget_logs {expected.budget_logs}: a budget that is asked for has a kind and an amount"
        )


def _more(one: float, other: float) -> bool:
    """Whether one amount is more than the other, rounding apart."""
    return one > other * (1 + 1e-9) + 0.01


def _named_rates(policy: Policy) -> dict[str, float]:
    """Every rate of the document by the name of its field."""
    named = {"global_rate": policy.global_rate}
    named |= {f"severity_rates.{severity}": rate for severity, rate in policy.severity_rates.items()}
    named |= {f"pattern_rates[{entry.signature}].rate": entry.rate for entry in policy.pattern_rates}
    return named


def version(policy: Policy) -> str:
    """16 hex digits that name what the policy does: SHA-256 of the canonical JSON of scope, masks and rates."""
    does = {
        "schema_version": policy.schema_version,
        "mask_version": policy.mask_version,
        "scope": [policy.team_id, policy.service, policy.environment],
        "global_rate": policy.global_rate,
        "severity_rates": dict(policy.severity_rates),
        "pattern_rates": [[entry.signature, entry.template, entry.rate] for entry in policy.pattern_rates],
        "unknown": policy.unknown.model_dump(mode="json"),
    }
    return hashlib.sha256(_canonical(does).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def keep_all(team_id: int, service: str, environment: str, day: date) -> Policy:
    """The policy that keeps everything, for a service without history to judge by."""
    return Policy(
        team_id=team_id,
        service=service,
        environment=environment,
        day=day,
        global_rate=1.0,
        severity_rates=dict.fromkeys(SEVERITIES, 1.0),  # type: ignore[arg-type]
        reasoning="Everything is kept: there is no history yet to make rates from.",
        generated_by="keep-all",
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the document as `to_json` writes it; published as docs/policy.schema.json."""
    return Policy.model_json_schema(mode="serialization")


_SHOWN = 100
"""Characters of a template in a sentence: its signature names it, and what changes stands after it."""


def diff(a: Policy, b: Policy) -> list[str]:
    """What changes from `a` to `b`, a sentence a line, the largest changes of pattern rates first.

    Speaks of what the policies do; empty exactly when their versions agree.
    """
    lines = [
        f"{name}: {before!r} → {after!r}"
        for name, before, after in (
            ("team", a.team_id, b.team_id),
            ("service", a.service, b.service),
            ("environment", a.environment, b.environment),
            ("schema version", a.schema_version, b.schema_version),
            ("mask version", a.mask_version, b.mask_version),
        )
        if before != after
    ]
    if a.global_rate != b.global_rate:
        lines.append(f"everything else: {_change(a.global_rate, b.global_rate)}")
    for severity in SEVERITIES:
        before, after = a.severity_rates.get(severity), b.severity_rates.get(severity)  # type: ignore[call-overload]
        if before != after:
            lines.append(f"severity {severity}: {_change(before, after)}")
    if a.unknown != b.unknown:
        lines.append(
            f"unknown patterns: first {a.unknown.first_per_hour} → {b.unknown.first_per_hour} logs an hour kept, "
            f"then the rate of the {b.unknown.then}"
        )
    old = {entry.signature: entry for entry in a.pattern_rates}
    new = {entry.signature: entry for entry in b.pattern_rates}
    changes = []
    for signature in sorted(old.keys() | new.keys()):
        before, after = old.get(signature), new.get(signature)
        if before is None or after is None or (before.template, before.rate) != (after.template, after.rate):
            rates = (before.rate if before else None, after.rate if after else None)
            template = (after or before).template  # type: ignore[union-attr]
            size = rates[1] / rates[0] if rates[0] and rates[1] else 1.0
            shown = template if len(template) <= _SHOWN else template[: _SHOWN - 1] + "…"
            changes.append((-max(size, 1 / size), signature, f"pattern {signature} “{shown}”: {_change(*rates)}"))
    return lines + [line for _, _, line in sorted(changes)]


def _change(before: float | None, after: float | None) -> str:
    if before is None:
        return f"kept at {after:g}, not listed before"
    if after is None:
        return f"no longer listed (was {before:g})"
    if before == after:
        return f"another text, still {after:g}"
    times = max(after / before, before / after)
    return f"{before:g} → {after:g} ({times:.3g} times as {'many' if after > before else 'few'} kept)"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
