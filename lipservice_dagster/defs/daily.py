"""daily: the schedule that takes every team's yesterday through the graph, once the day has closed."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, timedelta

import dagster as dg

from lipservice_dagster.defs.asked import PRIORITY, TEAM, of_range
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.settings import Settings

NAME = "daily"


def build(settings: Settings) -> dg.ScheduleDefinition:
    """Every team's yesterday, once late logs have had their time."""
    hour, minute = settings.daily_run_time.split(":")

    @dg.schedule(
        name=NAME,
        job_name=JOB,
        cron_schedule=f"{int(minute)} {int(hour)} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Takes every team's yesterday through the graph.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yesterday = context.scheduled_execution_time.astimezone(UTC).date() - timedelta(days=1)
        asked = requests(context.instance.get_dynamic_partitions(TEAMS_NAME), yesterday, settings)
        if not asked:
            yield dg.SkipReason("no team is known yet: the sensor discover_teams adds those that log")
        yield from asked

    return daily


def requests(teams: Sequence[str], day: date, settings: Settings) -> list[dg.RunRequest]:
    """The runs that make a day of all teams, which are given in the order of their partitions."""
    asked = []
    size = size_for(len(teams), settings.daily_runs)
    for group in neighbours(teams, lambda team: settings.takes(int(team)), size):
        first, last = TeamDay(int(group[0]), day), TeamDay(int(group[-1]), day)
        request = dg.RunRequest(
            # Not by the last team: a tick that is repeated after a crash may find a team more. By the size of groups,
            # which may then be another: what was asked for in smaller ones does not stand for a larger one.
            run_key=f"daily|{first}|{size}",
            partition_key=first.key if first == last else None,
            tags={TEAM: named(group), PRIORITY: "5"} | of_range(first, last),
        )
        asked.append(request)
    return asked


def size_for(teams: int, most_runs: int) -> int:
    """How many neighbouring teams share a run, so that there are no more than ``most_runs``."""
    return max(-(-teams // most_runs), 1)


def neighbours(order: Sequence[str], wanted: Callable[[str], bool], size: int) -> list[list[str]]:
    """The wanted teams in groups of at most ``size`` that stand side by side in the order of the partitions.

    A run covers a range, so a team that is not wanted ends a group. Groups are cut at fixed places of the order: a team
    that is added changes the last one only.
    """
    groups: list[list[str]] = []
    for block in (order[i : i + size] for i in range(0, len(order), size)):
        group: list[str] = []
        for team in [*block, None]:
            if team is not None and wanted(team):
                group.append(team)
            elif group:
                groups.append(group)
                group = []
    return groups


def named(group: Sequence[str]) -> str:
    """The teams of a run for its tag: runs of the same teams take turns."""
    return group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}"
