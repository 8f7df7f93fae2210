"""`lipservice dropped`: what is missing in a service's logs of a day."""

from __future__ import annotations

from datetime import date

import click
import numpy as np
from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.findings import line
from lipservice_dagster.commands.services import bars
from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.dropped import dropped
from lipservice_dagster.storage.services import find

_MOST_PATTERNS = 40


def run(settings: Settings, team_id: int, service: str, environment: str, day: date) -> None:
    """Print the service's patterns of the day, those of which most was dropped first.

    Raises a click error, which names the team's services, where there is no such one.
    """
    with stack.database(settings) as database:
        rows = dropped(database, team_id, day, service, environment)
        known = [(s.name, s.environment) for s in find(database, team_id=team_id)]
    if rows.empty and (service, environment) not in known:
        there = ", ".join(repr(name) + (f" in {of!r}" if of else "") for name, of in known) or "none at all"
        asked = repr(service) + (f" in {environment!r}" if environment else " without an environment")
        raise click.ClickException(f"Team {team_id} has no service {asked}. It has: {there}")
    console = standard_console()
    if rows.empty:
        console.print(
            f"There are no logs of {line(service) or '(none)'} on {day} in the graph: take the day through it first,"
            f" lipservice run --team {team_id} --day {day}"
        )
        return
    lost = rows.assign(dropped=rows["seen"] - rows["kept"])
    table = Table(title=f"{line(service) or '(none)'}, {day} (hours in UTC)", header_style="bold")
    for name in ("seen", "kept", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("dropped 00   06   12   18", no_wrap=True)
    table.add_column("pattern")
    patterns = lost.groupby(["signature", "template"], as_index=False)[["seen", "kept", "dropped"]].sum()
    largest = patterns.sort_values(["dropped", "seen", "signature"], ascending=[False, False, True])
    for row in largest.head(_MOST_PATTERNS).itertuples(index=False):
        hours = np.zeros(24)
        part = lost[lost["signature"] == row.signature]
        hours[part["hour"].to_numpy(int)] = part["dropped"].clip(lower=0)
        table.add_row(
            f"{row.seen:,.0f}",
            f"{row.kept:,.0f}",
            f"{row.kept / row.seen:.3g}",
            bars(hours.tolist()),
            line(row.template),
        )
    console.print(table)
    if (more := len(patterns) - _MOST_PATTERNS) > 0:
        console.print(f"… and {more} patterns more, of which less was dropped")
