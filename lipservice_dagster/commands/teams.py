"""`lipservice teams`: who is known, who logs, and how fresh what was made of them is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.findings import line
from lipservice_dagster.local import stack
from lipservice_dagster.partitions import TEAMS_NAME
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.connect import source_of
from lipservice_dagster.storage.materializations import latest_days
from lipservice_dagster.storage.source_requests import take

_LOOKBACK_DAYS = 42
"""PostHog keeps its volumes so long."""


def run(settings: Settings) -> None:
    """Print a row a team, in the order of their numbers."""
    from dagster import DagsterInstance

    now = datetime.now(UTC)
    with stack.dagster_home(settings) as (_, database), DagsterInstance.get() as instance:
        partitions = {int(team) for team in instance.get_dynamic_partitions(TEAMS_NAME)}
        made = latest_days(database, "anomaly_reports")
        logs = source_of(settings, budget=partial(take, database)).latest_logs(now - timedelta(days=_LOOKBACK_DAYS))
    teams = sorted(partitions | set(made) | set(logs))
    console = standard_console()
    if not teams:
        console.print(
            "No team is known and none has logged: `lipservice ingest` reads log files, `lipservice demo` makes"
        )
        return
    table = Table(header_style="bold")
    for name in ("team", "name", "state", "latest logs (UTC)", "latest day made"):
        table.add_column(name)
    table.add_column("days made", justify="right")
    for team in teams:
        day, days = made.get(team, (None, 0))
        at = logs.get(team)
        table.add_row(
            str(team),
            line(settings.team_name(team)),
            state(settings, team, at, known=team in partitions, now=now),
            f"{at:%Y-%m-%d %H:%M}" if at else "",
            str(day or ""),
            f"{days}",
        )
    console.print(table)


def state(settings: Settings, team: int, latest: datetime | None, *, known: bool, now: datetime) -> str:
    """What becomes of a team, in a word or two; ``known``: it has partitions."""
    if not settings.takes(team):
        return "denied"
    if latest is None or latest < now - timedelta(days=settings.team_lookback_days):
        return "silent"
    return "logging" if known else "logging, new"
