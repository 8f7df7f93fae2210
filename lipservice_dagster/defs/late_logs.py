"""late_logs: the sensor that makes closed days (again) of which the log store holds another number of logs by now.

Logs arrive late, days are read while they are open, and what the daily schedule asked for may have failed. The cheap
five-minute volumes say which days may differ; what is made again is counted exactly. A day whose logs have left the
store, or are leaving it, keeps what is stored.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.defs.marts import busy_days
from lipservice_dagster.defs.remaking import answer
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.late_logs import changed, unmade

NAME = "late_logs"
_LEAST_AGE = timedelta(hours=1)
"""A day is not made again sooner: what trickles in costs a run an hour and not one a tick."""


def build(settings: Settings) -> dg.SensorDefinition:
    """The sensor."""
    hour, minute = settings.daily_run_time.split(":")
    grace = timedelta(hours=int(hour), minutes=int(minute)) + _LEAST_AGE

    @dg.sensor(
        name=NAME,
        job_name=JOB,
        minimum_interval_seconds=settings.late_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes the latest closed days where they were never made, or logs have arrived since.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        database: dg.ResourceParam[Database],
        log_source: dg.ResourceParam[LogSource],
    ) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        # The last day whose own time, the daily run's, is well over.
        last = (now - grace).date() - timedelta(days=1)
        first = max(last - timedelta(days=settings.late_days - 1), settings.partitions_start())
        if last < first:
            return dg.SkipReason("no closed day is a partition")
        volumes = log_source.day_volumes(first, last)
        volumes = {d: logs for d, logs in volumes.items() if settings.takes(d.team_id)}
        longest_run = timedelta(minutes=settings.max_runtime_minutes)
        late = changed(database, volumes, made_before=now - _LEAST_AGE, longest_run=longest_run)
        missing = unmade(database, volumes, longest_run=longest_run)
        if missing:
            # What is asked for, and waits or is at work, need not be asked for once more.
            out = busy_days(context.instance) | {s.team_day.day for s in late}
            late += [s for s in missing if s.team_day.day not in out]
        return answer(
            context,
            NAME,
            late,
            settings.stale_reports_per_tick,
            reason="the day was not made, or logs have arrived since it was read",
            settled=f"no day from {first} to {last} that was made differs from the log store",
        )

    return sensor
