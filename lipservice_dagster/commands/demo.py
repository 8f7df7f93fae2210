"""`lipservice demo`: demo logs through the whole graph."""

from __future__ import annotations

import time
from datetime import date, timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lipservice_dagster.commands import findings
from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.marts import print_savings
from lipservice_dagster.commands.policy import print_policy
from lipservice_dagster.core.policy import parse
from lipservice_dagster.local.demo import fill
from lipservice_dagster.local.demo_logs import incidents, team_ids, team_name
from lipservice_dagster.local.in_process import RunError, graph
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import releases
from lipservice_dagster.storage.team_days import read


def run(settings: Settings, *, teams: int, days: int, until: date, logs_per_day: int, seed: int) -> None:
    """Fill the embedded log store, materialise every asset for every team-day, print what was found."""
    began = time.monotonic()
    if settings.logs_dsn is not None and settings.logs_url() != f"parquet://{settings.embedded_logs}":
        raise RunError("The demo fills the embedded log store: unset LIPSERVICE_LOGS_DSN for it")
    first = until - timedelta(days=days - 1)
    if first < settings.partitions_start():
        settings = settings.model_copy(update={"first_day": first})
    names = {t: team_name(t) for t in team_ids(teams)} | settings.team_names
    settings = settings.model_copy(update={"team_names": names})
    console = standard_console()
    console.print(f"The embedded stack lives in {settings.home}", highlight=False)
    with _progress(console) as progress:
        starting = progress.add_task("starting PostgreSQL", total=1)
        with graph(settings) as found:
            progress.update(starting, completed=1)
            writing = progress.add_task("writing demo logs (team-days)", total=teams * days)
            logs = fill(
                settings.home,
                settings.embedded_logs,
                teams=teams,
                days=days,
                until=until,
                logs_per_day=logs_per_day,
                seed=seed,
                progress=lambda done, _: progress.update(writing, completed=done),
            )
            running = progress.add_task("materialising the graph (teams)", total=teams)
            failed = []
            for team_id in team_ids(teams):
                failed += found.failed_checks(found.run(team_id, first, until))
                progress.advance(running)
            building = progress.add_task("building the marts with dbt", total=1)
            found.make_marts(first, until)
            progress.update(building, completed=1)
            progress.stop()
            for team_id in team_ids(teams):
                findings.print_day(console, found.database, settings, team_id, until)
            console.rule("[bold]one service's policy[/bold]")
            rows = read(found.database, "policies", [TeamDay(team_ids(teams)[0], until)])
            if not rows.empty:
                largest = rows.sort_values(["bytes", "service"], ascending=[False, True]).iloc[0]
                in_force = [
                    f"{r.state}, version {r.version} of {r.day}"
                    for r in releases.in_force(found.database, team_ids(teams)[0], largest["service"])
                    if r.environment == largest["environment"]
                ]
                state = f"in force: {in_force[0] if in_force else 'nothing'}"
                print_policy(parse(str(largest["document"])), largest["version"], state, console)
            console.rule("[bold]all teams, from the marts[/bold]")
            print_savings(console, found.database, settings, first, until)
    if failed:
        raise RunError("\n".join(failed))
    console.rule("[bold]what was put in[/bold]")
    for incident in incidents(until, days, teams):
        console.print(
            f"  {names[incident.team_id]}: {incident.kind} in {incident.service} on {incident.day},"
            f" {incident.start_hour:02}:00 to {incident.end_hour:02}:00",
            highlight=False,
        )
    console.print(
        f"\n{logs:,} logs of {teams} teams and {days} days went through the graph in {time.monotonic() - began:.0f} s."
        "\nNothing is left running. To look at it in the Dagster UI: [bold]make dev[/bold], then open"
        f" http://127.0.0.1:{settings.webserver_port}",
        highlight=False,
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
