"""signatures: the patterns of a team-day, mined per service, and which masked message belongs to which."""

import dagster as dg
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.signatures import signatures_of
from lipservice_dagster.core.templates import TEMPLATES_VERSION
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables
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
        mined = [signatures_of(tables.read()) for _, tables in raw_logs.by_team()]
        rows = pd.concat([s for s, _ in mined], ignore_index=True) if mined else frames.empty(frames.SIGNATURES)
        members = (
            pd.concat([m for _, m in mined], ignore_index=True) if mined else frames.empty(frames.SIGNATURE_MEMBERS)
        )
        _show(context, rows, wanted)
        return TeamDayRows({"signatures": rows, "signature_members": members}, wanted)

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


def _show(context: dg.AssetExecutionContext, rows: pd.DataFrame, wanted: list[TeamDay]) -> None:
    by_partition = dict(tuple(rows.groupby(["team_id", "day"])))
    for at in wanted:
        part = by_partition.get((at.team_id, at.day), rows.iloc[:0])
        top = part.sort_values(["logs", "service", "template"], ascending=[False, True, True])
        logs, messages = int(part["logs"].sum()), int(part["messages"].sum())
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": len(part),
                "logs": logs,
                "bytes": int(part["bytes"].sum()),
                "masked_messages": messages,
                "logs_per_signature": round(logs / len(part), 1) if len(part) else 0.0,
                "top_patterns": shown.table(top, ["service", "environment", "template", "logs", "bytes"]),
            },
            partition_key=str(at),
        )
