"""`lipservice keys …`: the keys of the HTTP API."""

from __future__ import annotations

import click
from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.findings import line
from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import keys


def create(settings: Settings, team_id: int, name: str, access: str) -> None:
    """Make a key and print its secret, alone on standard output."""
    with stack.database(settings) as database:
        key, secret = keys.create(database, team_id, name, access)
    click.echo(f"key {key.id} of {settings.team_name(team_id)}, access {access}; it is not shown again:", err=True)
    click.echo(secret)


def show(settings: Settings, team_id: int) -> None:
    """Print a team's keys, without their secrets."""
    with stack.database(settings) as database:
        rows = keys.of_team(database, team_id)
    if not rows:
        click.echo(f"{settings.team_name(team_id)} has no keys: `lipservice keys create` makes one")
        return
    table = Table(title=f"{settings.team_name(team_id)}: keys", header_style="bold")
    for name in ("id", "name", "access", "created (UTC)", "revoked (UTC)"):
        table.add_column(name)
    for row in rows:
        revoked = f"{row.revoked_at:%Y-%m-%d %H:%M}" if row.revoked_at else ""
        table.add_row(str(row.id), line(row.name), row.access, f"{row.created_at:%Y-%m-%d %H:%M}", revoked)
    standard_console().print(table)


def revoke(settings: Settings, team_id: int, key_id: int) -> None:
    """End a key."""
    with stack.database(settings) as database:
        keys.revoke(database, team_id, key_id)
    click.echo(f"key {key_id} is revoked")
