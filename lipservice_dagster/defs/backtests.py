"""replays and backtests: policies over days that they had not seen, and whether their method passed the gate."""

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.anomalies import Detector
from lipservice_dagster.core.backtest import GateSettings, found_again, judge, replay_day
from lipservice_dagster.core.boosts import BoostSettings, boosts_of
from lipservice_dagster.core.overlay import OverlayHours
from lipservice_dagster.core.window import day_series
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days, trailing_window
from lipservice_dagster.storage import materializations, served
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables
from lipservice_dagster.storage.team_days import read as stored

_GB = 1e9
_RAW = [
    "team_id",
    "day",
    "service",
    "environment",
    "severity",
    "message_id",
    "message",
    "logs",
    "weighted_logs",
    "weighted_bytes",
    "hours",
]

_MADE = ["team_id", "day", "service", "environment", "version", "budget"]


def build(
    partitions: dg.MultiPartitionsDefinition,
    window_days: int,
    gate: GateSettings,
    boost: BoostSettings,
    price_per_gb: float,
    detector: Detector,
) -> list[dg.AssetsDefinition]:
    """The two assets and their check."""

    @team_day_asset(
        partitions=partitions,
        fills=["replays"],
        kinds={"python", "postgres"},
        ins={
            "policies": dg.AssetIn(partition_mapping=trailing_window(1)),
            "anomaly_reports": dg.AssetIn(partition_mapping=trailing_window(boost.reach_days)),
            "raw_logs": dg.AssetIn(partition_mapping=trailing_window(window_days)),
        },
        # Another policy than those of the parents whose earlier days it reads: Dagster then waits for those days.
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=500),
        code_version="4",
    )
    def replays(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        raw_logs: TeamDayTables,
        signatures: TeamDayTables,
        anomaly_reports: TeamDayTables,
        policies: TeamDayTables,
    ) -> TeamDayRows:
        """The policy of the day before over this day, which it has not seen: what it would have kept, by counts alone.

        Only whole days are replayed, by policies of whole days, under the overrides that held in each hour and the
        boosts that the days before raise. On one seeded draw of what would be left, weighted, the anomalies of the day
        are looked for again.
        """
        wanted = team_days(context.partition_keys)
        read = materializations.of(database, "raw_logs", raw_logs.team_days)
        whole = {d for d, entry in read.items() if entry.hours == frames.HOURS}
        made = [frames.empty(frames.REPLAYS)]
        for team_id, documents in policies.by_team():
            by_day = _documents(documents)
            days = [d for d in wanted if d.team_id == team_id and {d, _before(d)} <= whole and by_day.get(_before(d))]
            members, patterns = (signatures.of(days).read(t) for t in ("signature_members", "signatures"))
            reports = anomaly_reports.of(d for d in anomaly_reports.team_days if d.team_id == team_id)
            anomalies = reports.read("anomalies")
            logs = raw_logs.of(d for d in raw_logs.team_days if d.team_id == team_id)
            for at in days:
                # The window is only read where there is something to find again: it is the costly part.
                window = [d for d in logs.team_days if d in whole and _in(d, at, window_days)]
                mine = anomalies[anomalies["day"] == at.day]
                rows = logs.of([at, *window] if len(mine) else [at]).read(columns=_RAW)
                made.append(
                    _replay(
                        at,
                        rows,
                        [d.day for d in window],
                        members[members["day"] == at.day],
                        patterns[patterns["day"] == at.day],
                        mine,
                        by_day[_before(at)],
                        by_day.get(at, {}),
                        _said(database, at, by_day[_before(at)], anomalies, boost),
                        detector,
                    )
                )
        rows = frames.stack(made)
        for at in wanted:
            of_day = rows[(rows["team_id"] == at.team_id) & (rows["day"] == at.day)]
            show(context, at, {"dagster/partition_row_count": len(of_day)})
        inputs = [raw_logs, signatures, anomaly_reports, policies]
        return TeamDayRows({"replays": rows}, wanted, made_from=inputs)

    @team_day_asset(
        partitions=partitions,
        fills=["backtests"],
        kinds={"python", "postgres"},
        ins={"replays": dg.AssetIn(partition_mapping=trailing_window(gate.days - 1))},
        code_version="2",
    )
    def backtests(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        policies: TeamDayTables,
        replays: TeamDayTables,
    ) -> TeamDayRows:
        """Whether a service's policies may be released: its method, replayed over the latest days, by set limits.

        All errors kept, nearly all patterns still seen, the budget in force met, anomalies found again. A service that
        fails is not released and says why; the others are. Replays of policies for another budget than that of the
        day's own prove nothing of it, nor do those of policies that have been made again since.
        """
        wanted = team_days(context.partition_keys)
        entries = materializations.of(database, "replays", replays.team_days)
        made = [frames.empty(frames.BACKTESTS)]
        for team_id, tables in policies.by_team():
            scopes = tables.read(columns=_MADE)
            days = [d for d in wanted if d.team_id == team_id]
            of_window = [d for d in replays.team_days if d.team_id == team_id]
            made_before = stored(database, "policies", [_before(d) for d in of_window], _MADE)
            replayed = _with_budget(replays.of(of_window).read(), made_before)
            for at in days:
                window = [TeamDay(team_id, at.day - timedelta(days=n)) for n in range(gate.days)]
                print_ = materializations.fingerprint_of(entries, window)
                rows = _verdicts(at, scopes[scopes["day"] == at.day], replayed, gate, print_)
                made.append(rows)
                _show(context, at, rows, price_per_gb)
        return TeamDayRows({"backtests": frames.stack(made)}, wanted, made_from=[policies, replays])

    @dg.asset_check(
        asset=backtests,
        name="passes_the_gate",
        description="Every service with enough history passes; one that does not keeps what is in force.",
    )
    def passes_the_gate(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        rows = TeamDayTables(database, ("backtests",), tuple(team_days(context.partition_keys))).read()
        failed = rows[~rows["passed"] & ~rows["learning"]]
        return dg.AssetCheckResult(
            passed=failed.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(failed)} of {len(rows)} stay unreleased" if len(failed) else None,
            metadata={
                "passed": int(rows["passed"].sum()),
                "learning": int(rows["learning"].sum()),
                "failed": shown.table(failed, ["day", "service", "environment", "why"], 50),
            },
        )

    return [replays, backtests, passes_the_gate]


