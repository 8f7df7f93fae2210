"""What drives the graph: the job of one team-day, the daily schedule, the discovery of teams, the end of dead runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from lipservice_dagster.partitions import TEAMS, TEAMS_NAME, TeamDay
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.storage import runs
from lipservice_dagster.storage.database import Database

JOB = "team_day"
_MAX_RUNTIME_SECONDS = 3600


def build_job() -> Any:
    """All assets for a team-day, or for a range of team-days in one run, in one process."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.groups("team_days"),
        description="A team-day from its logs to a policy.",
        tags={"dagster/max_runtime": str(_MAX_RUNTIME_SECONDS)},
    )


def build_schedule(daily_run_time: str) -> dg.ScheduleDefinition:
    """Every team's yesterday, once the day has closed and late logs have had their time."""
    hour, minute = daily_run_time.split(":")

    @dg.schedule(
        name="daily",
        job_name=JOB,
        cron_schedule=f"{int(minute)} {int(hour)} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Takes every team's yesterday through the graph.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.astimezone(UTC)
        yesterday = at.date() - timedelta(days=1)
        teams = context.instance.get_dynamic_partitions(TEAMS_NAME)
        if not teams:
            yield dg.SkipReason("no team is known yet: the sensor discover_teams adds those that log")
        for team in sorted(teams, key=int):
            wanted = TeamDay(int(team), yesterday)
            yield dg.RunRequest(run_key=f"daily|{wanted}", partition_key=wanted.key, tags={"lipservice/team": team})

    return daily


def build_discovery(lookback_days: int) -> dg.SensorDefinition:
    """Teams that log become partitions; one that stops stays."""

    @dg.sensor(
        name="discover_teams",
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds a partition for each team that has logged lately.",
    )
    def discover_teams(
        context: dg.SensorEvaluationContext, log_source: dg.ResourceParam[LogSource]
    ) -> dg.SensorResult | dg.SkipReason:
        found = {str(t) for t in log_source.teams(datetime.now(UTC) - timedelta(days=lookback_days))}
        new = sorted(found - set(context.instance.get_dynamic_partitions(TEAMS_NAME)), key=int)
        if not new:
            return dg.SkipReason(f"{len(found)} teams have logged lately, all known")
        return dg.SensorResult(dynamic_partitions_requests=[TEAMS.build_add_request(new)])

    return discover_teams


def build_run_ends() -> list[dg.SensorDefinition]:
    """Runs that were killed or cancelled could not record their end themselves."""

    def record(context: dg.RunStatusSensorContext, database: Database) -> None:
        run = context.dagster_run
        message = context.dagster_event.message if context.dagster_event else None
        open_entries = runs.fail_unfinished(database, run.run_id, message or f"the run ended as {run.status.value}")
        if open_entries:
            context.log.info(f"run {run.run_id} ended with {open_entries} entries open")

    def sensor(status: dg.DagsterRunStatus) -> dg.SensorDefinition:
        @dg.run_status_sensor(
            name=f"record_{status.value.lower()}_runs",
            run_status=status,
            default_status=dg.DefaultSensorStatus.RUNNING,
            minimum_interval_seconds=30,
            description="Closes what a run that ended this way left open in analysis_runs.",
        )
        def record_runs(context: dg.RunStatusSensorContext, database: dg.ResourceParam[Database]) -> None:
            record(context, database)

        return record_runs

    return [sensor(dg.DagsterRunStatus.FAILURE), sensor(dg.DagsterRunStatus.CANCELED)]
