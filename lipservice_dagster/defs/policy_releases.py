"""policy_releases: the ledger of what is in force, moved forward by whole days."""

import json

import dagster as dg
import pandas as pd

from lipservice_dagster.core.policy import keep_all, to_json, version
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage import materializations, releases, runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayTables

ACTOR = "policy_releases"


def build(partitions: dg.MultiPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The asset."""

    @team_day_asset(partitions=partitions, fills=[], main_table="releases", kinds={"postgres"}, code_version="1")
    def policy_releases(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], policies: TeamDayTables
    ) -> dg.MaterializeResult:
        """What decides from now on, service by service: an append-only ledger.

        The first release of a service is keep-all in shadow: it decides and reports, and drops nothing. Later whole
        days bring their policy into shadow. What a person made live stays live until a person says otherwise. An old
        day and an open one add nothing.
        """
        wanted = team_days(context.partition_keys)
        read = materializations.of(database, "raw_logs", wanted)
        whole = {d for d in wanted if d in read and read[d].hours == 24}
        counts: dict[TeamDay, dict[str, int]] = {}
        for team_id, tables in policies.by_team():
            rows = tables.read(columns=["team_id", "day", "service", "environment", "version", "document"])
            in_force = {(r.service, r.environment): r for r in releases.in_force(database, team_id)}
            added: list[releases.Release] = []
            for row in rows.sort_values(["day", "service", "environment"]).itertuples(index=False):
                if TeamDay(team_id, row.day) not in whole:
                    continue
                entry = next_release(row, in_force.get((row.service, row.environment)))
                if entry is not None:
                    added += releases.add_from_graph(database, [entry])
                    in_force[row.service, row.environment] = entry
            _show(context, [d for d in wanted if d.team_id == team_id], added, releases.in_force(database, team_id))
            counts |= {d: {"releases": sum(r.day == d.day for r in added)} for d in wanted if d.team_id == team_id}
        runs.succeed(database, context.run.run_id, "policy_releases", counts)
        return dg.MaterializeResult()

    return [policy_releases]


def next_release(row: object, current: releases.Release | None) -> releases.Release | None:
    """The entry that this day's policy brings for its service, or None where what is in force stays."""
    team_id, day, service, environment = row.team_id, row.day, row.service, row.environment  # type: ignore[attr-defined]
    if current is None:
        policy = keep_all(team_id, service, environment, day)
        return releases.Release(
            team_id,
            service,
            environment,
            day,
            version(policy),
            releases.SHADOW,
            json.loads(to_json(policy)),
            ACTOR,
            "first day: keep all",
        )
    if current.day >= day or current.state == releases.LIVE:
        return None
    return releases.Release(
        team_id,
        service,
        environment,
        day,
        row.version,  # type: ignore[attr-defined]
        releases.SHADOW,
        json.loads(row.document),  # type: ignore[attr-defined]
        ACTOR,
        f"policy of {day}",
    )


def _show(
    context: dg.AssetExecutionContext,
    days: list[TeamDay],
    added: list[releases.Release],
    in_force: list[releases.Release],
) -> None:
    columns = ["service", "environment", "state", "day", "version", "actor", "reason"]
    current = pd.DataFrame([{c: getattr(r, c) for c in columns} for r in in_force], columns=columns)
    for at in days:
        context.add_asset_metadata(
            {"added": sum(r.day == at.day for r in added), "in_force": shown.table(current, columns, 50)},
            partition_key=str(at),
        )
