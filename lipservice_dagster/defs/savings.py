"""savings: what live policies in fact kept of a team-day, beside what they should have kept."""

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.savings import InForce, savings_of
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage import materializations, releases, served
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables

_GB = 1e9


def build(partitions: dg.MultiPartitionsDefinition, price_per_gb: float) -> list[dg.AssetsDefinition]:
    """The asset."""

    @team_day_asset(
        partitions=partitions,
        fills=["savings"],
        kinds={"python", "postgres"},
        deps=["policy_releases"],
        code_version="2",
    )
    def savings(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], raw_logs: TeamDayTables
    ) -> TeamDayRows:
        """What live policies in fact kept of a whole day, by the weights of its logs, beside what was expected.

        What should have been kept follows from the releases, overrides and boosts that were in force in each hour, over
        what there was. A service in shadow, and an open day, have no row.
        """
        wanted = team_days(context.partition_keys)
        read = materializations.of(database, "raw_logs", wanted)
        found = [frames.empty(frames.SAVINGS)]
        for team_id, tables in raw_logs.by_team():
            for at in (d for d in wanted if d.team_id == team_id):
                whole = at in read and read[at].hours == frames.HOURS
                in_force = _in_force(database, at) if whole else {}
                if any(r.drops for entries in in_force.values() for r in entries):
                    said = served.day_overlays(database, [team_id], at.day)
                    hours = {scope: said.during(team_id, *scope, at.day) for scope in in_force}
                    found.append(savings_of(at.day, tables.of([at]).read(columns=_READ), in_force, hours))
        rows = frames.stack(found)
        for at in wanted:
            _show(context, at, rows[(rows["team_id"] == at.team_id) & (rows["day"] == at.day)], price_per_gb)
        return TeamDayRows({"savings": rows}, wanted, made_from=[raw_logs])

    return [savings]


_READ = [
    "team_id",
    "service",
    "environment",
    "severity",
    "message_id",
    "message",
    "logs",
    "bytes",
    "weighted_logs",
    "weighted_bytes",
    "hours",
]


def _in_force(database: Database, at: TeamDay) -> dict[tuple[str, str], list[InForce]]:
    found: dict[tuple[str, str], list[InForce]] = {}
    for hour, entry in releases.in_force_during(database, at.team_id, at.day):
        found.setdefault((entry.service, entry.environment), []).append(
            InForce(hour, entry.version, entry.state in releases.DROPPING, entry.document)
        )
    return found


def _show(context: dg.AssetExecutionContext, at: TeamDay, rows: pd.DataFrame, price_per_gb: float) -> None:
    saved, expected = (float((rows["bytes"] - rows[c]).sum()) for c in ("kept_bytes", "expected_bytes"))
    columns = ["service", "environment", "version", "live_hours", "bytes", "kept_bytes", "expected_bytes"]
    show(
        context,
        at,
        {
            "dagster/partition_row_count": len(rows),
            "saved_bytes": saved,
            "expected_bytes": expected,
            "saved_money": round(saved / _GB * price_per_gb, 4),
            "expected_money": round(expected / _GB * price_per_gb, 4),
            "savings": shown.table(rows, columns, 50),
        },
    )