def _before(at: TeamDay) -> TeamDay:
    return TeamDay(at.team_id, at.day - timedelta(days=1))


def _in(day: TeamDay, at: TeamDay, window_days: int) -> bool:
    return timedelta(0) < at.day - day.day <= timedelta(days=window_days)


def _documents(tables: TeamDayTables) -> dict[TeamDay, dict[tuple[str, str], Mapping[str, Any]]]:
    """The documents of one team by day, then by service and environment."""
    found: dict[TeamDay, dict[tuple[str, str], Mapping[str, Any]]] = {}
    rows = tables.read(columns=["team_id", "day", "service", "environment", "document"])
    for row in rows.itertuples(index=False):
        at = TeamDay(int(row.team_id), row.day)
        found.setdefault(at, {})[row.service, row.environment] = json.loads(row.document)
    return found


def _replay(
    at: TeamDay,
    rows: pd.DataFrame,
    days: list[Any],
    members: pd.DataFrame,
    patterns: pd.DataFrame,
    anomalies: pd.DataFrame,
    before: Mapping[tuple[str, str], Mapping[str, Any]],
    own: Mapping[tuple[str, str], Mapping[str, Any]],
    said: Mapping[tuple[str, str], OverlayHours],
    detector: Detector,
) -> pd.DataFrame:
    today = rows[rows["day"] == at.day]
    found, left = replay_day(at.day, today, members, before, own, said)
    if anomalies.empty:
        return found
    series = day_series(today, rows[rows["day"] != at.day], days, members, patterns)
    return found_again(found, left, series, members, patterns, anomalies, detector)


def _said(
    database: Database,
    at: TeamDay,
    scopes: Collection[tuple[str, str]],
    anomalies: pd.DataFrame,
    boost: BoostSettings,
) -> dict[tuple[str, str], OverlayHours]:
    """The overlays of the day's hours: overrides as the ledger has them, boosts as the days before raise them."""
    earlier = anomalies[(anomalies["day"] < at.day) & (anomalies["day"] >= at.day - timedelta(days=boost.reach_days))]
    found = served.day_overlays(database, [at.team_id], at.day).with_boosts(boosts_of(earlier, boost))
    return {scope: found.during(at.team_id, *scope, at.day) for scope in scopes}


def _with_budget(replayed: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """The replays whose policy is still the one that is stored for the day before, each with the budget of that."""
    key = ["day", "service", "environment", "version"]
    following = pd.Series([day + timedelta(days=1) for day in made["day"]], made.index, dtype=object)
    before = made.assign(day=following)
    return replayed.merge(before[[*key, "budget"]], on=key, validate="one_to_one")


def _verdicts(
    at: TeamDay, scopes: pd.DataFrame, replayed: pd.DataFrame, gate: GateSettings, window_fingerprint: str
) -> pd.DataFrame:
    by_scope = dict(list(replayed.groupby(["service", "environment", "budget"])))
    none = replayed.iloc[:0]
    rows = [
        {
            "team_id": at.team_id,
            "day": at.day,
            "service": row.service,
            "environment": row.environment,
            "version": row.version,
            "window_fingerprint": window_fingerprint,
            **judge(by_scope.get((row.service, row.environment, row.budget), none), at.day, gate),
        }
        for row in scopes.itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=list(frames.BACKTESTS))


def _show(context: dg.AssetExecutionContext, at: TeamDay, rows: pd.DataFrame, price_per_gb: float) -> None:
    saved = rows["bytes"] - rows["kept_bytes"]
    share = saved / rows["bytes"].where(rows["bytes"] > 0)
    state = rows["passed"].map({True: "passed", False: "failed"}).where(~rows["learning"].astype(bool), "learning")
    table = rows.assign(saved=share, state=state).sort_values(["bytes", "service"], ascending=[False, True])
    days = rows["days"].where(rows["days"] > 0)
    columns = ["service", "environment", "state", "saved", "why", "count_error", "pattern_error"]
    show(
        context,
        at,
        {
            "dagster/partition_row_count": len(rows),
            **{name: int((state == name).sum()) for name in ("passed", "failed", "learning")},
            "saved_money_a_month": round(float((saved / days).sum()) / _GB * price_per_gb * 30, 2),
            "backtests": shown.table(table, columns, 50),
            "saved_by_service": shown.shares(
                [" ".join(filter(None, k)) for k in zip(table["service"], table["environment"], strict=True)],
                table["saved"].fillna(0.0).tolist(),
                table["state"].tolist(),
                f"Share of the bytes saved on days not seen before, {at.day}",
            ),
        },
    )
