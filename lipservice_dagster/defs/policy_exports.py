"""policy_exports: what is in force as configurations of log collectors, in files that they can be given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from lipservice_dagster.core.exports import export
from lipservice_dagster.core.overlay import overlay_document
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage import export_files, releases, runs, served
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.served import Scope

ASSET = "policy_exports"


def build(partitions: dg.MultiPartitionsDefinition, folder: Path, formats: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The asset; it writes below this folder, in these of `core.exports.FORMATS`."""

    @team_day_asset(partitions=partitions, fills=[], kinds={"yaml"}, deps=["policy_releases"], code_version="1")
    def policy_exports(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        """What is in force as configurations of log collectors: a file a service, environment and format.

        Like the ledger it speaks of now, whatever day is made: a backfill of an old day changes no file. A file whose
        content is the same is left alone, so that who watches it is not woken. What people change meanwhile is in the
        API and in `lipservice policy export` at once, and here with the next run.
        """
        counts: dict[TeamDay, dict[str, int]] = {}
        wanted = team_days(context.partition_keys)
        for team_id in sorted({d.team_id for d in wanted}):
            rows = [] if not formats else _write(database, team_id, folder, formats)
            for at in (d for d in wanted if d.team_id == team_id):
                counts[at] = {"files": len(rows), "changed": sum(row["changed"] for row in rows)}
                columns = ["service", "environment", "format", "mode", "version", "octets", "changed", "file"]
                table = shown.table(pd.DataFrame(rows, columns=columns), columns, 50)
                show(context, at, {**counts[at], "folder": str(folder), "exports": table})
        runs.succeed(database, context.run.run_id, ASSET, counts)
        return dg.MaterializeResult()

    return [policy_exports]


def _write(database: Database, team_id: int, folder: Path, formats: Sequence[str]) -> list[dict[str, Any]]:
    scopes = [Scope(team_id, r.service, r.environment) for r in releases.in_force(database, team_id)]
    with database.engine.connect() as connection:
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    rows = []
    for scope, found in sorted(served.served_of(database, scopes, now).items()):
        for to in formats:
            text = export(found.document, overlay_document(found.overlay), to, mode=found.mode)
            file = export_files.path(folder, *scope, to)
            changed = export_files.write(file, text)
            rows.append(
                scope._asdict()
                | {"format": to, "mode": found.mode, "version": found.version, "octets": len(text)}
                | {"changed": changed, "file": str(file.relative_to(folder))}
            )
    return rows
