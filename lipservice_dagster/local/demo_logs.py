"""Realistic days of logs for demo teams: seeded, a team-day on its own, with incidents at known places.

A team-day depends on (seed, team_id, day) and on its incidents, on nothing else: any subset of days can be generated
alone, and the same arguments give the same octets. Counts of a pattern in an hour are Poisson with a Gamma-distributed
mean (a negative binomial), around the service's daily and weekly rhythm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lipservice_dagster.local.demo_cobalt import COBALT
from lipservice_dagster.local.demo_fleet import FLEET
from lipservice_dagster.local.demo_harbour import HARBOUR
from lipservice_dagster.local.demo_services import Pattern, Service, Team
from lipservice_dagster.local.demo_text import messages, outline
from lipservice_dagster.local.ids import base64_ids, hexadecimal, uuids
from lipservice_dagster.local.log_store import ATTRIBUTES, LOGS_SCHEMA, TIMESTAMP

Kind = Literal["rate_spike", "error_surge", "new_pattern", "vanished_pattern"]

CATALOGUE = (HARBOUR, COBALT, FLEET)
TEAM_NAMES = {i + 1: team.name for i, team in enumerate(CATALOGUE)}
"""The default teams. Further ones are variations of these; see `team_name`."""

SEVERITY_NUMBERS = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""The first OTLP number of each severity PostHog knows."""

_HOURS = 24
_HOUR_US = 3_600_000_000
_WEEKDAY = (1.0, 1.03, 1.05, 1.02, 0.96)  # Monday to Friday
_THREADS = 8
# Shapes of the Gamma factors: their relative spread is 1 / sqrt(shape).
_DAY_SHAPE, _SERVICE_HOUR_SHAPE, _PATTERN_HOUR_SHAPE, _FLAT_SHAPE = 600.0, 400.0, 100.0, 3000.0


@dataclass(frozen=True)
class Incident:
    """Something out of the ordinary that was put into the demo logs.

    It lasts from `start_hour` to `end_hour` (exclusive, UTC) of `day`; `pattern` is the message with its variables
    written ``<*>``, empty where the whole service is meant; `factor` multiplies the usual counts (0 for a pattern that
    stops, 1 for one that is new).
    """

    team_id: int
    service: str
    kind: Kind
    day: date
    start_hour: int
    end_hour: int
    pattern: str
    factor: float


def team_ids(teams: int = 3) -> list[int]:
    """The ids of so many demo teams: 1, 2, …"""
    return list(range(1, teams + 1))


def team_name(team_id: int) -> str:
    """The name of a demo team."""
    base, variation = _catalogue(team_id)
    return base.name if variation == 0 else f"{base.name} {variation + 1}"


def _catalogue(team_id: int) -> tuple[Team, int]:
    if team_id < 1:
        raise ValueError(f"there is no demo team {team_id}; they are numbered from 1")
    variation, index = divmod(team_id - 1, len(CATALOGUE))
    return CATALOGUE[index], variation


def incidents(until: date, days: int, teams: int = 3) -> list[Incident]:
    """The incidents in the demo logs of the `days` up to and with `until`.

    All four kinds are on the last day, spread over the teams; teams beyond the third have one each. With six days or
    more there is one older error surge as well.
    """
    if teams < 1 or days < 1:
        raise ValueError(f"{teams} teams and {days} days were asked for; it takes one of each at least")
    found = [_incident(i % teams + 1, _LAST_DAY[i % len(_LAST_DAY)], until) for i in range(max(len(_LAST_DAY), teams))]
    if days >= 6:
        kind, start, end, factor = _LAST_DAY[1]
        found.append(_incident((4 % teams) + 1, (kind, start + 8, end + 8, factor), until - timedelta(days=3)))
    return found


_LAST_DAY: tuple[tuple[Kind, int, int, float], ...] = (
    ("rate_spike", 14, 17, 5.0),
    ("error_surge", 10, 12, 20.0),
    ("new_pattern", 13, 24, 1.0),
    ("vanished_pattern", 0, 24, 0.0),
)


