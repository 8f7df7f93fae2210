"""`lipservice run`: a team's days through the graph in this process."""

from __future__ import annotations

from datetime import date

from lipservice_dagster.commands import findings
from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.local.in_process import RunError, graph
from lipservice_dagster.settings import Settings


def run(settings: Settings, team_id: int, first: date, last: date, *, replace: bool) -> None:
    """Materialise the days in one run and print what the last of them holds.

    ``replace``: also where the log store holds less of a day than is stored.
    """
    console = standard_console()
    with graph(settings) as found:
        with console.status(f"{settings.team_name(team_id)}: {first} to {last} through the graph …"):
            run_id = found.run(team_id, first, last, replace=replace)
        console.print(f"run {run_id} succeeded")
        failed = found.failed_checks(run_id)
        findings.print_day(console, found.database, settings, team_id, last)
    if failed:
        raise RunError("\n".join(failed))
