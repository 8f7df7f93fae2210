"""`lipservice ingest`: lines into the embedded log store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import click

from lipservice_dagster.ingest import run_ingest
from lipservice_dagster.local.demo import owned_teams
from lipservice_dagster.local.log_store import LogStoreError
from lipservice_dagster.settings import Settings


def run(
    settings: Settings,
    files: Sequence[Path],
    team_id: int,
    service: str | None,
    day: date | None,
    environment: str,
    year: int | None,
    again: bool,
    rejects: Path | None,
) -> int:
    """Ingest and print the summary; the exit code.

    Raises LogStoreError where the logs would go to a store of others, or to a team of the demo (which the next demo
    replaces).
    """
    if settings.logs_url() != f"parquet://{settings.embedded_logs}":
        raise LogStoreError(
            "ingest writes the embedded log store, but LIPSERVICE_LOGS_DSN names another one: unset it for this command"
        )
    if team_id in owned_teams(settings.home):
        raise LogStoreError(
            f"Team {team_id} belongs to the demo, which replaces its logs each time it runs: choose another number"
        )
    code = run_ingest(
        files,
        store=settings.embedded_logs,
        team_id=team_id,
        service=service,
        day=day,
        now=datetime.now(UTC),
        environment=environment,
        year=year,
        again=again,
        rejects=rejects,
    )
    if code == 0:
        which = f"--day {day}" if day else "--day <one of the days above>"
        click.echo(f"To take it through the graph: lipservice run --team {team_id} {which}")
    return code
