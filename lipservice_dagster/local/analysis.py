"""Somebody's own log files through the ideas of the graph, in a log store that is gone afterwards.

The steps are the assets' own: the masks run in the embedded engine, templates are mined, days are judged against the
days before them, rules say what a pattern is worth and the optimiser makes a policy of it. What differs is that a file
is read as one: its patterns are those of its whole span, and the policy is the one that an average day of it asks for,
without the ramp on which a live service gets there. Nothing leaves the machine; neither PostgreSQL nor Dagster runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from lipservice_dagster.advisors import rules
from lipservice_dagster.core import frames
from lipservice_dagster.core.anomalies import detect_by, history_days, is_learning
from lipservice_dagster.core.clustering import cluster
from lipservice_dagster.core.make_policy import make_policies
from lipservice_dagster.core.policy import Policy
from lipservice_dagster.core.policy_problem import ServiceDay
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.signatures import signatures_of
from lipservice_dagster.core.window import day_series
from lipservice_dagster.ingest import ingest
from lipservice_dagster.ingest.reader import IngestSummary
from lipservice_dagster.local.log_store import team_days
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.clickhouse import embedded
from lipservice_dagster.sources.limits import QueryLimits
from lipservice_dagster.team_day import Bounds, TeamDay

TEAM = 0
JUDGED_DAYS = 7
"""The last days of a span that are judged, each against its window."""
_MESSAGE = ["service", "environment", "severity", "message_id"]
_SCOPE = ["service", "environment"]
_SLACK = timedelta(minutes=5)  # an hour whose last minutes have no logs is over all the same


class AnalysisError(Exception):
    """The files could not be analysed; the message says why."""


@dataclass(frozen=True)
class Analysis:
    """What files hold. Logs and bytes are of the whole span, those in policies of an average day of it.

    ``raw``: rows of `frames.RAW_LOGS`, by day. ``patterns``: `frames.SIGNATURES` rows over the whole span, those of
    most logs first, ``families`` their `frames.CLUSTERS`. ``days``: those with logs. ``judged``: the days that were
    judged, and ``anomalies`` (`frames.ANOMALIES`) what was found on them, each against the days before it.
    """

    summary: IngestSummary
    raw: pd.DataFrame
    patterns: pd.DataFrame
    families: pd.DataFrame
    days: tuple[date, ...]
    judged: tuple[date, ...]
    anomalies: pd.DataFrame
    policies: tuple[Policy, ...]

    @property
    def first(self) -> datetime:
        """Time of the first log."""
        return _utc(self.raw["first_seen"].min())

    @property
    def last(self) -> datetime:
        """Time of the last log."""
        return _utc(self.raw["last_seen"].max())

    def severities(self) -> Mapping[str, int]:
        """Logs of each severity that there is."""
        counts = self.raw.groupby("severity")["logs"].sum()
        return {severity: int(counts[severity]) for severity in frames.SEVERITIES if severity in counts.index}

    def services(self) -> pd.DataFrame:
        """Columns service, environment, logs, bytes, errors, patterns, first_seen, last_seen; the largest first."""
        errors = self.raw["severity"].isin(frames.ERROR_SEVERITIES)
        found = (
            self.raw.assign(errors=self.raw["logs"].where(errors, 0))
            .groupby(_SCOPE, as_index=False)
            .agg(
                logs=("logs", "sum"),
                bytes=("bytes", "sum"),
                errors=("errors", "sum"),
                first_seen=("first_seen", "min"),
                last_seen=("last_seen", "max"),
            )
        )
        patterns = self.patterns.groupby(_SCOPE).size().rename("patterns").reset_index()
        return found.merge(patterns, on=_SCOPE).sort_values(["logs", *_SCOPE], ascending=[False, True, True])

    def savings(self) -> tuple[float, float]:
        """Bytes of an average day, and those of them that the policies keep."""
        return sum(p.expected.bytes for p in self.policies), sum(p.expected.kept_bytes for p in self.policies)


def analyse(
    inputs: Sequence[Path] | BinaryIO,
    settings: Settings,
    *,
    service: str | None = None,
    environment: str = "",
    day: date | None = None,
    year: int | None = None,
    now: datetime,
) -> Analysis:
    """What the inputs hold; see `ingest` for how they are read and what is raised.

    Raises AnalysisError where they hold no logs, or the log store's two counts do not agree.
    """
    with tempfile.TemporaryDirectory(prefix="lipservice-analyze-") as folder:
        store = Path(folder) / "log_store"
        summary = ingest(
            inputs,
            store=store,
            team_id=TEAM,
            service=service,
            day=day,
            now=now,
            environment=environment,
            year=year,
            scratch=True,
        )
        if not summary.stored:
            raise AnalysisError(f"There are no logs: {summary.read:,} lines were read, {summary.blank:,} of them blank")
        raw = _raw(store, summary, settings)
    patterns, _ = signatures_of(_pooled(raw))
    patterns = patterns.sort_values(["logs", "service", "template"], ascending=[False, True, True], ignore_index=True)
    families = cluster(patterns)
    days = tuple(sorted(set(raw["day"])))
    judged, anomalies = _anomalies(raw, settings)
    policies = _policies(patterns, families, anomalies, len(days), settings.policy_settings())
    return Analysis(summary, raw, patterns, families, days, judged, anomalies, policies)


def _raw(store: Path, summary: IngestSummary, settings: Settings) -> pd.DataFrame:
    """The rows of raw_logs of all days, which must add up to what was stored and to the independent count."""
    limits = QueryLimits(
        settings.max_messages, settings.max_threads, settings.max_memory_bytes, settings.query_timeout_seconds
    )
    source = embedded(store, limits)
    wanted = [TeamDay(team_id, day) for team_id, day in team_days(store)]
    # What a file holds is all there is, also of the hour that is not over and of clocks that run ahead.
    bounds = Bounds(datetime.max.replace(microsecond=0, year=2299, tzinfo=UTC))
    raw, counted = source.groups(wanted, bounds), source.counts(wanted, bounds)
    logs, octets = (int(raw[column].sum()) for column in ("logs", "bytes"))
    if logs != summary.stored or (logs, octets) != (int(counted["logs"].sum()), int(counted["bytes"].sum())):
        raise AnalysisError(
            f"{summary.stored:,} logs were stored, the groups hold {logs:,} and {octets:,} bytes, the log store counts"
            f" {int(counted['logs'].sum()):,} and {int(counted['bytes'].sum()):,} bytes: this is a fault of LipService"
        )
    return raw


def _pooled(raw: pd.DataFrame) -> pd.DataFrame:
    """All days as one, which has the date of the last."""
    rows = raw.sort_values([*_MESSAGE, "day"], ignore_index=True)
    groups = rows.groupby(_MESSAGE, sort=True)
    pooled = groups.agg(
        message=("message", "first"),
        logs=("logs", "sum"),
        bytes=("bytes", "sum"),
        weighted_logs=("weighted_logs", "sum"),
        weighted_bytes=("weighted_bytes", "sum"),
        first_seen=("first_seen", "min"),
        last_seen=("last_seen", "max"),
        example=("example", "min"),
    ).reset_index()
    hours = np.zeros((len(pooled), frames.HOURS))
    np.add.at(hours, groups.ngroup().to_numpy(), frames.hours_matrix(rows))
    pooled = pooled.assign(hours=list(hours), team_id=TEAM, day=raw["day"].max())
    return pooled[list(frames.RAW_LOGS)]


def _anomalies(raw: pd.DataFrame, settings: Settings) -> tuple[tuple[date, ...], pd.DataFrame]:
    """The last days, where enough lies before them to judge by, and what is odd there.

    Of a file that begins or ends within a day, what is missing of it is no silence: the first day is in no window, and
    the last is judged until its last whole hour.
    """
    first, last = _utc(raw["first_seen"].min()), _utc(raw["last_seen"].max())
    begin = first.date() if first.hour == 0 else first.date() + timedelta(days=1)
    judged, found = [], [frames.empty(frames.ANOMALIES)]
    detector = settings.detectors()
    for back in range(JUDGED_DAYS - 1, -1, -1):
        day = last.date() - timedelta(days=back)
        days = [day - timedelta(days=n) for n in range(settings.window_days, 0, -1)]
        days = [d for d in days if d >= begin]
        today = raw[raw["day"] == day]
        hours = frames.HOURS if back else (last + _SLACK).hour if (last + _SLACK).date() == day else frames.HOURS
        if not days or not hours or today.empty:
            continue
        patterns, members = signatures_of(today)
        series = day_series(today, raw[raw["day"].isin(days)], days, members, patterns)
        if not history_days(series) or (is_learning(series) and detector.in_force(series) == "predictive"):
            continue
        judged.append(day)
        found.append(detect_by(series, team_id=TEAM, day=day, hours=hours, detector=detector))
    return tuple(judged), frames.stack(found)


def _policies(
    patterns: pd.DataFrame, families: pd.DataFrame, anomalies: pd.DataFrame, days: int, settings: PolicySettings
) -> tuple[Policy, ...]:
    """A policy of each service and environment for an average of so many days, judged by rules."""
    judgements = rules.advise(patterns, families)
    average = patterns.assign(
        weighted_logs=patterns["weighted_logs"] / days,
        weighted_bytes=patterns["weighted_bytes"] / days,
        hours=[hours / days for hours in patterns["hours"]],
        severities=[severities / days for severities in patterns["severities"]],
    )
    if average.empty:
        return ()
    day = average["day"].iloc[0]
    services = []
    for (service, environment), rows in average.groupby(_SCOPE, sort=True):
        of_scope = (anomalies["service"] == service) & (anomalies["environment"] == environment)
        unusual = anomalies[of_scope & (anomalies["day"] == day)]
        services.append(
            ServiceDay(service, environment, rows, unusual, judged_by="Rules judged what patterns are worth.")
        )
    made = make_policies(TEAM, day, services, judgements, settings)
    if days > 1:
        made = [p.model_copy(update={"reasoning": _of_average(p.reasoning, day, days)}) for p in made]
    return tuple(made)


def _of_average(reasoning: str, day: date, days: int) -> str:
    return reasoning.replace(f"logged on {day}.", f"logs on an average of its {days} days.")


def _utc(moment: pd.Timestamp) -> datetime:
    found: datetime = moment.to_pydatetime()
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
