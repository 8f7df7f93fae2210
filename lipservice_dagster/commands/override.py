"""`lipservice override …`: what people say about patterns and services, above every policy."""

from __future__ import annotations

from datetime import datetime

import click
from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.findings import line
from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import overrides
from lipservice_dagster.storage.overrides import Entry


def add(
    settings: Settings,
    team_id: int,
    service: str,
    environment: str | None,
    kind: str,
    *,
    rate: float | None,
    until: datetime | None,
    template: str | None,
    signature: str | None,
    owner: str,
    reason: str,
) -> None:
    """Add an override and print what it says and which patterns it speaks of."""
    with stack.database(settings) as database:
        entry = overrides.add(
            database,
            team_id,
            service,
            kind,
            owner=owner,
            reason=reason,
            until=until,
            rate=rate,
            template=template,
            signature=signature,
            environment=environment,
        )
        found = None if entry.template is None else overrides.matched(database, team_id, service, entry.template)
    said = entry.override
    click.echo(f"override {entry.id}, {_where(entry)}: {said.target} is {said.says} ({said.by})")
    if found is not None:
        count = "no pattern" if not found else "1 pattern" if len(found) == 1 else f"{len(found)} patterns"
        shown = "".join(f"\n  {line(t)}" for t in found[:5])
        standard_console().print(f"it speaks of {count} of the newest day{shown}", highlight=False, soft_wrap=True)


def remove(settings: Settings, team_id: int, override_id: int, actor: str, reason: str) -> None:
    """Remove an override."""
    with stack.database(settings) as database:
        overrides.remove(database, team_id, override_id, actor=actor, reason=reason)
    click.echo(f"override {override_id} is removed")


def show(settings: Settings, team_id: int, service: str | None, with_history: bool) -> None:
    """Print the overrides in force, or every entry of the ledger."""
    with stack.database(settings) as database:
        rows = (overrides.history if with_history else overrides.in_force)(database, team_id, service)
    whose = settings.team_name(team_id) + (f", {line(service)}" if service else "")
    if not rows:
        click.echo(f"{whose}: no override {'was ever made' if with_history else 'is in force'}")
        return
    table = Table(title=f"{whose}: overrides", header_style="bold")
    for name in ("id", *(["entry"] if with_history else []), "service", "environment", "of", "says", "until (UTC)"):
        table.add_column(name)
    for name in ("by", "why", "at (UTC)"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            str(row.ends or row.id),
            *([row.entry] if with_history else []),
            line(row.service) or "(none)",
            "(every)" if row.environment is None else line(row.environment),
            "the service" if row.template is None else line(row.template),
            row.override.says,
            f"{row.until:%Y-%m-%d %H:%M}" if row.until else "no end",
            line(row.actor),
            line(row.reason),
            f"{row.at:%Y-%m-%d %H:%M}",
        )
    standard_console().print(table)


def _where(entry: Entry) -> str:
    service = entry.service or "(no service name)"
    return service if entry.environment is None else f"{service} in {entry.environment or '(no environment)'}"
