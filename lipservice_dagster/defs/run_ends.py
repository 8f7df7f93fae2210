"""record_failure_runs, record_canceled_runs: what runs that were killed or cancelled could not record themselves."""

import dagster as dg

from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import notifications, runs
from lipservice_dagster.storage.database import Database

_WILL_RETRY = "dagster/will_retry"


def build(settings: Settings) -> list[dg.SensorDefinition]:
    """A sensor for failed runs and one for cancelled ones."""
    return [_sensor(settings, s) for s in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)]


def _sensor(settings: Settings, status: dg.DagsterRunStatus) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        name=f"record_{status.value.lower()}_runs",
        run_status=status,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description="Closes what a run that ended this way left open in analysis_runs.",
    )
    def record_runs(context: dg.RunStatusSensorContext, database: dg.ResourceParam[Database]) -> None:
        run = context.dagster_run
        message = context.dagster_event.message if context.dagster_event else None
        open_entries = runs.fail_unfinished(database, run.run_id, message or f"the run ended as {run.status.value}")
        if open_entries:
            context.log.info(f"run {run.run_id} ended with {open_entries} entries open")
        # Who cancels a run knows it; a run that Dagster starts again itself has not failed yet.
        failed = status == dg.DagsterRunStatus.FAILURE and run.tags.get(_WILL_RETRY) != "true"
        if failed and settings.webhook_url is not None:
            of = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start", "")
            notifications.add_failed_run(database, run.run_id, of, message or "")

    return record_runs