def _incident(team_id: int, shape: tuple[Kind, int, int, float], day: date) -> Incident:
    team, _ = _catalogue(team_id)
    kind, start, end, factor = shape
    if kind == "rate_spike":
        service, text = team.spiking, ""
    elif kind == "new_pattern":
        service, text = team.released[0], team.released[1].text
    else:
        service, beginning = team.failing if kind == "error_surge" else team.stopping
        text = next(
            pattern.text
            for member in team.services
            if member.name == service
            for pattern in member.patterns
            if pattern.text.startswith(beginning)
        )
    return Incident(team_id, service, kind, day, start, end, outline(text), factor)


def generate(
    team_id: int, day: date, *, until: date, days: int, teams: int = 3, seed: int = 7, logs_per_day: int = 30_000
) -> pa.Table:
    """One team-day of logs as `LOGS_SCHEMA`, by service and pattern, about `logs_per_day` rows on a weekday.

    `until`, `days` and `teams` say where the incidents are, see `incidents`. Raises ValueError for a team or a volume
    that cannot be.
    """
    team, scale, happening = _planned(team_id, day, until, days, teams, logs_per_day)
    rng = np.random.default_rng([seed, team_id, day.toordinal()])
    tables = [
        _service_day(rng, service, team, day, scale, [i for i in happening if i.service == service.name])
        for service in team.services
    ]
    return pa.concat_tables(tables)


def counts(
    team_id: int, day: date, *, until: date, days: int, teams: int = 3, seed: int = 7, logs_per_day: int = 30_000
) -> list[tuple[Service, Pattern, np.ndarray]]:
    """Logs an hour, shape (24,), of each pattern of each service of a team-day, drawn as `generate` draws them.

    Without a message being written, so not the very counts of `generate`, whose messages are drawn in between.
    """
    team, scale, happening = _planned(team_id, day, until, days, teams, logs_per_day)
    rng = np.random.default_rng([seed, team_id, day.toordinal()])
    return [
        (service, pattern, of_pattern)
        for service in team.services
        for pattern, of_pattern in _counts(
            rng, service, team, day, scale, [i for i in happening if i.service == service.name]
        )
    ]


def _planned(
    team_id: int, day: date, until: date, days: int, teams: int, logs_per_day: int
) -> tuple[Team, float, list[Incident]]:
    """The team with its busy hours, what its logs are multiplied with, and the incidents of the day."""
    if logs_per_day < 1:
        raise ValueError(f"logs_per_day is {logs_per_day}; it must be 1 or more")
    team, variation = _catalogue(team_id)
    moved = tuple(replace(s, peak=(s.peak + 3 * variation) % _HOURS) for s in team.services)
    scale = logs_per_day / sum(p.logs for s in team.services for p in s.patterns if not p.rare)
    happening = [i for i in incidents(until, days, teams) if (i.team_id, i.day) == (team_id, day)]
    return replace(team, services=moved), scale, happening


def _rhythm(service: Service, pattern: Pattern, day: date) -> np.ndarray:
    """The share of a weekday's logs that is expected in each hour of `day`, shape (24,)."""
    hours = np.arange(_HOURS)
    if pattern.rhythm == "flat":
        return np.full(_HOURS, 1 / _HOURS)
    if pattern.rhythm == "night":
        return np.where((hours >= 2) & (hours < 4), 0.5, 0.0)
    wave = 1 + 0.75 * np.cos((hours - service.peak) * 2 * np.pi / _HOURS)
    week = _WEEKDAY[day.weekday()] if day.weekday() < 5 else service.weekend
    return wave / wave.sum() * week


def _counts(
    rng: np.random.Generator, service: Service, team: Team, day: date, scale: float, happening: list[Incident]
) -> list[tuple[Pattern, np.ndarray]]:
    """Each pattern of the service with its logs an hour, shape (24,)."""
    busy = rng.gamma(_DAY_SHAPE, 1 / _DAY_SHAPE)
    hourly = busy * rng.gamma(_SERVICE_HOUR_SHAPE, 1 / _SERVICE_HOUR_SHAPE, size=_HOURS)
    patterns = [*service.patterns]
    if any(i.kind == "new_pattern" for i in happening):
        # 500 in the eleven hours left of a day of 30,000, whatever the rhythm.
        patterns.append(replace(team.released[1], logs=500 / 11 * _HOURS, rhythm="flat"))
    counted = []
    for pattern in patterns:
        mean = _rhythm(service, pattern, day) * pattern.logs * (1.0 if pattern.rare else scale)
        if pattern.rhythm == "users":
            mean = mean * hourly
        for incident in happening:
            mean = mean * _factor(incident, pattern)
        shape = _PATTERN_HOUR_SHAPE if pattern.rhythm == "users" else _FLAT_SHAPE
        counted.append((pattern, rng.poisson(mean * rng.gamma(shape, 1 / shape, size=_HOURS))))
    return counted


