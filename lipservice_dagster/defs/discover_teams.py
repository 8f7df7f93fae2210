"""discover_teams: the sensor that makes partitions of teams that log, and fills a new team's window once.

A team that stops stays, with its history. The cursor remembers which teams have been seen, which wait for their days,
and what was asked for and is not done: a crash at any moment neither forgets a team nor fills it twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from lipservice_dagster.defs.asked import AT_WORK, DONE, MOST_ATTEMPTS, REASON, TEAM, of_range, states
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.defs.daily import named, neighbours, size_for
from lipservice_dagster.partitions import TEAMS, TEAMS_NAME, TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource

NAME = "discover_teams"


@dataclass(frozen=True)
class Fill:
    """A run that was asked for: these neighbouring teams' days up to ``last_day``."""

    teams: tuple[str, ...]
    last_day: str
    attempt: int = 1

    @property
    def run_key(self) -> str:
        """The key of its run."""
        return f"fill|{self.teams[0]}|{len(self.teams)}|{self.last_day}|attempt {self.attempt}"


@dataclass(frozen=True)
class Memory:
    """The cursor: the teams that have been seen, those of them that wait for their days, and what was asked for."""

    seen: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    asked: tuple[Fill, ...] = ()

    @classmethod
    def read(cls, cursor: str) -> "Memory":
        """From the cursor's text."""
        told = json.loads(cursor)
        asked = tuple(Fill(tuple(f["teams"]), f["last_day"], f["attempt"]) for f in told["asked"])
        return cls(tuple(told["seen"]), tuple(told["waiting"]), asked)

    def text(self) -> str:
        """As the cursor."""
        return json.dumps(asdict(self))


def build(settings: Settings) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name=NAME,
        job_name=JOB,
        minimum_interval_seconds=settings.discover_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds a partition for each team that has logged lately, and makes a new team's trailing days once.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, log_source: dg.ResourceParam[LogSource]
    ) -> dg.SensorResult | dg.SkipReason:
        known = list(context.instance.get_dynamic_partitions(TEAMS_NAME))
        if context.cursor is None:
            # Who is there already was filled by those who put it there. Nothing is added before that is remembered.
            context.update_cursor(Memory(seen=tuple(known)).text())
            return dg.SkipReason(f"{len(known)} teams are known from before; those that log are added from now on")
        now = datetime.now(UTC)
        logging = log_source.latest_logs(now - timedelta(days=settings.team_lookback_days))
        found = [str(t) for t in logging if settings.takes(t)]
        new = sorted(set(found) - set(known), key=int)
        memory = Memory.read(context.cursor)
        stands = states(context.instance, NAME, [f.run_key for f in memory.asked])
        fills, memory = plan([*known, *new], memory, stands, now.date(), settings)
        if not new and not fills:
            context.update_cursor(memory.text())
            return dg.SkipReason(
                f"{len(found)} teams have logged lately, all known; {len(memory.waiting)} wait for their days,"
                f" {len(memory.asked)} runs make some"
            )
        return dg.SensorResult(
            dynamic_partitions_requests=[TEAMS.build_add_request(new)] if new else [],
            run_requests=[_request(fill, settings) for fill in fills],
            cursor=memory.text(),
        )

    return sensor


def plan(
    order: Sequence[str], memory: Memory, stands: Mapping[str, str], today: date, settings: Settings
) -> tuple[list[Fill], Memory]:
    """(runs to ask for, the memory from now on).

    ``order``: all teams as their partitions stand; ``stands``: how the runs asked for stand, by key. At most
    ``settings.fill_runs`` are at work at a time; what failed is asked for again some times, and then left to people.
    """
    at_work = [f for f in memory.asked if stands[f.run_key] == AT_WORK]
    failed = [f for f in memory.asked if stands[f.run_key] not in (AT_WORK, DONE)]
    unseen = [team for team in order if team not in set(memory.seen)]
    waiting = [team for team in (*memory.waiting, *unseen) if settings.takes(int(team))] if settings.fill_days else []
    again = [replace(f, attempt=f.attempt + 1) for f in failed if f.attempt < MOST_ATTEMPTS]
    size = size_for(len(order), settings.daily_runs)
    yesterday = (today - timedelta(days=1)).isoformat()
    new = [Fill(tuple(group), yesterday) for group in neighbours(order, set(waiting).__contains__, size)]
    room = max(settings.fill_runs - len(at_work), 0)
    asked = [*again, *new][:room]
    # A failed run for which there is no room stays as it is, to be asked for again.
    kept = [f for f in failed if f.attempt < MOST_ATTEMPTS and replace(f, attempt=f.attempt + 1) not in asked]
    now_asked = {team for fill in asked for team in fill.teams}
    memory = Memory(
        seen=(*memory.seen, *unseen),
        waiting=tuple(team for team in waiting if team not in now_asked),
        asked=(*at_work, *kept, *asked),
    )
    return asked, memory


def _request(fill: Fill, settings: Settings) -> dg.RunRequest:
    last_day = date.fromisoformat(fill.last_day)
    first_day = max(last_day - timedelta(days=settings.fill_days - 1), settings.partitions_start())
    first, last = TeamDay(int(fill.teams[0]), min(first_day, last_day)), TeamDay(int(fill.teams[-1]), last_day)
    return dg.RunRequest(
        run_key=fill.run_key,
        partition_key=first.key if first == last else None,
        tags={TEAM: named(fill.teams), REASON: "a new team's days"} | of_range(first, last),
    )
