"""What is out of the ordinary in a team's day: rate spikes and drops, error surges, new and vanished patterns.

What belongs here: which tests a report makes, which runs of hours become one anomaly, and which anomalies say the same.
The expectation stands in `anomalies_expectation`, the statistics in `anomalies_statistics`, words and severity in
`anomalies_text`, plain rules to compare with in `anomalies_rules`.

**Tests.** Each series with enough history is tested over every run of 1, 2, 3, 4, 6, 12 and 24 known hours against the
negative binomial predictive of its window, up and down. Its p-value is that of its best run times the number of tests
it had (Bonferroni; runs overlap, so this is on the safe side), and no less than the series' own bursts or heavy tails
make of it (`anomalies_own`). A pattern without logs in the window is tested as new, one that is silent today as
vanished. All series of the report go into one Benjamini–Hochberg procedure at `level`, in which services and
severities, being few, have half of the total weight.

**Sampled logs.** Where a stored log stands for several, counts are taken in stored logs, which is all that sampling
one by one leaves; and finer where they show that it left less to chance (`anomalies_draws`).

**Floors.** Whatever the p-value, a spike is at least `ratio` times what was expected and `least_logs` more, a drop the
reverse: an anomaly is something to act upon. What rest-rows hold may be of any pattern of their service and severity
class (`Series.hidden`), so a pattern must be that far off even if all of it were its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd

from lipservice_dagster.core.anomalies_findings import all_findings
from lipservice_dagster.core.anomalies_folding import unfolded
from lipservice_dagster.core.anomalies_frame import frame, key_columns
from lipservice_dagster.core.anomalies_report import (
    DetectorSettings,
    Report,
    history_days,
    is_learning,
    parents,
    tested_series,
)
from lipservice_dagster.core.anomalies_rules import ratio_rule, zscore_rule
from lipservice_dagster.core.anomalies_text import HIGH, Finding, confidence, counted_with, explanation, severity
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.series import Series

__all__ = [
    "DETECTORS",
    "Detector",
    "DetectorSettings",
    "detect",
    "detect_by",
    "history_days",
    "is_learning",
    "ratio_rule",
    "summarise",
    "zscore_rule",
]


@dataclass(frozen=True)
class Detector:
    """Which detector judges a day.

    ``name``: of `DETECTORS`. ``first_days``: the plain rule that judges while the window has too few days for the
    predictive one, or ``none``; the report still says that it is learning.
    """

    name: Literal["predictive", "ratio", "zscore"] = "predictive"
    first_days: Literal["none", "ratio", "zscore"] = "none"

    def in_force(self, series: Series, settings: DetectorSettings | None = None) -> str:
        """The name of the detector that judges this day."""
        first = self.name == "predictive" and self.first_days != "none" and is_learning(series, settings)
        return self.first_days if first else self.name


def detect_by(
    series: Series,
    *,
    team_id: int,
    day: date,
    hours: int = HOURS,
    detector: Detector | None = None,
    settings: DetectorSettings | None = None,
) -> pd.DataFrame:
    """`detect`, or the plain rule that is in force for this day; columns `frames.ANOMALIES`."""
    name = (detector or Detector()).in_force(series, settings)
    return DETECTORS[name](series, team_id=team_id, day=day, hours=hours, settings=settings)


def summarise(
    series: Series,
    anomalies: pd.DataFrame,
    *,
    hours: int = HOURS,
    detector: Detector | None = None,
    settings: DetectorSettings | None = None,
) -> dict[str, int | bool]:
    """The columns of `frames.ANOMALY_REPORTS` that follow from a report: all but its team-day and the fingerprint.

    The plain rules judge every series from one day of history on.
    """
    settings, detector = settings or DetectorSettings(), detector or Detector()
    learning = is_learning(series, settings) if detector.name == "predictive" else not history_days(series)
    if not hours or not history_days(series):
        tested = 0
    elif detector.in_force(series, settings) != "predictive":
        tested = len(series.keys)
    else:
        tested = 0 if learning else int(tested_series(series, parents(series), settings, hours).sum())
    return {
        "hours": hours,
        "window_days": history_days(series),
        "learning": learning,
        "series": tested,
        "anomalies": len(anomalies),
        "high": int((anomalies["severity"] == HIGH).sum()) if len(anomalies) else 0,
    }


def detect(
    series: Series, *, team_id: int, day: date, hours: int = HOURS, settings: DetectorSettings | None = None
) -> pd.DataFrame:
    """The anomalies of ``day``: one row each, columns `frames.ANOMALIES`, the gravest first.

    ``hours``: how many whole hours of the day are known; later ones are not read. Neighbouring hours that deviate the
    same way are one anomaly. While the window has less than ``min_days`` days of logs the frame is empty
    (`is_learning`); a service or pattern with less history of its own is not judged either. ``ratio`` is NaN where
    nothing was expected; ``p_value`` is corrected for the runs of its series, ``confidence`` comes from the q-value of
    the whole report.
    """
    _check(series, day, hours)
    settings = settings or DetectorSettings()
    if not hours or is_learning(series, settings):
        return frame([], team_id, day)
    report = Report.read(series, day, hours, settings)
    return frame([_row(series, f) for f in unfolded(report, all_findings(report))], team_id, day)


def _check(series: Series, day: date, hours: int) -> None:
    if not 0 <= hours <= HOURS:
        raise ValueError(f"hours is the number of known hours of the day, 0 to {HOURS}, got {hours}")
    if series.days and max(series.days) >= day:
        raise ValueError(f"the window must end before the day {day} that is judged, it has {max(series.days)}")


def _row(series: Series, finding: Finding) -> dict[str, object]:
    keys = key_columns(series, finding.series)
    scope, subject = keys["scope"], keys["subject"]
    return {
        **keys,
        "kind": finding.kind,
        "start_hour": finding.start,
        "end_hour": finding.end,
        "observed": finding.observed,
        "expected": finding.expected,
        "ratio": np.nan if finding.ratio is None else finding.ratio,
        "z": finding.z,
        "p_value": finding.p_value,
        "confidence": confidence(finding.q_value),
        "severity": severity(finding, scope, subject),
        "explanation": explanation(finding, keys["service"], keys["environment"], scope, subject, keys["template"])
        + counted_with([t for _, t in series.joined.get((keys["service"], keys["environment"], subject), ())]),
        "evidence_hours": list(finding.evidence),
    }


DETECTORS = {"predictive": detect, "ratio": ratio_rule, "zscore": zscore_rule}
"""Every detector by name; all take ``(series, *, team_id, day, hours, settings)`` and give `frames.ANOMALIES` rows."""
