"""The IO manager of assets by team-day: what an asset returns replaces its partitions, whole or not at all."""

from __future__ import annotations

import dagster as dg

from lipservice_dagster.partitions import team_days
from lipservice_dagster.storage import materializations, runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables, write

TABLES = "lipservice/tables"
"""Key of an asset's metadata: the tables that it fills, comma-separated, its main one first."""


class TeamDayPostgresIOManager(dg.IOManager):
    """Writes `TeamDayRows`, hands out `TeamDayTables`; an asset names its tables in its metadata."""

    def __init__(self, database: Database):
        self._database = database

    def handle_output(self, context: dg.OutputContext, obj: TeamDayRows) -> None:
        """Replace the partitions that the rows name; partitions with a problem keep what they hold."""
        asset = context.asset_key.to_user_string()
        partitions = set(team_days(context.asset_partition_keys))
        told = {*obj.team_days, *obj.problems, *obj.kept}
        if foreign := sorted(told - partitions):
            raise dg.DagsterInvariantViolationError(
                f"{asset} returned rows for {foreign[0]}, which is not among the partitions of this run"
            )
        if missing := sorted(partitions - told):
            raise dg.DagsterInvariantViolationError(
                f"{asset} returned nothing for {missing[0]}: a partition without rows is written empty, not skipped"
            )
        if undeclared := sorted(set(obj.frames) - set(_tables(context))):
            raise dg.DagsterInvariantViolationError(
                f"{asset} returned rows for {undeclared[0]}, a table that it does not declare"
            )
        with runs.failing(self._database, context.run_id, asset, partitions):
            contents = write(self._database, asset, obj, context.run_id)
        runs.succeed(
            self._database,
            context.run_id,
            asset,
            {d: {"rows": c.rows, **({} if c.logs is None else {"logs": c.logs})} for d, c in contents.items()}
            | {d: {"kept": 1} for d in obj.kept},
        )
        runs.fail(self._database, context.run_id, asset, obj.problems)

    def load_input(self, context: dg.InputContext) -> TeamDayTables:
        """The upstream asset's tables for the partitions of this input; days never made are simply not in them."""
        upstream = context.upstream_output
        if upstream is None:
            raise dg.DagsterInvariantViolationError("team-day tables can only be loaded as the output of an asset")
        keys = context.asset_partition_keys if context.has_asset_partitions else []
        asset, wanted = upstream.asset_key.to_user_string(), team_days(keys)
        entries = materializations.of(self._database, asset, wanted)
        prints = {d: entries[d].fingerprint if d in entries else None for d in wanted}
        return TeamDayTables(self._database, tuple(_tables(upstream)), tuple(wanted), asset, prints)


def _tables(context: dg.OutputContext) -> list[str]:
    declared = (context.definition_metadata or {}).get(TABLES)
    if not declared:
        raise dg.DagsterInvariantViolationError(
            f"{context.asset_key.to_user_string()} names no tables in its metadata ({TABLES!r})"
        )
    text = declared.value if isinstance(declared, dg.TextMetadataValue) else declared
    return str(text).split(",")
