"""The overlay: what people and incidents say on top of a policy, each until its end.

It is a small JSON document beside the policy's, for one service and environment, so that a word of a person or a boost
during an incident needs no new policy and leaves no trace when it ends::

    {"overrides": [{"kind": "never_sample" | "cap" | "lift_error_like", "signature": … | null, "template": … | null,
                    "rate": … | null, "until": "2026-11-27T00:00:00Z" | null}],
     "boosts": [{"signature": … | null, "template": … | null, "factor": 5.0, "until": "2026-11-24T18:00:00Z"}]}

An entry without signature and template speaks of the whole service. One of a pattern applies to a log whose signature
is its own or whose masked message matches its template: a template can differ from day to day, so that a person's word
about it must not hang on its name. An entry is over at the moment ``until`` names; without one it has no end. The time
is always passed in.

Where several apply, one of the pattern comes before one of the service, and among equals the one that keeps more of
two kinds: never_sample before cap. Of two caps the lower holds, of two boosts the higher.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from .matching import Matcher

NEVER_SAMPLE, CAP, LIFT_ERROR_LIKE = "never_sample", "cap", "lift_error_like"

_REMEMBERED = 1_000


class Ruling(NamedTuple):
    """What an overlay says of one log: kept whole, its rate at most, error-like text lifted, its rate times."""

    never_sample: bool = False
    cap: float = 1.0
    lifted: bool = False
    boost: float = 1.0


NOTHING = Ruling()


class _Entry(NamedTuple):
    kind: str  # of an override, or "boost"
    signature: str | None
    template: str | None
    value: float  # the rate of a cap, the factor of a boost, else 1
    until: datetime | None


class _Active:
    """Entries that are in force, by what they speak of."""

    def __init__(self, entries: Iterable[_Entry]) -> None:
        self._service: list[_Entry] = []
        self._patterns: list[tuple[_Entry, Matcher]] = []
        for entry in entries:
            if entry.signature is None and entry.template is None:
                self._service.append(entry)
            else:
                templates = [] if entry.template is None else [entry.template]
                self._patterns.append((entry, Matcher(templates, _REMEMBERED)))

    def ruling(self, signature: str | None, masked: str | None) -> Ruling:
        of_pattern = [
            entry
            for entry, matcher in self._patterns
            if (signature is not None and entry.signature == signature)
            or (masked is not None and matcher.match(masked) is not None)
        ]
        if not of_pattern and not self._service:
            return NOTHING
        never_sample, cap = _rate_of(of_pattern) or _rate_of(self._service) or (False, 1.0)
        both = [*of_pattern, *self._service]
        return Ruling(
            never_sample,
            cap,
            any(entry.kind == LIFT_ERROR_LIKE for entry in of_pattern),
            max((entry.value for entry in both if entry.kind == "boost"), default=1.0),
        )


def _rate_of(entries: list[_Entry]) -> tuple[bool, float] | None:
    """Whether they keep whole, and else their lowest cap; None where they say nothing of the rate."""
    if any(entry.kind == NEVER_SAMPLE for entry in entries):
        return True, 1.0
    caps = [entry.value for entry in entries if entry.kind == CAP]
    return (False, min(caps)) if caps else None


class Overlay:
    """An overlay ready for many questions; remembers which entries were in force when it was last asked.

    Raises ValueError where a kind is unknown, or an end is no time or has no time zone; KeyError where a field is
    missing.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        entries = [
            _Entry(
                _known(item["kind"]),
                item.get("signature"),
                item.get("template"),
                float(item["rate"]) if item["kind"] == CAP else 1.0,
                _moment(item.get("until")),
            )
            for item in document.get("overrides", ())
        ]
        entries += [
            _Entry(
                "boost",
                item.get("signature"),
                item.get("template"),
                max(float(item["factor"]), 1.0),  # a boost never lowers
                _moment(item.get("until")),
            )
            for item in document.get("boosts", ())
        ]
        ending = sorted((e for e in entries if e.until is not None), key=lambda e: e.until)  # type: ignore[arg-type,return-value]
        self._ends: list[datetime] = [e.until for e in ending if e.until is not None]
        self._entries = [*ending, *(e for e in entries if e.until is None)]
        self._active = (0, _Active(self._entries))

    def period(self, at: datetime) -> tuple[datetime | None, datetime | None]:
        """The time around this moment, [start, end), in which the same entries are in force; None: without bound."""
        over = bisect_right(self._ends, at)
        return self._ends[over - 1] if over else None, self._ends[over] if over < len(self._ends) else None

    def ruling(self, signature: str | None, masked: str | None, at: datetime) -> Ruling:
        """What the entries in force at this moment say of a log.

        Raises TypeError where ``at`` has no time zone.
        """
        over = bisect_right(self._ends, at)
        known, active = self._active
        if known != over:
            active = _Active(self._entries[over:])
            self._active = over, active
        return active.ruling(signature, masked)


def _known(kind: str) -> str:
    if kind not in (NEVER_SAMPLE, CAP, LIFT_ERROR_LIKE):
        raise ValueError(f"{kind!r} is no kind of override: one of {NEVER_SAMPLE}, {CAP}, {LIFT_ERROR_LIKE}")
    return kind


def _moment(until: str | datetime | None) -> datetime | None:
    if until is None:
        return None
    moment = until if isinstance(until, datetime) else datetime.fromisoformat(until)
    if moment.tzinfo is None:
        raise ValueError(f"until {until!r} has no time zone: write 2026-11-27T00:00:00Z")
    return moment
