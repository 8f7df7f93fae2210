"""`lipservice config`."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.settings import Settings, explain


def run(settings: Settings) -> None:
    """Print each setting with value and source."""
    table = Table(header_style="bold")
    for name in ("setting", "value", "source", "what it is"):
        table.add_column(name, overflow="fold")
    for row in explain(settings):
        source = row.source if row.source == "default" else f"[bold]{row.source}[/bold]"
        table.add_row(row.variable, escape(row.value), source, escape(row.description))
    standard_console().print(table)