def _factor(incident: Incident, pattern: Pattern) -> np.ndarray:
    """What the incident does to the pattern's logs an hour, shape (24,)."""
    hours = np.arange(_HOURS)
    inside = (hours >= incident.start_hour) & (hours < incident.end_hour)
    if incident.kind == "rate_spike":
        return np.where(inside, incident.factor, 1.0)  # probes too: there are more pods
    if incident.pattern != outline(pattern.text):
        return np.ones(_HOURS)
    return np.where(inside, incident.factor, 0.0 if incident.kind == "new_pattern" else 1.0)


def _service_day(
    rng: np.random.Generator, service: Service, team: Team, day: date, scale: float, happening: list[Incident]
) -> pa.Table:
    counted = _counts(rng, service, team, day, scale, happening)
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    times, bodies = [], []
    for _, counts in counted:
        hours = np.repeat(np.arange(_HOURS, dtype=np.int64), counts)
        times.append(start + hours * _HOUR_US + rng.integers(0, _HOUR_US, size=len(hours)))
    for (pattern, _), stamps in zip(counted, times, strict=True):
        bodies.append(messages(pattern.text, rng, stamps))
    stamps = np.concatenate(times)
    rows = len(stamps)
    which = np.repeat(np.arange(len(counted)), [len(t) for t in times])
    severities = [pattern.severity for pattern, _ in counted]
    traced = pa.array(rng.random(rows) < service.traced)
    none = pa.scalar("")
    return pa.table(
        [
            pa.array(stamps).cast(TIMESTAMP),
            pa.array(stamps + rng.integers(200_000, 4_000_000, size=rows)).cast(TIMESTAMP),
            uuids(rng, rows),
            pc.if_else(traced, base64_ids(rng, rows, 16), none).cast(pa.binary()),
            pc.if_else(traced, base64_ids(rng, rows, 8), none).cast(pa.binary()),
            pa.concat_arrays(bodies),
            pa.array(severities).take(pa.array(which)),
            pa.array([SEVERITY_NUMBERS[s] for s in severities], pa.int32()).take(pa.array(which)),
            pa.repeat(pa.scalar(service.name.encode()), rows),
            _resources(rng, service, team, rows),
            _attributes(rng, service, len(counted), which),
            pa.repeat(none, rows),
        ],
        schema=LOGS_SCHEMA,
    )


def _resources(rng: np.random.Generator, service: Service, team: Team, rows: int) -> pa.Array:
    """Resource attributes: a pod of the day for each row, in production or staging."""
    namespace = team.name.split()[0].lower()
    replica = bytes(hexadecimal(rng, 1, 10)[0]).decode()
    pods = []
    for environment, number in (("production", service.pods), ("staging", 1 if service.staging else 0)):
        pods += [
            {
                "service.name": service.name,
                "deployment.environment.name": environment,
                "k8s.namespace.name": namespace if environment == "production" else f"{namespace}-staging",
                "k8s.pod.name": f"{service.name}-{replica}-{bytes(suffix).decode()}",
            }
            for suffix in hexadecimal(rng, number, 5)
        ]
    chosen = rng.integers(0, service.pods, size=rows)
    if service.staging:
        chosen = np.where(rng.random(rows) < service.staging, service.pods, chosen)
    return _maps(pods).take(pa.array(chosen))


def _attributes(rng: np.random.Generator, service: Service, patterns: int, which: np.ndarray) -> pa.Array:
    pool = [
        {"logger.name": service.logger, "thread.name": f"worker-{thread}", "code.lineno": str(40 + 17 * pattern)}
        for pattern in range(patterns)
        for thread in range(_THREADS)
    ]
    return _maps(pool).take(pa.array(which * _THREADS + rng.integers(0, _THREADS, size=len(which))))


def _maps(values: list[dict[str, str]]) -> pa.Array:
    return pa.array([[(k.encode(), v.encode()) for k, v in value.items()] for value in values], ATTRIBUTES)
