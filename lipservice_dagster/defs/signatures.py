"""signatures: the patterns of a team-day, mined per service, and which masked message belongs to which."""

from datetime import date, timedelta

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.signatures import matched_share, signatures_of
from lipservice_dagster.core.templates import TEMPLATES_VERSION
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables, read
from lipservice_sampler.masks import MASK_VERSION


def build(partitions: dg.MultiPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The asset and its check."""

    @team_day_asset(
        partitions=partitions,
        fills=["signatures", "signature_members"],
        kinds={"python", "postgres"},
        code_version=f"{TEMPLATES_VERSION}-masks-{MASK_VERSION}",
    )
    def signatures(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], raw_logs: TeamDayTables
    ) -> TeamDayRows:
        """Patterns of a team-day: one row a service, environment and template.

        Templates are mined from the distinct masked messages of each service; variables are written `<*>`. The members
        say which masked message belongs to which signature, so that other days can be recounted under this day's
        templates.
        """
        wanted = team_days(context.partition_keys)
        found, members = [frames.empty(frames.SIGNATURES)], [frames.empty(frames.SIGNATURE_MEMBERS)]
        for team_id, tables in raw_logs.by_team():
            raw = tables.read()
            of_team, members_of_team = signatures_of(raw)
            found.append(of_team)
            members.append(members_of_team)
            _show(context, database, [d for d in wanted if d.team_id == team_id], raw, of_team)
        rows = {"signatures": frames.stack(found), "signature_members": frames.stack(members)}
        return TeamDayRows(rows, wanted, made_from=[raw_logs])

    @dg.asset_check(asset=signatures, name="conserves_logs", description="Σ logs is that of raw_logs.")
    def conserves(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        wanted = team_days(context.partition_keys)
        above, here = (materializations.of(database, asset, wanted) for asset in ("raw_logs", "signatures"))
        logs = {d: tuple((e[d].logs or 0) if d in e else 0 for e in (above, here)) for d in wanted}
        bad = {d: pair for d, pair in logs.items() if pair[0] != pair[1]}
        return dg.AssetCheckResult(
            passed=not bad,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{len(bad)} of {len(wanted)} partitions differ from raw_logs" if bad else None,
            metadata={"partitions": len(wanted), "logs": sum(pair[1] for pair in logs.values())}
            | {str(d): f"raw_logs {a:,}, signatures {b:,}" for d, (a, b) in sorted(bad.items())[:20]},
        )

    return [signatures, conserves]


def _show(
    context: dg.AssetExecutionContext,
    database: Database,
    wanted: list[TeamDay],
    raw: pd.DataFrame,
    rows: pd.DataFrame,
) -> None:
    known = _templates_before(database, wanted, rows)
    for at in wanted:
        part, masked = rows[rows["day"] == at.day], raw[raw["day"] == at.day]
        top = part.sort_values(["logs", "service", "template"], ascending=[False, True, True])
        logs = int(part["logs"].sum())
        before = known.get(at.day - timedelta(days=1))
        show(
            context,
            at,
            {
                "dagster/partition_row_count": len(part),
                "logs": logs,
                "bytes": int(part["bytes"].sum()),
                "groups": len(masked),
                "masked_messages": int(part["messages"].sum()),
                "logs_per_signature": round(logs / len(part), 1) if len(part) else 0.0,
                **({} if before is None else {"matched_by_the_day_before": round(matched_share(masked, before), 4)}),
                "top_patterns": shown.table(top, ["service", "environment", "template", "logs", "bytes"]),
            },
        )


def _templates_before(database: Database, wanted: list[TeamDay], rows: pd.DataFrame) -> dict[date, pd.DataFrame]:
    """service and template of each day that precedes one of the team's days and is known: stored, or of this run."""
    made = {d.day for d in wanted}
    before = [TeamDay(d.team_id, d.day - timedelta(days=1)) for d in wanted]
    stored = read(database, "signatures", [d for d in before if d.day not in made], ["day", "service", "template"])
    both = pd.concat([stored, rows[["day", "service", "template"]]], ignore_index=True)
    return dict(tuple(both.groupby("day")))
