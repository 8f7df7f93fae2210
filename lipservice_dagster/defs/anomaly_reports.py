"""anomaly_reports: what of a team-day is out of the ordinary, against its trailing window."""

from collections.abc import Mapping
from datetime import timedelta

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.anomalies import detect, summarise
from lipservice_dagster.core.window import day_series
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days, trailing_window
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables


def build(partitions: dg.MultiPartitionsDefinition, window_days: int) -> list[dg.AssetsDefinition]:
    """The asset and its check."""
    window = dg.AssetIn(partition_mapping=trailing_window(window_days))

    @team_day_asset(
        partitions=partitions,
        fills=["anomaly_reports", "anomalies"],
        kinds={"python", "postgres"},
        ins={"raw_logs": window},
        # Another policy than its parents': Dagster then waits for the window's days before it starts a run.
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1_000),
        code_version="1",
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
        read = materializations.written(materializations.of(database, "raw_logs", raw_logs.team_days))
        reports, found = [], []
        for team_id, tables in raw_logs.by_team():
            days = [d for d in wanted if d.team_id == team_id]
            rows = tables.read(columns=_READ)
            mined = signatures.of(days)
            members, patterns = mined.read("signature_members"), mined.read("signatures")
            for at in days:
                report, anomalies = _report(at, window_days, rows, _of(members, at), _of(patterns, at), read)
                reports.append(report)
                found.append(anomalies)
                _show(context, at, report, anomalies)
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


def _report(
    at: TeamDay,
    window_days: int,
    rows: pd.DataFrame,
    members: pd.DataFrame,
    patterns: pd.DataFrame,
    read: Mapping[TeamDay, materializations.Materialization],
) -> tuple[dict[str, object], pd.DataFrame]:
    """The report's row and its anomalies."""
    window = [TeamDay(at.team_id, at.day - timedelta(days=n)) for n in range(window_days, 0, -1)]
    # A day that was read while it was open would look as if it had fallen silent.
    days = [d.day for d in window if d in read and read[d].hours == frames.HOURS]
    hours = read[at].hours or 0 if at in read else 0
    series = day_series(_of(rows, at), rows[rows["day"].isin(days)], days, members, patterns)
    anomalies = detect(series, team_id=at.team_id, day=at.day, hours=hours)
    return {
        "team_id": at.team_id,
        "day": at.day,
        "window_fingerprint": materializations.window_fingerprint(dict(read), [*window, at]),
        **summarise(series, anomalies, hours=hours),
    }, anomalies


def _show(context: dg.AssetExecutionContext, at: TeamDay, report: dict[str, object], anomalies: pd.DataFrame) -> None:
    ranked = anomalies.assign(rank=anomalies["severity"].map({"high": 0, "medium": 1, "low": 2}))
    ranked = ranked.sort_values(["rank", "p_value", "service", "start_hour"], ignore_index=True)
    columns = ["severity", "kind", "explanation", "confidence"]
    by_kind = ranked.groupby(["kind", "severity"], as_index=False).size()
    context.add_asset_metadata(
        {
            "dagster/partition_row_count": len(anomalies),
            "learning": bool(report["learning"]),
            "window_days": int(str(report["window_days"])),
            "hours": int(str(report["hours"])),
            "anomalies": shown.table(ranked, columns),
            "by_kind": shown.table(by_kind, ["kind", "severity", "size"]),
        },
        partition_key=str(at),
    )
