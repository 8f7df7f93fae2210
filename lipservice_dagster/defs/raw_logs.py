"""raw_logs: a team-day of the log store as masked messages with their counts, verified against an independent count."""

from collections.abc import Mapping

import dagster as dg
import numpy as np
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import Bounds, TeamDay, team_days
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.storage import materializations, services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows
from lipservice_sampler.masks import MASK_VERSION

LOG_STORE_POOL = "log_store"
"""Dagster's pool of the steps that read the log store; its limit is how many do at a time."""

REPLACE_TAG = "lipservice/replace"
"""Tag of a run that replaces a day also where the log store holds less of it than is stored; its value is not read."""


def build(partitions: dg.MultiPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The asset and its check."""

    @team_day_asset(
        partitions=partitions,
        fills=["raw_logs"],
        kinds={"clickhouse", "postgres"},
        code_version=f"2-masks-{MASK_VERSION}",
        pool=LOG_STORE_POOL,
    )
    def raw_logs(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        log_source: dg.ResourceParam[LogSource],
    ) -> TeamDayRows:
        """Logs of a team-day, grouped by service, environment, severity and masked message.

        The masks run inside the log store and groups come back, never rows. Stored logs and bytes count what there is;
        weighted ones estimate what there was before sampling. Each partition is counted a second time on its own, with
        the same bounds; one that does not agree keeps its old content and is marked.
        """
        wanted = team_days(context.partition_keys)
        bounds = Bounds.now()
        context.log.info(f"reading {len(wanted)} team-days, observed until {bounds.as_of:%Y-%m-%d %H:%M:%S} UTC")
        rows, counts = log_source.groups(wanted, bounds), log_source.counts(wanted, bounds)
        replace = REPLACE_TAG in context.run.tags
        kept = {} if replace else expired(materializations.of(database, "raw_logs", wanted), counts)
        for at, why in kept.items():
            context.log.warning(f"{at}: {why}")
        problems = disagreements([d for d in wanted if d not in kept], rows, counts)
        for at, problem in problems.items():
            context.log.error(f"{at}: {problem}")
        good = [d for d in wanted if d not in problems and d not in kept]
        if len(good) < len(wanted):
            keys = pd.MultiIndex.from_frame(rows[["team_id", "day"]])
            rows = rows[keys.isin([(d.team_id, d.day) for d in good])].reset_index(drop=True)
        services.register(database, rows)
        _show(context, rows, wanted, kept)
        return TeamDayRows(
            {"raw_logs": rows},
            good,
            problems,
            kept,
            as_of=bounds.as_of,
            hours={d: bounds.hours(d.day) for d in good},
        )

    @dg.asset_check(asset=raw_logs, name="agrees_with_the_log_store", description="No log was lost on the way in.")
    def agrees(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        wanted = team_days(context.partition_keys)
        entries = materializations.of(database, "raw_logs", wanted)
        bad = {d: e.problem for d, e in entries.items() if e.problem}
        return dg.AssetCheckResult(
            passed=not bad,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{len(bad)} of {len(wanted)} partitions do not agree and keep their old content"
            if bad
            else None,
            metadata={"partitions": len(wanted), "logs": sum(e.logs or 0 for e in entries.values())}
            | {str(d): str(p) for d, p in sorted(bad.items())[:20]},
        )

    @dg.asset_check(
        asset=raw_logs,
        name="still_in_the_log_store",
        description="Days whose logs are leaving the log store, or have left it, keep what is stored.",
    )
    def still_there(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        wanted = team_days(context.partition_keys)
        kept = {d: e.kept for d, e in materializations.of(database, "raw_logs", wanted).items() if e.kept}
        return dg.AssetCheckResult(
            passed=not kept,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(kept)} of {len(wanted)} partitions are leaving it, or have, and keep what is stored"
            if kept
            else None,
            metadata={"partitions": len(wanted)} | {str(d): str(why) for d, why in sorted(kept.items())[:20]},
        )

    return [raw_logs, agrees, still_there]


def expired(stored: Mapping[TeamDay, materializations.Materialization], counts: pd.DataFrame) -> Mapping[TeamDay, str]:
    """The team-days that are stored and whose logs are leaving the log store or have left it, each with the figures.

    What is stored never makes way for less: of a day that was read when it was over, logs can only go. They do by the
    time they were observed, so that of a day whose time there is over some seconds may stay a day longer.
    """
    there = {TeamDay(int(r.team_id), r.day): int(r.logs) for r in counts.itertuples()}
    found = {}
    for at, entry in stored.items():
        held = there.get(at, 0)
        if not entry.logs or held >= (entry.logs if entry.hours == frames.HOURS else 1):
            continue
        holds = f"{held:,} logs of this day, fewer than before" if held else "no logs of this day any more"
        found[at] = (
            f"the log store holds {holds}; its {entry.logs:,} logs stay as they were stored (a run tagged {REPLACE_TAG}"
            " takes what there is)"
        )
    return found


def disagreements(wanted: list[TeamDay], rows: pd.DataFrame, counts: pd.DataFrame) -> Mapping[TeamDay, str]:
    """The team-days whose groups do not add up to the independent count, each with the figures.

    Nor may they weigh less than they hold: no log stands for less than itself.
    """
    light = rows[rows["weighted_logs"] < rows["logs"]].groupby(["team_id", "day"])[["logs", "weighted_logs"]].sum()
    grouped = rows.groupby(["team_id", "day"])[["logs", "bytes"]].sum()
    counted = counts.set_index(["team_id", "day"])[["logs", "bytes"]]
    problems = {}
    for at in wanted:
        key = (at.team_id, at.day)
        found = tuple(int(v) for v in grouped.loc[key]) if key in grouped.index else (0, 0)
        expected = tuple(int(v) for v in counted.loc[key]) if key in counted.index else (0, 0)
        if found != expected:
            problems[at] = (
                f"the groups hold {found[0]:,} logs and {found[1]:,} bytes, the log store counts {expected[0]:,} logs"
                f" and {expected[1]:,} bytes; the partition keeps its old content: materialise it again"
            )
        elif key in light.index:
            problems[at] = (
                f"{int(light.loc[key, 'logs']):,} logs weigh {light.loc[key, 'weighted_logs']:,.1f}, less than"
                " themselves: files of the log store lack what this version works out when logs are written; the"
                " partition keeps its old content: ingest these logs again"
            )
    return problems


_TEAM_DAY = ["team_id", "day"]


def _show(
    context: dg.AssetExecutionContext, rows: pd.DataFrame, wanted: list[TeamDay], kept: Mapping[TeamDay, str]
) -> None:
    # Once over all partitions: pandas takes milliseconds for each grouping, however few its rows.
    volumes = (
        rows.groupby([*_TEAM_DAY, "service", "environment"], as_index=False)
        .agg(
            rows=("message_id", "size"),
            messages=("message_id", "nunique"),
            logs=("logs", "sum"),
            bytes=("bytes", "sum"),
            weighted_logs=("weighted_logs", "sum"),
        )
        .sort_values(["bytes", "service", "environment"], ascending=[False, True, True])
    )
    of_partition = dict(tuple(volumes.groupby(_TEAM_DAY)))
    hours = pd.DataFrame(frames.hours_matrix(rows)).groupby([rows[name] for name in _TEAM_DAY]).sum()
    hours_of = dict(zip(hours.index, hours.to_numpy(), strict=True))
    for at in wanted:
        if at in kept:
            show(context, at, {"kept": kept[at]})
            continue
        key = (at.team_id, at.day)
        part = of_partition.get(key, volumes.iloc[:0])
        show(
            context,
            at,
            {
                "dagster/partition_row_count": int(part["rows"].sum()),
                "logs": int(part["logs"].sum()),
                "bytes": int(part["bytes"].sum()),
                "weighted_logs": float(part["weighted_logs"].sum()),
                "services": shown.table(part, ["service", "environment", "messages", "logs", "bytes"], 50),
                "logs_per_hour": shown.hourly(hours_of.get(key, np.zeros(frames.HOURS)), f"Logs per hour, {at}"),
            },
        )
