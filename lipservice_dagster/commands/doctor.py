"""`lipservice doctor`: what LipService stands on, looked at one by one, and what to do about each that is not well."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from rich.markup import escape

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource, LogSourceError
from lipservice_dagster.sources.connect import source_of
from lipservice_dagster.sources.posthog import PostHogSource
from lipservice_dagster.sources.posthog_api import Api, HogQLRefusedError
from lipservice_dagster.sources.posthog_pages import PAGE_ROWS
from lipservice_dagster.storage.database import Database, DatabaseError, head

_LEAST_FREE_BYTES = 2 * 1024**3
_CLOCK_SECONDS = 60
_LOOKBACK = timedelta(days=7)

WELL, WARNING, BAD = "well", "warning", "bad"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is (`WELL`, `WARNING`, `BAD`), what was found, and what to do."""

    of: str
    state: str
    found: str
    advice: str = ""


def run(settings: Settings) -> int:
    """Print what was found; 1 where something is bad, else 0."""
    console = standard_console()
    marks = {WELL: "[green]✓[/green]", WARNING: "[yellow]![/yellow]", BAD: "[red]✗[/red]"}
    worst = 0
    for finding in look(settings):
        console.print(f"{marks[finding.state]} [bold]{finding.of}[/bold]: {escape(finding.found)}")
        if finding.advice:
            console.print(f"    {escape(finding.advice)}")
        worst = max(worst, int(finding.state == BAD))
    return worst


