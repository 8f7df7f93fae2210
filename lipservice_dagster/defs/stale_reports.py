"""stale_reports: the sensor that makes reports, policies and backtests again that were made from something else.

A window changes when one of its days is made later than the report: late logs, a backfill out of order, a day that was
still open. Policies change too when the days before theirs do, and when another budget is asked for. What is stale is
asked of PostgreSQL at each tick: of the teams of which something was written since the last one, or was stale then.
"""

import hashlib
import json
from collections.abc import Collection
from datetime import date, datetime, timedelta

import dagster as dg

from lipservice_dagster.core.budget import key_of
from lipservice_dagster.core.ramp import window_days
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.defs.remaking import Looked, Memory, answer
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.windows import (
    Stale,
    changed_teams,
    mark,
    stale_policies,
    stale_reports,
    stale_verdicts,
)

NAME = "stale_reports"
_WHOLE_AGAIN = timedelta(hours=6)
"""All teams are looked at so often all the same: the clock of a server that took over may be behind."""


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
        now, basis = mark(database), _basis(settings)
        teams, whole = _to_look_at(database, Memory.read(context.cursor).looked, now, basis)
        stale = stale_reports(database, settings.window_days, first_day, longest_run, teams)
        # A team's policies are made again once its reports are what they should be, its verdicts once its policies are.
        for find in (_stale_policies, _stale_verdicts):
            unsettled = {s.team_day.team_id for s in stale}
            stale += [
                s
                for s in find(database, settings, first_day, longest_run, teams)
                if s.team_day.team_id not in unsettled
            ]
        return answer(
            context,
            NAME,
            stale,
            settings.stale_reports_per_tick,
            reason="what was read has been made anew",
            settled="every report, policy and verdict was made from what there is",
            looked=Looked(now.isoformat(), whole.isoformat(), basis, sorted({s.team_day.team_id for s in stale})),
        )

    return sensor


def _to_look_at(
    database: Database, looked: Looked | None, now: datetime, basis: str
) -> tuple[Collection[int] | None, datetime]:
    """(The teams of which something may be stale, None for all; when all were looked at last)."""
    if looked is None or looked.basis != basis or now - datetime.fromisoformat(looked.whole) > _WHOLE_AGAIN:
        return None, now
    changed = changed_teams(database, datetime.fromisoformat(looked.since))
    return {*changed, *looked.teams}, datetime.fromisoformat(looked.whole)


def _basis(settings: Settings) -> str:
    """What decides beside what is written. That the first day moves on leaves days out and makes none stale."""
    asked = settings.policy_settings()
    decides = [
        settings.window_days,
        settings.backtest_days,
        settings.boost_settings().reach_days,
        window_days(asked.fall_a_day, asked.min_rate),
        key_of(asked),
        {str(team): key_of(asked.of_team(team)) for team in sorted(asked.team_budgets)},
        str(settings.first_day or settings.history_days),
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _stale_policies(
    database: Database, settings: Settings, first_day: date, longest_run: timedelta, teams: Collection[int] | None
) -> list[Stale]:
    asked = settings.policy_settings()
    return stale_policies(
        database,
        budget=key_of(asked),
        team_budgets={team: key_of(asked.of_team(team)) for team in asked.team_budgets},
        span=window_days(asked.fall_a_day, asked.min_rate),
        backtest_days=settings.backtest_days,
        first_day=first_day,
        longest_run=longest_run,
        teams=teams,
    )


def _stale_verdicts(
    database: Database, settings: Settings, first_day: date, longest_run: timedelta, teams: Collection[int] | None
) -> list[Stale]:
    boost_days = settings.boost_settings().reach_days
    return stale_verdicts(
        database, settings.backtest_days, first_day, boost_days=boost_days, longest_run=longest_run, teams=teams
    )
