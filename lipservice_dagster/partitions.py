"""Partitions: teams, days, team × day, the trailing window; the values that every room speaks of are in `team_day`."""

from __future__ import annotations

from datetime import date

import dagster as dg

from lipservice_dagster.team_day import Bounds, TeamDay, is_product, team_days

__all__ = ["TEAMS", "TEAMS_NAME", "Bounds", "TeamDay", "is_product", "partitions", "team_days", "trailing_window"]

TEAMS_NAME = "teams"
TEAMS = dg.DynamicPartitionsDefinition(name=TEAMS_NAME)


def partitions(first_day: date) -> dg.MultiPartitionsDefinition:
    """Team × day from ``first_day`` to today: today is a partition too, read to its last whole hour."""
    days = dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), end_offset=1)
    return dg.MultiPartitionsDefinition({"day": days, "team": TEAMS})


def trailing_window(days: int) -> dg.MultiPartitionMapping:
    """The mapping of a consumer that reads its own day and the ``days`` before it, of the same team."""
    return dg.MultiPartitionMapping(
        {
            "day": dg.DimensionPartitionMapping("day", dg.TimeWindowPartitionMapping(start_offset=-days)),
            "team": dg.DimensionPartitionMapping("team", dg.IdentityPartitionMapping()),
        }
    )