def look(settings: Settings) -> Iterator[Finding]:
    """All findings, as they are made. Nothing is started and nothing is written."""
    yield _python()
    yield from _source(settings)
    yield from _postgres(settings)
    yield _dagster()
    yield _home(settings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    of = {name: importlib.metadata.version(name) for name in ("lipservice-dagster", "dagster", "clickhouse-connect")}
    found = f"Python {version}, " + ", ".join(f"{name} {v}" for name, v in of.items())
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding(
            "versions", BAD, found, "LipService needs Python 3.11, 3.12 or 3.13: make setup with one of them"
        )
    return Finding("versions", WELL, found)


def _source(settings: Settings) -> Iterator[Finding]:
    of = "log source"
    try:
        source = source_of(settings)
        if isinstance(source, PostHogSource):
            yield from _posthog(source, settings)
            return
        yield Finding(of, WELL, source.ping())
        yield _logging(source, settings)
    except LogSourceError as error:
        yield _bad(of, error)


def _bad(of: str, error: LogSourceError) -> Finding:
    told = str(error)
    return Finding(of, BAD, told, "" if "LIPSERVICE_" in told else "Look at LIPSERVICE_LOGS_DSN")


def _posthog(source: PostHogSource, settings: Settings) -> Iterator[Finding]:
    """Each project by itself, as each may have a key of its own; then what the sensors ask for."""
    well = {}
    for project, api in sorted(source.apis.items()):
        alone = source.of(project)
        try:
            yield Finding("log source", WELL, alone.ping())
        except LogSourceError as error:
            yield _bad("log source", error)
            continue
        well[project] = api
        yield from _key(api)
        yield _hogql(alone)
    if well:
        try:
            yield _logging(source.of(*well), settings)
        except LogSourceError as error:
            yield _bad("logs", error)
    looks = sum(3600 / n for n in (settings.discover_seconds, settings.spike_seconds, settings.late_seconds))
    if looks > settings.posthog_queries_per_hour / 2:
        yield Finding(
            "requests",
            WARNING,
            f"the sensors ask each project {looks:.0f} times an hour, of {settings.posthog_queries_per_hour} in all",
            "Raise LIPSERVICE_DISCOVER_SECONDS, LIPSERVICE_SPIKE_SECONDS and LIPSERVICE_LATE_SECONDS",
        )


def _key(api: Api) -> Iterator[Finding]:
    """The scopes of a key that HogQL has answered to, and the clock over there."""
    of, now = f"key of project {api.project}", datetime.now(UTC)
    between = {"date_from": (now - timedelta(minutes=5)).isoformat(), "date_to": now.isoformat()}
    try:
        api.logs("count", {"dateRange": between, "severityLevels": [], "serviceNames": []})
        yield Finding(of, WELL, "has the scopes query:read and logs:read")
    except LogSourceError as error:
        advice = "HogQL works; with logs:read, days that it does not take can be read as pages too"
        yield Finding(of, WARNING, str(error), advice)
    if api.server_time is not None:
        yield _clock((api.server_time - datetime.now(UTC)).total_seconds(), api.host)


def _hogql(source: PostHogSource) -> Finding:
    (api,) = source.apis.values()
    of = f"HogQL of project {api.project}"
    try:
        source.try_groups(datetime.now(UTC))
    except HogQLRefusedError as error:
        pages = api.limits.pages_per_hour
        advice = (
            f"Every day will be read as pages of {PAGE_ROWS:,} logs, at most {pages * PAGE_ROWS:,} logs an hour"
            " (LIPSERVICE_POSTHOG_PAGES_PER_HOUR): use a newer PostHog, or its ClickHouse"
        )
        return Finding(of, WARNING, str(error), advice)
    except LogSourceError as error:
        return _bad(of, error)
    return Finding(of, WELL, "takes the questions by which days are read")


def _logging(source: LogSource, settings: Settings) -> Finding:
    found = source.latest_logs(datetime.now(UTC) - _LOOKBACK)
    taken = {team: at for team, at in found.items() if settings.takes(team)}
    if not taken:
        what = "no team has" if not found else f"{len(found)} teams have, none that LIPSERVICE_TEAMS takes has"
        return Finding(
            "logs",
            WARNING,
            f"{what} logged in the last 7 days",
            "Do the services send their logs to these projects? Look at the numbers in LIPSERVICE_LOGS_DSN"
            if isinstance(source, PostHogSource)
            else "`lipservice ingest` reads files into the embedded log store, `lipservice demo` makes some",
        )
    team, at = max(taken.items(), key=lambda item: item[1])
    return Finding("logs", WELL, f"{len(taken)} teams log; the latest of team {team}, {at:%Y-%m-%d %H:%M} UTC")


def _postgres(settings: Settings) -> Iterator[Finding]:
    of = "PostgreSQL"
    if settings.postgres_dsn is None:
        there = (settings.home / "postgres").is_dir()
        found = "the embedded one is used" + ("" if there else ", and not made yet")
        yield Finding(of, WELL, f"{found} (LIPSERVICE_POSTGRES_DSN is not set)")
        return
    database = Database(settings.postgres_dsn.get_secret_value())
    try:
        with database.engine.connect() as connection:
            version, at = connection.execute(sa.text("SELECT current_setting('server_version'), now()")).one()
        yield Finding(of, WELL, f"version {version}")
        yield _clock((at - datetime.now(UTC)).total_seconds(), "PostgreSQL")
        database.require_current()
        yield Finding("migrations", WELL, f"the tables are at {head()}, which this code needs")
    except DatabaseError as error:
        yield Finding("migrations", BAD, str(error))
    except sa.exc.OperationalError as error:
        yield Finding(of, BAD, str(error.orig).strip(), "Look at LIPSERVICE_POSTGRES_DSN, and whether it is up")
    except sa.exc.DBAPIError as error:
        user = database.engine.url.username
        advice = (
            f"Give {user} the rights on LipService's tables, or make it their owner: it reads, writes and alters them"
        )
        yield Finding("migrations", BAD, str(error.orig).strip(), advice)
    finally:
        database.dispose()


def _dagster() -> Finding:
    of, home = "Dagster instance", os.environ.get("DAGSTER_HOME")
    if home is None:
        return Finding(of, WELL, "LipService's own, of `lipservice dev` (DAGSTER_HOME is not set)")
    if not (Path(home) / "dagster.yaml").is_file():
        return Finding(of, BAD, f"{home} has no dagster.yaml", "Put one there, or unset DAGSTER_HOME")
    from dagster import DagsterInstance

    try:
        with DagsterInstance.get() as instance:
            runs = instance.get_runs_count()
    except Exception as error:  # whatever Dagster's storages raise is what is to be told
        return Finding(
            of, BAD, f"{home} does not open: {error}", "Look at its dagster.yaml and at the storage it names"
        )
    return Finding(of, WELL, f"{home}, {runs:,} runs")


def _clock(ahead: float, where: str) -> Finding:
    if abs(ahead) > _CLOCK_SECONDS:
        way = "behind" if ahead > 0 else "ahead of"
        return Finding(
            "clock",
            BAD,
            f"this machine's is {abs(ahead):.0f} s {way} that of {where}",
            "Set it by NTP: days, hours and what counts as late are read off it",
        )
    return Finding("clock", WELL, f"within {_CLOCK_SECONDS} s of that of {where}")


def _home(settings: Settings) -> Finding:
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{settings.home}, {free / 1e9:,.1f} GB free"
    if not place.is_dir():
        return Finding("home", BAD, f"{settings.home}: {place} is no folder", "Set LIPSERVICE_HOME to a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("home", BAD, f"{found}, not writable", "Change its permissions, or set LIPSERVICE_HOME")
    if free < _LEAST_FREE_BYTES:
        return Finding("home", WARNING, found, "Free some space, or set LIPSERVICE_HOME to a folder with more")
    return Finding("home", WELL, found)
