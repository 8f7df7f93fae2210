"""policy_releases: the ledger of what is in force, moved forward by whole days."""

import json
from datetime import date
from typing import Any

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.boosts import Boost, BoostSettings, boosts_of
from lipservice_dagster.core.policy import keep_all, to_json, version
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.asked import ONLY_BOOSTS
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage import boosts, materializations, releases, runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayTables

ASSET = "policy_releases"


def build(partitions: dg.MultiPartitionsDefinition, boost: BoostSettings) -> list[dg.AssetsDefinition]:
    """The asset."""

    @team_day_asset(partitions=partitions, fills=[], main_table="releases", kinds={"postgres"}, code_version="3")
    def policy_releases(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        policies: TeamDayTables,
        backtests: TeamDayTables,
        anomaly_reports: TeamDayTables,
    ) -> dg.MaterializeResult:
        """What decides from now on, service by service: an append-only ledger, and beside it the boosts.

        The first release of a service is keep-all in shadow: it decides and reports, and drops nothing. Each later
        whole day's policy that passed its backtest takes the place of the one before, in shadow or live as a person has
        put the service; one that failed does not, and what is pinned stays. An old day and an open one move nothing.
        Anomalies, also those of an open day, boost the rates for a time.
        """
        wanted = team_days(context.partition_keys)
        read = materializations.of(database, "raw_logs", wanted)
        whole = {d for d in wanted if d in read and read[d].hours == frames.HOURS}
        if ONLY_BOOSTS in context.run.tags:
            whole = set()
        counts: dict[TeamDay, dict[str, int]] = {}
        for team_id, tables in policies.by_team():
            days = [d for d in wanted if d.team_id == team_id]
            # What an earlier run has decided stays: a backfill of an old day must not move what is in force.
            decided = runs.latest_day(database, ASSET, team_id, "whole_days")
            rows = tables.read(columns=[*_KEY, "version", "document"]).merge(
                backtests.of(days).read(columns=[*_KEY, "version", "passed", "why"]),
                on=_KEY,
                validate="one_to_one",
                suffixes=("", "_judged"),
            )
            # A verdict on what the day's policy was before it was made again says nothing of what it is now.
            rows["passed"] &= rows["version"] == rows["version_judged"]
            in_force = {(r.service, r.environment): r for r in releases.in_force(database, team_id)}
            added: list[releases.Release] = []
            for row in rows.sort_values(["day", "service", "environment"]).itertuples(index=False):
                if TeamDay(team_id, row.day) not in whole:
                    continue
                current = in_force.get((row.service, row.environment))
                entry = next_release(row, current, decided)
                done = entry and releases.add_from_graph(database, entry, over=current.id if current else None)
                if done:
                    added.append(done)
                    in_force[row.service, row.environment] = done
            raised = boosts_of(anomaly_reports.of(days).read("anomalies"), boost)
            boosts.add(database, raised)
            _show(context, days, added, releases.in_force(database, team_id), raised)
            counts |= {d: {"releases": sum(r.day == d.day for r in added), "whole_days": int(d in whole)} for d in days}
        runs.succeed(database, context.run.run_id, ASSET, counts)
        return dg.MaterializeResult()

    return [policy_releases]


_KEY = ["team_id", "day", "service", "environment"]


def next_release(row: Any, current: releases.Release | None, decided: date | None) -> releases.Release | None:
    """The entry that this day's policy brings for its service, or None where what is in force stays.

    ``row`` has the policy's key, version and document and its backtest's verdict; ``decided`` is the latest whole day
    of the team that an earlier run has decided on.
    """
    if current is None:
        policy = keep_all(row.team_id, row.service, row.environment, row.day)
        state, reason, document = releases.SHADOW, "first day: keep all", json.loads(to_json(policy))
        release_version = version(policy)
    elif (
        not row.passed
        or current.state == releases.PINNED
        or current.day >= row.day
        or (decided is not None and decided > row.day)
    ):
        return None
    else:
        state, reason, document = current.state, f"passed. {row.why}", json.loads(row.document)
        release_version = row.version
    return releases.Release(
        row.team_id, row.service, row.environment, row.day, release_version, state, document, ASSET, reason
    )


def _show(
    context: dg.AssetExecutionContext,
    days: list[TeamDay],
    added: list[releases.Release],
    in_force: list[releases.Release],
    raised: list[Boost],
) -> None:
    columns = ["service", "environment", "state", "day", "version", "actor", "reason"]
    current = pd.DataFrame([{c: getattr(r, c) for c in columns} for r in in_force], columns=columns)
    boosted = ["service", "environment", "template", "starts_at", "ends_at", "factor", "reason"]
    for at in days:
        of_day = pd.DataFrame([vars(b) for b in raised if b.starts_at.date() == at.day], columns=boosted)
        show(
            context,
            at,
            {
                "added": sum(r.day == at.day for r in added),
                "in_force": shown.table(current, columns, 50),
                "boosts": shown.table(of_day, boosted, 50),
            },
        )
