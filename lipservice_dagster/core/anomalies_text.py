"""What an anomaly is called and how it is told: confidence, severity, and a sentence with the numbers.

What belongs here: from statistics to words. Nothing here decides whether something is an anomaly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

RATE_SPIKE, RATE_DROP, ERROR_SURGE = "rate_spike", "rate_drop", "error_surge"
NEW_PATTERN, VANISHED_PATTERN = "new_pattern", "vanished_pattern"
LOW, MEDIUM, HIGH = "low", "medium", "high"

_SHOWN_TEMPLATE = 80
_LARGE_SHARE = 0.1
_MANY = 100.0
_HARDLY_A_LOG = 0.1


@dataclass(frozen=True)
class Finding:
    """One anomaly before it is a row; ``series`` is its index in `Series.keys`.

    ``p_value`` is corrected for all runs of its series, ``q_value`` for all series of the report. ``service_share``:
    what the expected (or for a new pattern the observed) logs are of its service's. ``window_days``: days it was judged
    by. ``usual_share`` and ``share``: of an error surge, errors as a part of the service's logs. ``cause``: template of
    the pattern that makes up most of it, or ''. ``like``: template of the window that a new one resembles, or ''.
    """

    series: int
    kind: str
    start: int
    end: int
    observed: float
    expected: float
    p_value: float
    q_value: float
    z: float
    evidence: tuple[int, ...]
    window_days: int
    error_share: float = 0.0
    service_share: float = 0.0
    share: float | None = None
    usual_share: float | None = None
    by_share: bool = False
    cause: str = ""
    like: str = ""

    @property
    def ratio(self) -> float | None:
        """Observed over expected; ``None`` where next to nothing was expected (`ratio_of`)."""
        return ratio_of(self.observed, self.expected)

    def caused_by(self, template: str) -> Finding:
        """The same with its cause named."""
        return replace(self, cause=template)


def ratio_of(observed: float, expected: float) -> float | None:
    """Observed over expected; ``None`` where less than a tenth of a log was expected: how many times that is tells how
    a mean was smoothed, and nothing of what happened."""
    return observed / expected if expected >= _HARDLY_A_LOG else None


def confidence(q_value: float) -> float:
    """``1 − q^¼``, in [0, 1]: 0.68 at q = 0.01, 0.90 at 10⁻⁴, 0.99 at 10⁻⁸.

    ``1 − q`` itself would call everything that is reported 0.99 or more; the root keeps the order and spreads it.
    """
    return 1.0 - float(min(max(q_value, 0.0), 1.0)) ** 0.25


def severity(finding: Finding, scope: str, subject: str) -> str:
    """Low, medium or high, by kind, effect and confidence.

    * rate spike: high from 4 times on, medium from 3; a pattern's or the warnings' is high only if it is of errors.
    * error surge: high from 3 times on, medium from 2.
    * rate drop: high from a tenth down, medium from 0.3; a pattern's is medium at most.
    * new pattern: of errors high from 100 logs on, else medium, whatever it resembles; of others medium from 100 logs
      or a tenth of the service's logs on, else low; low where it resembles one of the window. A new service is low.
    * vanished pattern: medium from a tenth of the service's logs on, else low.

    High wants a confidence of 0.9, medium of 0.75; below that it is one step less.
    """
    level = _by_effect(finding, scope, subject)
    sure = confidence(finding.q_value)
    if level == HIGH and sure < 0.9:
        level = MEDIUM
    if level == MEDIUM and sure < 0.75:
        level = LOW
    return level


def _by_effect(finding: Finding, scope: str, subject: str) -> str:
    # Weighted counts are sums of broken numbers: four times is not to be three times for the last digit.
    ratio = round(finding.ratio, 9) if finding.ratio is not None else float("inf")
    of_errors = finding.error_share >= 0.5
    if finding.kind == ERROR_SURGE:
        return HIGH if ratio >= 3 else MEDIUM
    if finding.kind == RATE_SPIKE:
        may_be_high = scope == "service" or of_errors
        return HIGH if ratio >= 4 and may_be_high else MEDIUM if ratio >= 3 else LOW
    if finding.kind == RATE_DROP:
        return HIGH if ratio <= 0.1 and scope == "service" else MEDIUM if ratio <= 0.3 else LOW
    if finding.kind == NEW_PATTERN:
        if scope == "service":
            return LOW
        if of_errors:
            return HIGH if finding.observed >= _MANY else MEDIUM
        if finding.like:
            return LOW
        if finding.observed >= _MANY:
            return MEDIUM
    return MEDIUM if finding.service_share >= _LARGE_SHARE else LOW


def explanation(finding: Finding, service: str, environment: str, scope: str, subject: str, template: str) -> str:
    """One or two plain sentences with the numbers that make it an anomaly."""
    name = (service or "a service without a name") + (f" ({environment})" if environment else "")
    pattern = f"Pattern “{shown(template)}” of {name}"
    what = {"service": name, "pattern": pattern}.get(
        scope, f"{name}'s {'errors' if subject == 'error' else 'warnings'}"
    )
    observed, expected = count(finding.observed), count(finding.expected)
    when = hours(finding.start, finding.end)
    days = f"{finding.window_days} day{'s' if finding.window_days != 1 else ''}"
    if finding.kind == NEW_PATTERN:
        if scope == "service":
            return f"{name} logged for the first time in this window: {observed} logs {when}."
        text = f"{pattern} is new: {observed} logs {when}, none in the {days} before."
        return text + (f" It resembles “{shown(finding.like)}”, which was there before." if finding.like else "")
    if finding.kind == VANISHED_PATTERN:
        return f"{pattern} was not logged {when}: about {expected} were expected from the {days} before."
    if finding.kind == ERROR_SURGE and finding.by_share:
        return (
            f"{percent(finding.share)} of {name}'s logs were errors {when}, where {percent(finding.usual_share)} is "
            f"usual: {observed} errors where about {expected} would fit its volume." + _mostly(finding)
        )
    if finding.kind == ERROR_SURGE and finding.share is not None and finding.usual_share is not None:
        text = f"{name} logged {times(finding.ratio)} its usual errors {when}: {observed} where about {expected} were"
        if finding.ratio is None:
            text = f"{name} logged {observed} errors {when}, where none were"
        return (
            f"{text} expected, {percent(finding.share)} of its logs where {percent(finding.usual_share)} is usual."
            + _mostly(finding)
        )
    if finding.ratio is None:
        return f"{what} logged {observed} {when}, where none were expected." + _mostly(finding)
    if scope == "service":
        text = f"{what} logged {times(finding.ratio)} its usual volume {when}"
    else:
        text = f"{what} came to {times(finding.ratio)} the usual count {when}"
    return f"{text}: {observed} where about {expected} were expected." + _mostly(finding)


def _mostly(finding: Finding) -> str:
    return f" Most of it is “{shown(finding.cause)}”." if finding.cause else ""


def counted_with(templates: Sequence[str]) -> str:
    """A sentence on the patterns whose logs are in these figures too; empty where there are none."""
    if not templates:
        return ""
    more = f" and {len(templates) - 1} more" if len(templates) > 1 else ""
    return f" Counted with “{shown(templates[0])}”{more}, the same in other words or with another name."


def shown(template: str) -> str:
    """A template cut to the length of a sentence."""
    flat = " ".join(template.split())
    return flat if len(flat) <= _SHOWN_TEMPLATE else flat[: _SHOWN_TEMPLATE - 1] + "…"


def count(value: float) -> str:
    """A count with thousands separated; one digit after the point where it is small and broken."""
    return f"{value:,.1f}" if value < 10 and abs(value - round(value)) > 0.05 else f"{value:,.0f}"


def times(ratio: float | None) -> str:
    """``5.1 times``, ``0.04 times``."""
    if ratio is None:
        return "many times"
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2f} times"


def percent(share: float | None) -> str:
    """A share as a percentage."""
    value = 100 * (share or 0.0)
    return f"{value:.0f}%" if value >= 10 else f"{value:.1f}%" if value >= 0.1 else f"{value:.2g}%"


def hours(start: int, end: int) -> str:
    """``from 14:00 to 17:00 UTC``."""
    return f"from {start:02d}:00 to {end:02d}:00 UTC"
