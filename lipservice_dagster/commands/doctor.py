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
        yield Finding(of, WELL, source.ping())
        if isinstance(source, PostHogSource):
            yield from _posthog(source, settings)
        yield _logging(source, settings)
    except LogSourceError as error:
        message, _, advice = str(error).partition(". ")
        yield Finding(of, BAD, message, advice or "Look at LIPSERVICE_LOGS_DSN; `lipservice config` shows it")


def _posthog(source: PostHogSource, settings: Settings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    for project, api in sorted(source.apis.items()):
        of = f"key of project {project}"
        between = {"date_from": (now - timedelta(minutes=5)).isoformat(), "date_to": now.isoformat()}
        try:  # HogQL has answered already
            api.logs("count", {"dateRange": between, "severityLevels": [], "serviceNames": []})
            yield Finding(of, WELL, "has the scopes query:read and logs:read")
        except LogSourceError as error:
            advice = "HogQL works; with logs:read, days that it does not take can be read as pages too"
            yield Finding(of, WARNING, str(error), advice)
        if api.server_time is not None:
            yield _clock((api.server_time - now).total_seconds(), api.host)
    looks = sum(3600 / n for n in (settings.discover_seconds, settings.spike_seconds, settings.late_seconds))
    if looks > settings.posthog_queries_per_hour / 2:
        yield Finding(
            "requests",
            WARNING,
            f"the sensors ask each project {looks:.0f} times an hour, of {settings.posthog_queries_per_hour} in all",
            "Raise LIPSERVICE_DISCOVER_SECONDS, LIPSERVICE_SPIKE_SECONDS and LIPSERVICE_LATE_SECONDS",
        )


def _logging(source: LogSource, settings: Settings) -> Finding:
    found = source.latest_logs(datetime.now(UTC) - _LOOKBACK)
    taken = {team: at for team, at in found.items() if settings.takes(team)}
    if not taken:
        what = "no team has" if not found else f"{len(found)} teams have, none that LIPSERVICE_TEAMS takes has"
        return Finding(
            "logs",
            WARNING,
            f"{what} logged in the last 7 days",
            "`lipservice ingest` reads files, `lipservice demo` makes",
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
    if not os.access(place, os.W_OK):
        return Finding("home", BAD, f"{found}, not writable", "Change its permissions, or set LIPSERVICE_HOME")
    if free < _LEAST_FREE_BYTES:
        return Finding("home", WARNING, found, "Free some space, or set LIPSERVICE_HOME to a folder with more")
    return Finding("home", WELL, found)
