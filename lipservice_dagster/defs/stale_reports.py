"""stale_reports: the sensor that makes anomaly reports and backtests again whose window has been made anew since.

A window changes when one of its days is made later than the report: late logs, a backfill out of order, a day that was
still open. What is stale is asked of PostgreSQL at each tick.
"""

from datetime import timedelta

import dagster as dg

from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.defs.remaking import answer
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.windows import stale_reports, stale_verdicts

NAME = "stale_reports"


def build(settings: Settings) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name=NAME,
        job_name=JOB,
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes anomaly reports, and what follows from them, again whose window has changed since.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.SensorResult | dg.SkipReason:
        first_day, longest_run = settings.partitions_start(), timedelta(minutes=settings.max_runtime_minutes)
        stale = stale_reports(database, settings.window_days, first_day, longest_run)
        # A team's verdicts are judged again once its reports, and with them its policies, are what they should be.
        unsettled = {s.team_day.team_id for s in stale}
        verdicts = stale_verdicts(database, settings.backtest_days, first_day, longest_run)
        stale += [s for s in verdicts if s.team_day.team_id not in unsettled]
        return answer(
            context,
            NAME,
            stale,
            settings.stale_reports_per_tick,
            reason="what was read has been made anew",
            settled="every report and every verdict has read what its window holds",
        )

    return sensor
