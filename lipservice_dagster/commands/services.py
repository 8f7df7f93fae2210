"""`lipservice services`: volumes by service and hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.findings import line
from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.services import volumes

_BARS = " ▁▂▃▄▅▆▇█"


def run(settings: Settings, team_id: int, first: date | None, last: date) -> None:
    """Print the team's services, the largest first."""
    first = first or last - timedelta(days=6)
    with stack.database(settings) as database:
        rows = volumes(database, team_id, first, last)
    console = standard_console()
    if rows.empty:
        console.print(
            f"{settings.team_name(team_id)} has no services yet: take a day through the graph first,"
            f" lipservice run --team {team_id} --day yesterday"
        )
        return
    table = Table(title=f"{settings.team_name(team_id)}, {first} to {last} (hours in UTC)", header_style="bold")
    for name in ("service", "environment"):
        table.add_column(name)
    for name in ("days", "logs", "MB", "errors"):
        table.add_column(name, justify="right")
    table.add_column("00   06   12   18   ", no_wrap=True)
    table.add_column("last day")
    for row in rows.itertuples(index=False):
        table.add_row(
            line(row.service) or "(none)",
            line(row.environment),
            f"{row.days}",
            f"{row.logs:,}",
            f"{row.bytes / 1e6:,.1f}",
            f"{row.errors:,}",
            bars(row.hours),
            "" if row.last_day is None else f"{row.last_day}",
        )
    console.print(table)


def bars(values: Sequence[float]) -> str:
    """24 values as a line of bars."""
    most = max(max(values), 1e-9)
    return "".join(_BARS[round(v / most * (len(_BARS) - 1))] for v in values)
