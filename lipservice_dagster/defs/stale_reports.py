"""stale_reports: the sensor that makes reports, policies and backtests again that were made from something else.

A window changes when one of its days is made later than the report: late logs, a backfill out of order, a day that was
still open. Policies change too when the days before theirs do, and when another budget is asked for. What is stale is
asked of PostgreSQL at each tick.
"""

from datetime import date, timedelta

import dagster as dg

from lipservice_dagster.core.budget import key_of
from lipservice_dagster.core.ramp import window_days
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.defs.remaking import answer
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.windows import Stale, stale_policies, stale_reports, stale_verdicts

NAME = "stale_reports"


def build(settings: Settings) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name=NAME,
        job_name=JOB,
        minimum_interval_seconds=settings.stale_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes anomaly reports, and what follows from them, again whose window has changed since.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.SensorResult | dg.SkipReason:
        first_day, longest_run = settings.partitions_start(), timedelta(minutes=settings.max_runtime_minutes)
        stale = stale_reports(database, settings.window_days, first_day, longest_run)
        # A team's policies are made again once its reports are what they should be, its verdicts once its policies are.
        for find in (_stale_policies, _stale_verdicts):
            unsettled = {s.team_day.team_id for s in stale}
            stale += [
                s for s in find(database, settings, first_day, longest_run) if s.team_day.team_id not in unsettled
            ]
        return answer(
            context,
            NAME,
            stale,
            settings.stale_reports_per_tick,
            reason="what was read has been made anew",
            settled="every report, policy and verdict was made from what there is",
        )

    return sensor


def _stale_policies(database: Database, settings: Settings, first_day: date, longest_run: timedelta) -> list[Stale]:
    asked = settings.policy_settings()
    return stale_policies(
        database,
        budget=key_of(asked),
        team_budgets={team: key_of(asked.of_team(team)) for team in asked.team_budgets},
        span=window_days(asked.fall_a_day, asked.min_rate),
        backtest_days=settings.backtest_days,
        first_day=first_day,
        longest_run=longest_run,
    )


def _stale_verdicts(database: Database, settings: Settings, first_day: date, longest_run: timedelta) -> list[Stale]:
    boost_days = settings.boost_settings().reach_days
    return stale_verdicts(database, settings.backtest_days, first_day, boost_days=boost_days, longest_run=longest_run)
