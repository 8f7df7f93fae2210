"""A served policy made ready for many decisions.

Every decision is one of `decision.decide`; what is remembered here is only its answers, for as long as the same entries
of the overlay are in force.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .decision import Decision, decide, indexed
from .draws import EvenDraw
from .matching import Matcher
from .overlay import Overlay
from .served import LIVE, Served
from .words import Words

PLAIN, ERROR_LIKE, EXCEPTION = 0, 1, 2
"""How a message reads: like any, like an error, or with an exception beside it, which makes it one."""

NAME_CHARS = 500
"""Characters of a masked message that statistics name a pattern by which the policy does not list."""

_REMEMBERED = 20_000
_REMEMBERED_CHARS = 1_000
_REMEMBERED_TEXTS = 20_000
_REMEMBERED_TEXT_CHARS = 300


class Verdict(NamedTuple):
    """What becomes of a log.

    ``keep``: whether it goes on. ``rate`` and ``reason``: what the policy keeps such logs at, and the step that says so
    (a word of `decision`). ``sample_rate``: the probability it was kept with, to be stamped on it; None where nothing
    is dropped (shadow, or no policy yet). ``would_keep``: what a live policy would have done.
    """

    keep: bool
    rate: float
    reason: str
    sample_rate: float | None
    would_keep: bool


class Step(NamedTuple):
    """A decision and both of its verdicts."""

    rate: float
    kept: Verdict
    dropped: Verdict


class Cell:
    """The decisions for a pattern at a severity: ``first`` for the first ``limit`` logs of an hour, ``then`` after.

    ``tally`` is where its logs are counted now, ``draw`` what those without a trace are drawn by, as long as ``span``
    is that of the tallies.
    """

    __slots__ = ("counted", "draw", "first", "key", "limit", "sampled", "span", "tally", "then")

    def __init__(
        self, key: tuple[str | None, str | None, str], limit: int, counted: tuple[str, int], first: Step, then: Step
    ) -> None:
        self.key = key
        self.limit = limit
        self.counted = counted
        self.first = first
        self.then = then
        self.sampled = min(first.rate, then.rate) < 1.0
        self.span: object = None
        self.tally: list[int] = []
        self.draw: EvenDraw


class Pattern:
    """What messages with one masked message share; its cells by how they read, then by severity."""

    __slots__ = ("cells", "masked", "plain", "signature", "suspect")

    def __init__(self, masked: str, signature: str | None) -> None:
        self.masked = masked
        self.signature = signature
        self.cells: tuple[dict[str, Cell], ...] = ({}, {}, {})
        # One of these each text is read as: not to be made for each.
        self.plain, self.suspect = (self, False), (self, True)


class Prepared:
    """A served policy with its templates and overlay read; ``label`` names it in statistics: version and mode."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.label = (served.version, served.mode)
        self.policy: Mapping[str, Any] = indexed(served.policy)
        self.overlay = Overlay(served.overlay)
        self.signatures = {entry["template"]: name for name, entry in self.policy.get("pattern_rates", {}).items()}
        self.matcher = Matcher(self.signatures, remember=256)

    def at(self, now: float) -> Rules:
        """The rules in force at this time, in seconds since 1970."""
        start, end = self.overlay.period(datetime.fromtimestamp(now, UTC))
        return Rules(self, start.timestamp() if start else -math.inf, end.timestamp() if end else math.inf, now)


class Rules:
    """The rules in force from ``start`` until ``end`` (seconds since 1970)."""

    __slots__ = ("_at", "end", "label", "patterns", "prepared", "start", "texts")

    def __init__(self, prepared: Prepared, start: float, end: float, now: float) -> None:
        self.prepared = prepared
        self.label = prepared.label
        self.start = start
        self.end = end
        self.patterns: dict[str, Pattern] = {}
        self.texts: dict[str, tuple[Pattern, bool]] = {}
        self._at = datetime.fromtimestamp(now, UTC)

    def pattern(self, masked: str) -> Pattern:
        """The pattern of a masked message, made and remembered."""
        template = self.prepared.matcher.match(masked)
        found = Pattern(masked, None if template is None else self.prepared.signatures[template])
        if len(masked) <= _REMEMBERED_CHARS:
            if len(self.patterns) >= _REMEMBERED:
                self.patterns.clear()
            self.patterns[masked] = found
        return found

    def read(self, folded: str, words: Words) -> tuple[Pattern, bool]:
        """The pattern of a folded text, and False where it surely does not read like an error; remembered.

        Texts that differ in digits alone are one folded text, and about half of an application's repeat.
        """
        masked, suspect = words.mask(folded)
        pattern = self.patterns.get(masked) or self.pattern(masked)
        found = pattern.suspect if suspect else pattern.plain
        if len(folded) <= _REMEMBERED_TEXT_CHARS:
            if len(self.texts) >= _REMEMBERED_TEXTS:
                self.texts.clear()
            self.texts[folded] = found
        return found

    def cell(self, pattern: Pattern, severity: str, kind: int) -> Cell:
        """The decisions for a pattern at a severity (a word of `decision.severity_name`), made and remembered."""
        policy = self.prepared.policy
        limit = policy.get("unknown", {}).get("first_per_hour", 0)
        first, then = (
            decide(
                policy,
                "error" if kind == EXCEPTION else severity,
                pattern.signature,
                kind == ERROR_LIKE,
                unknown_seen=seen,
                overlay=self.prepared.overlay,
                masked=pattern.masked,
                at=self._at,
            )
            for seen in (0, limit)
        )
        listed = pattern.signature is not None
        cell = Cell(
            (pattern.signature, None if listed else pattern.masked[:NAME_CHARS], severity),
            limit if first != then else 0,
            (severity, hash(pattern.masked)),
            self._step(first),
            self._step(then),
        )
        pattern.cells[kind][severity] = cell
        return cell

    def _step(self, decision: Decision) -> Step:
        rate, reason = decision
        if self.prepared.served.mode == LIVE:
            return Step(rate, Verdict(True, rate, reason, rate, True), Verdict(False, rate, reason, rate, False))
        return Step(rate, Verdict(True, rate, reason, None, True), Verdict(True, rate, reason, None, False))
