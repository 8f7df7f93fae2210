"""Which findings say the same: a service's anomaly is told once, not again for each of its patterns.

What belongs here: what is left out, and what a finding is told to be caused by or to resemble.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lipservice_dagster.core import anomalies_statistics as statistics
from lipservice_dagster.core.anomalies_report import Report
from lipservice_dagster.core.anomalies_text import (
    ERROR_SURGE,
    NEW_PATTERN,
    RATE_DROP,
    RATE_SPIKE,
    VANISHED_PATTERN,
    Finding,
)
from lipservice_dagster.core.rewording import likeness


def unfolded(report: Report, found: list[Finding]) -> list[Finding]:
    """Findings that say something of their own.

    * What a whole service does, its errors, warnings and patterns do too: such a finding is left out unless it clearly
      goes beyond its service in the same hours (`_goes_beyond`). The same holds for patterns of errors beneath an error
      surge.
    * Of a service that is new as a whole, no pattern is new by itself.

    Spikes and surges that stay name the pattern that makes up most of them.
    """
    by_series: dict[int, list[Finding]] = {}
    for finding in found:
        by_series.setdefault(finding.series, []).append(finding)
    errors_of = {
        int(report.parent[s]): s
        for s in np.flatnonzero((report.scope == "severity") & (report.subject == "error")).tolist()
    }
    children = _patterns_by_service(report, {int(report.parent[f.series]) for f in found})
    kept = []
    for finding in found:
        s = finding.series
        parent = int(report.parent[s])
        above = [parent] if parent != s else []
        if report.scope[s] == "pattern" and report.error_share[s] >= 0.5 and parent in errors_of:
            above.append(errors_of[parent])
        if any(_explains(report, other, finding) for a in above for other in by_series.get(a, [])):
            continue
        if finding.kind in (RATE_SPIKE, ERROR_SURGE) and report.scope[s] != "pattern":
            finding = finding.caused_by(_cause(report, finding, children[parent]))
        kept.append(finding)
    return [_with_resemblance(report, f, children) if f.kind == NEW_PATTERN else f for f in kept]


def _explains(report: Report, above: Finding, finding: Finding) -> bool:
    """Whether ``finding`` is no more than its part of ``above``, which is of its service or of the errors there."""
    if above.kind == NEW_PATTERN:
        return True
    falls = finding.kind in (RATE_DROP, VANISHED_PATTERN)
    if finding.kind == NEW_PATTERN or falls != (above.kind == RATE_DROP):
        return False
    return not _goes_beyond(report, above.series, finding, falls)


def _goes_beyond(report: Report, above: int, finding: Finding, falls: bool) -> bool:
    """Whether the finding's effect is twice that of the series above in its hours, and significantly so."""
    hours = slice(finding.start, finding.end)
    expected = float(report.mean[above, hours].sum())
    if expected <= 0:
        return True
    usual = float(report.mean[finding.series, hours].sum())
    explained = usual * float(report.today[above, hours].sum()) / expected
    factor = report.settings.ratio
    if (finding.observed * factor > explained) if falls else (finding.observed < factor * explained):
        return False
    s, e = finding.series, report.expectation
    length = statistics.length_index(finding.end - finding.start)
    p, _ = statistics.tail(
        np.array([finding.observed]),
        np.array([explained]),
        e.mean_weight[[s]],
        e.dispersion[[s], length],
        e.df[[s], length],
        report.log_weight[[s]],
        upper=not falls,
    )
    return bool(p[0] * len(report.spans) <= report.settings.level)


def _patterns_by_service(report: Report, services: set[int]) -> dict[int, np.ndarray]:
    patterns = np.flatnonzero(report.scope == "pattern")
    parents = report.parent[patterns]
    return {service: patterns[parents == service] for service in services}


def _cause(report: Report, finding: Finding, patterns: np.ndarray) -> str:
    """The template that makes up more than half of what is too much, or ''."""
    if finding.kind == ERROR_SURGE:
        patterns = patterns[report.error_share[patterns] >= 0.5]
    if not len(patterns):
        return ""
    hours = slice(finding.start, finding.end)
    excess = report.today[patterns, hours].sum(axis=1) - report.mean[patterns, hours].sum(axis=1)
    most = int(excess.argmax())
    enough = 2 * excess[most] > finding.observed - finding.expected
    return str(report.series.keys["template"].iloc[int(patterns[most])]) if enough else ""


def _with_resemblance(report: Report, finding: Finding, children: dict[int, np.ndarray]) -> Finding:
    """The finding with the template of the window that is like its own (`rewording.likeness`), if there is one.

    What is one statement with it is counted with it already; this is an event of its own in nearly the same words. An
    error resembles errors alone, and what is none resembles no error.
    """
    templates = report.series.keys["template"]
    if report.scope[finding.series] != "pattern":
        return finding
    template = str(templates.iloc[finding.series])
    known = children[int(report.parent[finding.series])]
    of_errors = report.error_share >= 0.5
    known = known[report.seen[known] & (of_errors[known] == of_errors[finding.series])]
    like = next((t for t in templates.iloc[known] if likeness(template, str(t))), "")
    return replace(finding, like=str(like))
