"""Making stale partitions again: what sensors have in common that find partitions made from what is no longer so.

What is stale is asked at each tick; the cursor remembers what has been asked for and is not done yet, so that nothing
is asked twice while it runs, and what failed is asked again a limited number of times.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

import dagster as dg

from lipservice_dagster.defs.asked import MOST_ATTEMPTS, REASON, RUN_KEY, TEAM, of_range
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.storage.windows import Stale

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
class Looked:
    """What the last tick looked at: all that was written before ``since``, by these settings (``basis``).

    ``teams``: those something was stale of. ``whole``: when all teams were looked at last. Both moments as ISO text.
    """

    since: str
    whole: str
    basis: str
    teams: Sequence[int]


@dataclass(frozen=True)
class Memory:
    """The cursor: how many times something was asked for, and what of it is not done yet, by team-day.

    ``looked``: of a sensor that looks at what has changed alone.
    """

    number: int
    asked: Mapping[str, Asked]
    looked: Looked | None = None

    @classmethod
    def read(cls, cursor: str | None) -> "Memory":
        """From the cursor's text."""
        told = json.loads(cursor or '{"number": 0, "asked": {}}')
        looked = told.get("looked")
        return cls(
            told["number"], {k: Asked(**a) for k, a in told["asked"].items()}, Looked(**looked) if looked else None
        )

    def text(self) -> str:
        """As the cursor."""
        return json.dumps(asdict(self), sort_keys=True)


def answer(
    context: dg.SensorEvaluationContext,
    sensor: str,
    stale: Sequence[Stale],
    most: int,
    *,
    reason: str,
    settled: str,
    looked: Looked | None = None,
) -> dg.SensorResult | dg.SkipReason:
    """A tick of the sensor of this name that found these partitions stale: the runs that it asks for, or why none.

    At most ``most`` are being made at a time; ``settled`` is said where nothing is stale. Teams without partitions are
    left alone.
    """
    memory = Memory.read(context.cursor)
    teams = set(context.instance.get_dynamic_partitions(TEAMS_NAME))
    stale = [s for s in stale if str(s.team_day.team_id) in teams]
    at_work = _at_work(context.instance, sensor) if memory.asked else set()
    groups, memory = plan(stale, memory, at_work, most)
    memory = replace(memory, looked=looked)
    if groups:
        requests = [_request(group, memory.asked[str(group[0].team_day)].run_key, reason) for group in groups]
        return dg.SensorResult(run_requests=requests, cursor=memory.text())
    context.update_cursor(memory.text())
    if not stale:
        return dg.SkipReason(settled)
    given_up = sorted(k for k, a in memory.asked.items() if a.attempt == MOST_ATTEMPTS and a.run_key not in at_work)
    failed = f"; {len(given_up)} failed {MOST_ATTEMPTS} times, first {given_up[0]}: see their runs" if given_up else ""
    return dg.SkipReason(f"{len(stale)} stale partitions, their teams at work or waiting{failed}")


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


def _request(group: Sequence[Stale], run_key: str, reason: str) -> dg.RunRequest:
    first, last = group[0].team_day, group[-1].team_day
    return dg.RunRequest(
        run_key=run_key,
        partition_key=first.key if first == last else None,
        tags={TEAM: str(first.team_id), REASON: reason} | of_range(first, last),
        asset_selection=[dg.AssetKey(a) for a in group[0].assets],
    )


def _at_work(instance: dg.DagsterInstance, sensor: str) -> set[str]:
    """The keys of a sensor's runs that have not ended."""
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": sensor}, statuses=_AT_WORK))
    return {run.tags[RUN_KEY] for run in runs if RUN_KEY in run.tags}
