"""volume_spikes: the sensor that looks at the last half hour of all teams, and asks for a report where logs pour in.

The run makes the day's report on whole hours, and the boosts that follow from it, which expire; it makes no policy and
releases none: base rates stay what they are. A spike is seen within its hour and reported once the hour is over: until
then the report would not read it. Then the team rests for a while, however long the spike lasts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from lipservice_dagster.core.volume_spikes import Spike, SpikeSettings, spikes
from lipservice_dagster.defs.asked import AT_WORK, DONE, MOST_ATTEMPTS, ONLY_BOOSTS, PRIORITY, REASON, TEAM, states
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.sources.volumes_sql import Span

NAME = "volume_spikes"
ASSETS = ("raw_logs", "signatures", "anomaly_reports", "policy_releases", "policy_exports")
DELAY = timedelta(minutes=5)
"""What arrives no later than this is counted, and read."""
_LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class Seen:
    """A team's spike: the hour it was seen in (ISO, UTC), why, and in which attempt it was asked for (0: not)."""

    hour: str
    reason: str
    attempt: int = 0
    done: bool = False

    @property
    def begins(self) -> datetime:
        """The start of its hour."""
        return datetime.fromisoformat(self.hour)

    def run_key(self, team: str) -> str:
        """The key of its run."""
        return f"spike|{team}|{self.hour}|attempt {self.attempt}"


Memory = Mapping[str, Seen]
"""The cursor: the latest spike of each team, until it has rested."""


def read(cursor: str | None) -> Memory:
    """The memory from the cursor's text."""
    return {team: Seen(**told) for team, told in json.loads(cursor or "{}").items()}


def text(memory: Memory) -> str:
    """The memory as the cursor."""
    return json.dumps({team: asdict(seen) for team, seen in sorted(memory.items())})


def build(settings: Settings, rule: SpikeSettings) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name=NAME,
        job_name=JOB,
        minimum_interval_seconds=settings.spike_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports on today, and boosts, where a service logs far more than at these hours of other days.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, log_source: dg.ResourceParam[LogSource]
    ) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        teams = [int(t) for t in context.instance.get_dynamic_partitions(TEAMS_NAME) if settings.takes(int(t))]
        span = Span.until(now, settings.spike_minutes, DELAY, settings.window_days)
        found = spikes(log_source.compared_volumes(teams, span), span.share, rule)
        memory = read(context.cursor)
        stands = states(context.instance, NAME, [s.run_key(t) for t, s in memory.items() if s.attempt and not s.done])
        asked, memory = plan(found, memory, stands, span, now, settings)
        if not asked:
            context.update_cursor(text(memory))
            waiting = sum(not s.attempt for s in memory.values())
            return dg.SkipReason(
                f"{len(teams)} teams, {span.start:%H:%M} to {span.end:%H:%M} UTC: {len(found)} spikes; {waiting} wait"
                f" for the end of their hour, {len(memory) - waiting} have been asked for and rest"
            )
        return dg.SensorResult(run_requests=[_request(t, memory[t]) for t in asked], cursor=text(memory))

    return sensor


def plan(
    found: Sequence[Spike], memory: Memory, stands: Mapping[str, str], span: Span, now: datetime, settings: Settings
) -> tuple[list[str], Memory]:
    """(teams whose report is asked for now, the memory from now on).

    A spike waits until its hour is over; of a team that rests after one, others are not looked at. What failed is asked
    for again some times. At most ``settings.spike_runs_per_tick`` teams are asked for at a time, those first that have
    waited longest; the others go on waiting.
    """
    rest = timedelta(hours=settings.spike_rest_hours)
    kept = {}
    for team, seen in memory.items():
        if seen.attempt and not seen.done:
            stand = stands[seen.run_key(team)]
            if stand == DONE or (stand != AT_WORK and seen.attempt >= MOST_ATTEMPTS):
                seen = replace(seen, done=True)
        if now < seen.begins + (rest if seen.attempt else _LONGEST_WAIT) + timedelta(hours=1):
            kept[team] = seen
    hour = (span.end - timedelta(minutes=5)).replace(minute=0, second=0, microsecond=0)
    worst: dict[str, Spike] = {}
    for spike in found:
        team = str(spike.team_id)
        if team not in worst or spike.observed / max(spike.expected, 1) > worst[team].observed / max(
            worst[team].expected, 1
        ):
            worst[team] = spike
    for team, spike in worst.items():
        kept.setdefault(team, Seen(hour.isoformat(), spike.reason))
    due = [
        team
        for team, seen in kept.items()
        if not seen.done
        and now >= seen.begins + timedelta(hours=1) + DELAY
        and (not seen.attempt or stands.get(seen.run_key(team)) not in (AT_WORK, DONE))
    ]
    asked = sorted(due, key=lambda t: (kept[t].hour, int(t)))[: settings.spike_runs_per_tick]
    return asked, kept | {t: replace(kept[t], attempt=kept[t].attempt + 1) for t in asked}


def _request(team: str, seen: Seen) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=seen.run_key(team),
        partition_key=TeamDay(int(team), seen.begins.date()).key,
        tags={
            TEAM: team,
            REASON: f"volume spike at {seen.begins:%H}:00 UTC. {seen.reason}",
            PRIORITY: "10",
            ONLY_BOOSTS: "true",
        },
        asset_selection=[dg.AssetKey(a) for a in ASSETS],
    )
