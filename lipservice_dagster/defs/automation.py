"""The job of a team-day, which schedules and sensors ask for. Each of those stands in a module of its own."""

from typing import Any

import dagster as dg

JOB = "team_day"


def build_job(max_runtime_minutes: int) -> Any:
    """All assets for a team-day, or for a range of team-days in one run, in one process."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.groups("team_days"),
        description="A team-day from its logs to a policy.",
        tags={"dagster/max_runtime": str(max_runtime_minutes * 60)},
    )
