"""The overlay document of a service and environment: overrides of people and boosts of incidents, each with its end.

What belongs here: the document's schema, its bounds, its canonical JSON, and how it reads. How it decides over a log,
together with the policy, is `lipservice_sampler.decision`; what is in force, and when, is `storage.served`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.policy import Count, Number, SchemaVersion, TeamId
from lipservice_dagster.core.problems import explain
from lipservice_sampler.text import signature as signature_of

Kind = Literal["never_sample", "cap", "lift_error_like"]

LEAST_CAP = 1e-4
"""The least that a cap keeps: a log stands for ten thousand at most."""


def _written(value: Any) -> Any:
    """A moment, or its text; not a number of seconds."""
    if not isinstance(value, (str, datetime)):
        raise ValueError("a moment is a date with a time and a zone, as 2026-11-27T18:00:00Z")
    return value


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(lambda at: at.astimezone(UTC))]
Said = Annotated[str, Field(min_length=1), AfterValidator(_said)]


class OverlayError(ValueError):
    """A document is not a valid overlay; the message names the overlay and each field that is wrong."""


class _Entry(BaseModel):
    """What an entry speaks of: a pattern by signature, template or both, else the whole service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    signature: str | None = Field(default=None, min_length=1, description="Hash of service and template.")
    template: str | None = Field(
        default=None, min_length=1, description="Text of a pattern, variables <*>: its messages are meant."
    )

    @property
    def of_service(self) -> bool:
        """Whether it speaks of the whole service."""
        return self.signature is None and self.template is None

    @property
    def target(self) -> str:
        """What it speaks of, in words."""
        if self.of_service:
            return "the service"
        return f"pattern “{self.template}”" if self.template is not None else f"pattern {self.signature}"


class Override(_Entry):
    """A person's word. What loses logs (a cap, a lift) has an end; what keeps them may stay."""

    id: Count | None = Field(default=None, description="Its number in the ledger of overrides.")
    kind: Kind
    rate: Number | None = Field(
        default=None, ge=LEAST_CAP, lt=1.0, allow_inf_nan=False, description="The most that is kept, of a cap."
    )
    until: Moment | None = Field(default=None, description="When it is over; null: it has no end.")
    owner: Said = Field(description="Who answers for it.")
    reason: Said = Field(description="Why.")

    @model_validator(mode="after")
    def _whole(self) -> Override:
        if (self.kind == "cap") != (self.rate is not None):
            raise ValueError(f"a {self.kind} with rate {self.rate}: a cap names the most that is kept, and only a cap")
        if self.kind != "never_sample" and self.until is None:
            raise ValueError(f"a {self.kind} without an end: what loses logs must name when it is over")
        if self.kind == "lift_error_like" and self.of_service:
            raise ValueError("lift_error_like of a whole service: name a pattern by its template or signature")
        return self

    @property
    def says(self) -> str:
        """What it says of its target, in words."""
        if self.kind == "never_sample":
            return "never sampled"
        if self.kind == "cap":
            return f"at most {self.rate:g} kept"
        return "not kept whole for reading like an error"

    @property
    def by(self) -> str:
        """Whose it is and until when, in words."""
        return f"{self.owner}, {f'until {self.until:%Y-%m-%d %H:%M} UTC' if self.until else 'without an end'}"


class Boost(_Entry):
    """Rates are multiplied for a while, up to 1."""

    factor: Number = Field(ge=1.0, allow_inf_nan=False, description="Times the rate; the product is at most 1.")
    until: Moment = Field(description="When it is over.")
    reason: Said = Field(description="What it is for.")


class Overlay(BaseModel):
    """What people and incidents say on top of a service's policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: SchemaVersion = 1
    team_id: TeamId
    service: str
    environment: str
    overrides: tuple[Override, ...] = ()
    boosts: tuple[Boost, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Overlay:
        for name, entries in (("overrides", self.overrides), ("boosts", self.boosts)):
            for i, entry in enumerate(entries):
                if entry.signature is None or entry.template is None:
                    continue
                if entry.signature != (right := signature_of(self.service, entry.template)):
                    raise ValueError(
                        f"{name}.{i}.signature is {entry.signature}, but the template {entry.template!r} of service "
                        f"{self.service!r} has signature {right}: name the one that is meant"
                    )
        said: dict[tuple[str, str], Override] = {}
        for override in self.overrides:
            key = ("lift" if override.kind == "lift_error_like" else "rate", _key(self.service, override))
            if (other := said.setdefault(key, override)) is not override:
                raise ValueError(
                    f"{override.target} is both {other.says} ({other.by}) and {override.says} ({override.by}): "
                    "remove one of the two"
                )
        return self


@dataclass(frozen=True)
class OverlayHours:
    """What an overlay said in the hours of a UTC day: from each of these hours on this document.

    ``hours`` ascend and begin at 0; each document holds what was in force when its hour began.
    """

    day: date
    hours: tuple[tuple[int, Overlay], ...]

    @property
    def spans(self) -> list[tuple[slice, datetime, Overlay]]:
        """The hours as a slice, the moment at which they begin, and what is said in them."""
        ends = [*(hour for hour, _ in self.hours[1:]), HOURS]
        return [
            (slice(hour, end), datetime.combine(self.day, time(hour), UTC), overlay)
            for (hour, overlay), end in zip(self.hours, ends, strict=True)
        ]

    @property
    def boosted(self) -> bool:
        """Whether there is a boost in any hour."""
        return any(overlay.boosts for _, overlay in self.hours)

    def without_boosts(self) -> OverlayHours:
        """What people alone said."""
        return OverlayHours(self.day, tuple((h, o.model_copy(update={"boosts": ()})) for h, o in self.hours))


def _key(service: str, override: Override) -> str:
    """The signature an override speaks of; '' for the service."""
    if override.template is not None:
        return signature_of(service, override.template)
    return override.signature or ""


def contradiction(service: str, new: Override, others: tuple[Override, ...]) -> Override | None:
    """The override among ``others`` that speaks of the same target and of the same thing (rate, or error-like text)."""
    lift = new.kind == "lift_error_like"
    same = (o for o in others if _key(service, o) == _key(service, new) and (o.kind == "lift_error_like") == lift)
    return next(same, None)


def overlay_document(overlay: Overlay) -> dict[str, Any]:
    """The overlay as plain JSON values: what `lipservice_sampler.decision` reads."""
    return overlay.model_dump(mode="json")


def overlay_json(overlay: Overlay) -> str:
    """The canonical text of the document; equal overlays, equal text."""
    return json.dumps(overlay_document(overlay), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_overlay(text: str | bytes | Mapping[str, Any]) -> Overlay:
    """The overlay of a document, as JSON text or plain mapping.

    Raises:
        OverlayError: the document is not valid; says whose, which fields, and why.
    """
    try:
        if isinstance(text, (str, bytes)):
            return Overlay.model_validate_json(text)
        return Overlay.model_validate(text)
    except ValidationError as error:
        raise OverlayError(explain("overlay", text, error)) from error


def overlay_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the document; published as docs/overlay.schema.json."""
    return Overlay.model_json_schema(mode="serialization")


def describe(overlay: Overlay) -> list[str]:
    """What the overlay says, a sentence a line; empty where it says nothing."""
    lines = [f"{o.target}: {o.says} ({o.by}: {o.reason})" for o in overlay.overrides]
    lines += [
        f"{b.target}: {b.factor:g} times the rate, until {b.until:%Y-%m-%d %H:%M} UTC ({b.reason})"
        for b in overlay.boosts
    ]
    return lines
