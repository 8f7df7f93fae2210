"""stale_reports: the sensor that makes reports, policies and backtests again that were made from something else.

A window changes when one of its days is made later than the report: late logs, a backfill out of order, a day that was
still open. Policies change too when the days before theirs do, and when another budget is asked for. What is stale is
asked of PostgreSQL at each tick; the cursor remembers what has been asked for and is not done yet, so that nothing is
asked twice while it runs, and what failed is asked again a limited number of times.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta

import dagster as dg

from lipservice_dagster.core.budget import key_of
from lipservice_dagster.core.ramp import window_days
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.windows import Stale, stale_policies, stale_reports, stale_verdicts

NAME = "stale_reports"
MOST_ATTEMPTS = 3
_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Asked:
    """What was asked for a report: for which fingerprint of its window, in which attempt, in the run of which key."""

    fingerprint: str
    attempt: int
    run_key: str


@dataclass(frozen=True)
class Memory:
    """The cursor: how many times something was asked for, and what of it is not done yet, by team-day."""

    number: int
    asked: Mapping[str, Asked]

    @classmethod
    def read(cls, cursor: str | None) -> "Memory":
        """From the cursor's text."""
        told = json.loads(cursor or '{"number": 0, "asked": {}}')
        return cls(told["number"], {k: Asked(**a) for k, a in told["asked"].items()})

    def text(self) -> str:
        """As the cursor."""
        return json.dumps(asdict(self), sort_keys=True)


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
        memory = Memory.read(context.cursor)
        teams = set(context.instance.get_dynamic_partitions(TEAMS_NAME))
        first_day = settings.partitions_start()
        stale = stale_reports(database, settings.window_days, first_day)
        # A team's policies are made again once its reports are what they should be, its verdicts once its policies are.
        for more in (_stale_policies(database, settings, first_day), _stale_verdicts(database, settings, first_day)):
            unsettled = {s.team_day.team_id for s in stale}
            stale += [s for s in more if s.team_day.team_id not in unsettled]
        stale = [s for s in stale if str(s.team_day.team_id) in teams]
        at_work = _at_work(context.instance) if memory.asked else set()
        groups, memory = plan(stale, memory, at_work, settings.stale_reports_per_tick)
        if groups:
            requests = [_request(group, memory.asked[str(group[0].team_day)].run_key) for group in groups]
            return dg.SensorResult(run_requests=requests, cursor=memory.text())
        context.update_cursor(memory.text())
        if not stale:
            return dg.SkipReason("every report, policy and verdict was made from what there is")
        given_up = sorted(k for k, a in memory.asked.items() if a.attempt == MOST_ATTEMPTS and a.run_key not in at_work)
        failed = (
            f"; {len(given_up)} failed {MOST_ATTEMPTS} times, first {given_up[0]}: see their runs" if given_up else ""
        )
        return dg.SkipReason(f"{len(stale)} stale partitions, their teams at work or waiting{failed}")

    return sensor


def _stale_policies(database: Database, settings: Settings, first_day: date) -> list[Stale]:
    asked = settings.policy_settings()
    return stale_policies(
        database,
        budget=key_of(asked),
        team_budgets={team: key_of(asked.of_team(team)) for team in asked.team_budgets},
        span=window_days(asked.fall_a_day, asked.min_rate),
        backtest_days=settings.backtest_days,
        first_day=first_day,
    )


def _stale_verdicts(database: Database, settings: Settings, first_day: date) -> list[Stale]:
    return stale_verdicts(database, settings.backtest_days, first_day, boost_days=settings.boost_settings().reach_days)


def plan(stale: Sequence[Stale], memory: Memory, at_work: set[str], most: int) -> tuple[list[list[Stale]], Memory]:
    """(reports to make, by run; the memory from now on).

    ``at_work``: keys of runs that have not ended. At most ``most`` reports are being made at a time. The memory keeps
    what is still stale: it leaves when the work is done. Another window than was asked for begins with a first attempt.
    """
    asked: dict[str, Asked] = {}
    attempts: dict[TeamDay, int] = {}
    for report in stale:
        before = memory.asked.get(str(report.team_day))
        if before is not None:
            asked[str(report.team_day)] = before
        if report.busy or (before is not None and before.run_key in at_work):
            continue
        tried = before.attempt if before is not None and before.fingerprint == report.fingerprint else 0
        if tried < MOST_ATTEMPTS:
            attempts[report.team_day] = tried + 1
    room = max(most - sum(a.run_key in at_work for a in asked.values()), 0)
    groups = list(_in_a_row([r for r in stale if r.team_day in attempts][:room]))
    number = memory.number + bool(groups)
    for group in groups:
        first, last = group[0].team_day, group[-1].team_day
        attempt = max(attempts[r.team_day] for r in group)
        # Dagster runs a key once for all time: a window may come back to what it was, an attempt may fail.
        key = f"{first}|{last.day}|{number}|attempt {attempt}|{group[0].fingerprint}"
        asked |= {str(r.team_day): Asked(r.fingerprint, attempts[r.team_day], key) for r in group}
    return groups, Memory(number, asked)


def _in_a_row(reports: Iterable[Stale]) -> Iterable[list[Stale]]:
    """Reports of one team, of days in a row, that need the same assets."""
    group: list[Stale] = []
    for report in sorted(reports, key=lambda r: (r.team_day.team_id, r.assets, r.team_day.day)):
        if group:
            last = group[-1]
            follows = report.team_day.day - last.team_day.day == timedelta(days=1)
            if not follows or (report.team_day.team_id, report.assets) != (last.team_day.team_id, group[-1].assets):
                yield group
                group = []
        group.append(report)
    if group:
        yield group


def _request(group: Sequence[Stale], run_key: str) -> dg.RunRequest:
    first, last = group[0].team_day, group[-1].team_day
    tags: dict[str, str] = {"lipservice/team": str(first.team_id)}
    if first != last:
        tags |= {"dagster/asset_partition_range_start": first.key, "dagster/asset_partition_range_end": last.key}
    return dg.RunRequest(
        run_key=run_key,
        partition_key=first.key if first == last else None,
        tags=tags,
        asset_selection=[dg.AssetKey(a) for a in group[0].assets],
    )


def _at_work(instance: dg.DagsterInstance) -> set[str]:
    """The keys of this sensor's runs that have not ended."""
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": NAME}, statuses=_AT_WORK))
    return {run.tags["dagster/run_key"] for run in runs if "dagster/run_key" in run.tags}
