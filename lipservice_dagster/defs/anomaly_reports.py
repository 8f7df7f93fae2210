"""anomaly_reports: what of a team-day is out of the ordinary, against its trailing window."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.anomalies import Detector, DetectorSettings, detect_by, summarise
from lipservice_dagster.core.anomalies_band import bands
from lipservice_dagster.core.anomalies_text import (
    ERROR_SURGE,
    HIGH,
    LOW,
    MEDIUM,
    NEW_PATTERN,
    RATE_DROP,
    RATE_SPIKE,
    VANISHED_PATTERN,
)
from lipservice_dagster.core.series import Series
from lipservice_dagster.core.window import day_series
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days, trailing_window
from lipservice_dagster.storage import materializations, windows
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables


def build(partitions: dg.MultiPartitionsDefinition, window_days: int, detector: Detector) -> list[dg.AssetsDefinition]:
    """The asset and its check."""
    window = dg.AssetIn(partition_mapping=trailing_window(window_days))

    @team_day_asset(
        partitions=partitions,
        fills=["anomaly_reports", "anomalies"],
        kinds={"python", "postgres"},
        ins={"raw_logs": window},
        # Another policy than its parents': Dagster then waits for the window's days before it starts a run.
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1_000),
        code_version="5",
    )
    def anomaly_reports(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        raw_logs: TeamDayTables,
        signatures: TeamDayTables,
    ) -> TeamDayRows:
        """Spikes, drops, error surges, new and vanished patterns of a team-day.

        The window's masked messages are matched against this day's templates; days are never joined on signatures. The
        report keeps the fingerprint of the window that it read.
        """
        wanted = team_days(context.partition_keys)
        # Before anything is read: what changes meanwhile leaves a report that is known to be stale.
        prints = windows.window_fingerprints(database, wanted, window_days)
        read = materializations.written(materializations.of(database, "raw_logs", raw_logs.team_days))
        reports, found = [], []
        for team_id, tables in raw_logs.by_team():
            days = [d for d in wanted if d.team_id == team_id]
            rows = tables.read(columns=_READ)
            mined = signatures.of(days)
            members, patterns = mined.read("signature_members"), mined.read("signatures")
            for at in days:
                series, hours = _series(at, window_days, rows, _of(members, at), _of(patterns, at), read)
                anomalies = detect_by(series, team_id=at.team_id, day=at.day, hours=hours, detector=detector)
                report = summarise(series, anomalies, hours=hours, detector=detector)
                keys = {"team_id": at.team_id, "day": at.day, "window_fingerprint": prints[at]}
                reports.append(keys | report)
                found.append(anomalies)
                show(context, at, _shown(at, report, series, anomalies, detector))
        return TeamDayRows(
            {
                "anomaly_reports": pd.DataFrame(reports, columns=list(frames.ANOMALY_REPORTS)),
                "anomalies": frames.stack([frames.empty(frames.ANOMALIES), *found]),
            },
            wanted,
            made_from=[raw_logs, signatures],
        )

    @dg.asset_check(asset=anomaly_reports, name="nothing_high", description="No anomaly of high severity.")
    def nothing_high(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        tables = TeamDayTables(database, ("anomalies",), tuple(team_days(context.partition_keys)))
        rows = tables.read(columns=["team_id", "day", "service", "kind", "severity", "explanation"])
        high = rows[rows["severity"] == "high"]
        return dg.AssetCheckResult(
            passed=high.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(high)} of high severity" if len(high) else None,
            metadata={"high": shown.table(high, ["day", "service", "kind", "explanation"])},
        )

    return [anomaly_reports, nothing_high]


KINDS = (RATE_SPIKE, RATE_DROP, ERROR_SURGE, NEW_PATTERN, VANISHED_PATTERN)
_SEVERITIES = (HIGH, MEDIUM, LOW)
_KIND_COLUMNS = ["kind", *_SEVERITIES]
_PLOTS = 6
_LONGEST_TITLE = 100

_READ = [
    "team_id",
    "day",
    "service",
    "environment",
    "severity",
    "message_id",
    "message",
    "logs",
    "weighted_logs",
    "hours",
]


def _of(frame: pd.DataFrame, at: TeamDay) -> pd.DataFrame:
    return frame[(frame["team_id"] == at.team_id) & (frame["day"] == at.day)]


def _series(
    at: TeamDay,
    window_days: int,
    rows: pd.DataFrame,
    members: pd.DataFrame,
    patterns: pd.DataFrame,
    read: Mapping[TeamDay, materializations.Materialization],
) -> tuple[Series, int]:
    """The counts of the day and its window, and how many whole hours of the day are known."""
    window = [TeamDay(at.team_id, at.day - timedelta(days=n)) for n in range(window_days, 0, -1)]
    # A day that was read while it was open would look as if it had fallen silent.
    days = [d.day for d in window if d in read and read[d].hours == frames.HOURS]
    hours = read[at].hours or 0 if at in read else 0
    series = day_series(_of(rows, at), rows[rows["day"].isin(days)], days, members, patterns)
    return series, hours


def _shown(
    at: TeamDay, report: Mapping[str, int | bool], series: Series, anomalies: pd.DataFrame, detector: Detector
) -> dict[str, Any]:
    """What the UI shows of a report. Numbers by kind are there also where they are 0: Dagster plots them by day."""
    hours = int(report["hours"])
    grave = anomalies.assign(rank=anomalies["severity"].map({s: i for i, s in enumerate(_SEVERITIES)}))
    ranked = grave.sort_values(["rank", "p_value", "service", "environment", "start_hour"], ignore_index=True)
    found = Counter(zip(ranked["kind"], ranked["severity"], strict=True))
    counts = pd.DataFrame([(kind, *(found[kind, s] for s in _SEVERITIES)) for kind in KINDS], columns=_KIND_COLUMNS)
    metadata: dict[str, Any] = {"state": dg.MetadataValue.md(state(report, detector.in_force(series)))}
    if len(ranked):
        top = ranked.head(_PLOTS)
        pictures = [
            f"{shown.plain(row.explanation)}\n\n{shown.against_expected(band, row.evidence_hours, _title(row))}"
            for row, band in zip(top.itertuples(), bands(series, top, day=at.day, hours=hours), strict=True)
        ]
        metadata["observed_and_expected"] = dg.MetadataValue.md("\n\n".join(pictures))
    metadata |= {
        "by_kind": shown.table(counts, _KIND_COLUMNS),
        "anomalies": shown.table(ranked, ["severity", "kind", "explanation", "confidence"]),
        "dagster/partition_row_count": len(anomalies),
        "learning": bool(report["learning"]),
        "window_days": int(report["window_days"]),
        "hours": hours,
    }
    return metadata | {kind: sum(found[kind, s] for s in _SEVERITIES) for kind in KINDS}


def state(report: Mapping[str, int | bool], detector: str = "predictive") -> str:
    """In a sentence or two, in Markdown: what was judged, by which detector, against what, and what was not."""
    hours, days, least = int(report["hours"]), int(report["window_days"]), DetectorSettings().min_days
    read = (
        "" if hours == frames.HOURS else f" The day is open: it was read until {hours:02}:00 UTC, the last whole hour."
    )
    rule = "" if detector == "predictive" else f", each hour by the plain rule “{detector}”"
    if report["learning"] and report["series"]:
        return (
            f"**Learning**: {report['series']:,} series judged against {days} {_plural(days)} of logs before{rule},"
            f" until there are {least}.{read}"
        )
    if report["learning"]:
        least = least if detector == "predictive" else 1
        return (
            f"**Learning**: nothing is judged yet, the window has {days} {_plural(days)} of logs and judging takes"
            f" {least}.{read}"
        )
    return f"{report['series']:,} series judged against {days} {_plural(days)} of logs before{rule}.{read}"


def _plural(days: int) -> str:
    return "day" if days == 1 else "days"


def _title(row: Any) -> str:
    place = f"{row.service or '(no service)'}{f' ({row.environment})' if row.environment else ''}"
    what = {"service": "all logs", "severity": f"{row.subject} logs"}.get(row.scope, f"“{row.template}”")
    title = f"{row.severity} {row.kind.replace('_', ' ')}: {place}, {what}"
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
