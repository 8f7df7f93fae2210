"""`lipservice marts`: what all teams' days say together, made by dbt."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.local.in_process import graph
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database

_SAVINGS = """
SELECT team_id, sum(policy_bytes) AS bytes, sum(policy_saved_bytes) AS expected, sum(policy_saved_money) AS money,
       sum(live_saved_bytes) AS measured, count(DISTINCT day) AS days
  FROM {schema}.savings_by_day WHERE day BETWEEN :first AND :last GROUP BY team_id ORDER BY bytes DESC, team_id LIMIT 20
"""


def run(settings: Settings, first: date | None, last: date | None) -> None:
    """Make the marts of these days, by default of all whose tables have changed since, and print savings by team."""
    console = standard_console()
    with graph(settings) as found:
        stale = found.stale_marts(first, last)
        if first is None or last is None:
            if not stale:
                console.print("the marts hold what the tables of every finished day hold: nothing to do")
                return
            first, last = first or stale[0], last or stale[-1]
        with console.status(f"marts of {first} to {last} …"):
            run_id = found.make_marts(first, last)
        console.print(f"run {run_id} succeeded: the marts of {first} to {last} are in schema {settings.marts_schema}")
        print_savings(console, found.database, settings, first, last)


def print_savings(console: Console, database: Database, settings: Settings, first: date, last: date) -> None:
    """The teams with the most bytes in these days: what their policies would save, and what live ones saved."""
    with database.engine.connect() as connection:
        rows = connection.execute(
            sa.text(_SAVINGS.format(schema=settings.marts_schema)), {"first": first, "last": last}
        ).all()
    table = Table(title=f"savings, {first} to {last}", title_justify="left")
    for column in ("team", "days", "MB", "expected MB saved", "expected money saved", "measured MB saved"):
        table.add_column(column, justify="left" if column == "team" else "right")
    for row in rows:
        measured = "nothing live" if row.measured is None else f"{row.measured / 1e6:,.1f}"
        figures = f"{row.bytes / 1e6:,.1f}", f"{row.expected / 1e6:,.1f}", f"{row.money:,.4f}", measured
        table.add_row(settings.team_name(row.team_id), str(row.days), *figures)
    console.print(table)
