"""Commands that make team-days, and say which there are: run, backfill, teams, services, marts."""

from __future__ import annotations

from datetime import date

import click

from lipservice_dagster.cli.options import DAY, read_settings, team_option


@click.command()
@team_option
@click.option("--day", type=DAY, help="The day; a single one.")
@click.option("--from", "first", type=DAY, help="The first of several days.")
@click.option("--to", "last", type=DAY, help="The last of several days.")
@click.option("--replace", is_flag=True, help="Also where the log store holds less of a day than is stored.")
def run(team_id: int, day: date | None, first: date | None, last: date | None, replace: bool) -> None:
    """Take a team's day, or days, through the whole graph in this process, and print what was found."""
    from lipservice_dagster.commands import run as command

    if (day is None) == (first is None) or (first is None) != (last is None):
        raise click.UsageError("say either --day, or --from and --to")
    first, last = day or first, day or last
    if first is not None and last is not None:
        if last < first:
            raise click.UsageError(f"--to {last} lies before --from {first}")
        command.run(read_settings(), team_id, first, last, replace=replace)


@click.command()
@click.option("--teams", required=True, help="Numbers of teams, 1,4-6; or all, those that are known.")
@click.option("--from", "first", type=DAY, required=True, help="First day.")
@click.option("--to", "last", type=DAY, required=True, help="Last day.")
@click.option("--no-wait", is_flag=True, help="Ask for it and end; the daemon of `lipservice dev` makes it.")
def backfill(teams: str, first: date, last: date, no_wait: bool) -> None:
    """Make any days of any teams (again), in few wide runs, through Dagster's daemon; the UI shows it too.

    Where no daemon runs, one is started for as long as it takes. It may be stopped at any time: the same command goes
    on with what is left. Days that the log store does not hold any more keep what is stored.

    \b
    lipservice backfill --teams 1,4-6 --from 2026-09-01 --to yesterday
    lipservice backfill --teams all --from 2026-09-10 --to 2026-09-10
    """
    from lipservice_dagster.commands import backfill as command
    from lipservice_dagster.core.backfill import teams_of

    if last < first:
        raise click.UsageError(f"--to {last} lies before --from {first}")
    if teams.strip() != "all":
        try:
            teams_of(teams)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    command.run(read_settings(), teams, first, last, wait=not no_wait)


@click.command()
def teams() -> None:
    """Every team that is known or logs, with its latest logs and its latest day that was made.

    LIPSERVICE_TEAMS=[1, 42] takes these teams through the graph only, LIPSERVICE_TEAMS_DENIED=[7] all but these. A team
    that stops logging, or is denied, stays with what is stored of it.
    """
    from lipservice_dagster.commands import teams as command

    command.run(read_settings())


@click.command()
@team_option
@click.option("--from", "first", type=DAY, help="First day. Default: seven days before --to.")
@click.option("--to", "last", type=DAY, default="today", show_default=True, help="Last day.")
def services(team_id: int, first: date | None, last: date) -> None:
    """A team's services with their volumes, in all and by hour of the day."""
    from lipservice_dagster.commands import services as command

    command.run(read_settings(), team_id, first, last)


@click.command()
@click.option("--from", "first", type=DAY, help="First day. Default: the first whose tables have changed.")
@click.option("--to", "last", type=DAY, help="Last day. Default: the last whose tables have changed.")
def marts(first: date | None, last: date | None) -> None:
    """Make the marts of all teams with dbt: savings, noisiest patterns, anomalies by service, policy history.

    Without days, those whose tables have changed since their marts were made; the daemon does this by itself once the
    teams of a day are done. The marts are tables in PostgreSQL (schema `marts`, one row names its team and day).
    """
    from lipservice_dagster.commands import marts as command

    if first is not None and last is not None and last < first:
        raise click.UsageError("--to lies before --from")
    command.run(read_settings(), first, last)
