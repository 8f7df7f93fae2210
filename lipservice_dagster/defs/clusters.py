"""clusters: families of patterns that a person would name together."""

import dagster as dg

from lipservice_dagster.core import frames
from lipservice_dagster.core.clustering import cluster
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables


def build(partitions: dg.MultiPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The asset."""

    @team_day_asset(
        partitions=partitions, fills=["clusters"], kinds={"python", "scikitlearn", "postgres"}, code_version="3"
    )
    def clusters(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], signatures: TeamDayTables
    ) -> TeamDayRows:
        """Families of patterns of a team-day: TF-IDF over templates, DBSCAN over their cosine distances.

        A pattern without neighbours is a family of its own.
        """
        wanted = team_days(context.partition_keys)
        found = []
        for _, tables in signatures.by_team():
            patterns = tables.read()
            for (team_id, day), part in patterns.groupby(["team_id", "day"]):
                found.append(families := cluster(part))
                largest = families.sort_values(["logs", "cluster"], ascending=[False, True])
                show(
                    context,
                    TeamDay(int(team_id), day),
                    {
                        "dagster/partition_row_count": len(families),
                        "signatures": len(part),
                        "families_of_several": int((families["size"] > 1).sum()),
                        "largest": shown.table(largest, ["label", "size", "logs", "bytes", "template"]),
                    },
                )
        rows = frames.stack([frames.empty(frames.CLUSTERS), *found])
        return TeamDayRows({"clusters": rows}, wanted, made_from=[signatures])

    return [clusters]
