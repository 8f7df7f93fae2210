"""`lipservice config`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lipservice_dagster.settings import Settings, explain


def run(settings: Settings) -> None:
    """Print each setting with value and source."""
    table = Table("setting", "value", "source", "what it is", show_lines=False, header_style="bold")
    for row in explain(settings):
        source = row.source if row.source == "default" else f"[bold]{row.source}[/bold]"
        table.add_row(row.variable, row.value, source, row.description)
    Console().print(table)
