"""Commands over log files, counts and messages: demo, ingest, analyze, anomalies, templates."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import click

from lipservice_dagster.cli.options import DAY, read_settings, team_option


@click.command()
@click.option("--teams", default=3, show_default=True, type=click.IntRange(1, 1000), help="How many teams.")
@click.option(
    "--days", default=15, show_default=True, type=click.IntRange(1, 100), help="How many days, the last with incidents."
)
@click.option("--until", type=DAY, default="yesterday", show_default=True, help="The last day.")
@click.option(
    "--logs-per-day", default=30_000, show_default=True, type=click.IntRange(100), help="Logs of a team's weekday."
)
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same logs.")
def demo(teams: int, days: int, until: date, logs_per_day: int, seed: int) -> None:
    """Take days of demo logs through the whole graph and print what was found.

    Starts the embedded stack, writes the demo teams' logs, materialises every asset through Dagster and ends the stack
    again. What it made stays: `lipservice dev` shows it. It can be run again.
    """
    from lipservice_dagster.commands import demo as command

    command.run(read_settings(), teams=teams, days=days, until=until, logs_per_day=logs_per_day, seed=seed)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@team_option
@click.option("--service", help="Name of the service, for lines that do not say theirs.")
@click.option("--day", type=DAY, help="Put all logs on this UTC day; the time of day in a line is kept.")
@click.option("--environment", default="", help="Environment of the service, such as production.")
@click.option(
    "--year",
    type=click.IntRange(1970, 2299),
    help="Year of times that name none. Default: the latest that is not after the file.",
)
@click.option("--again", is_flag=True, help="Store also what was stored before.")
@click.option("--rejects", type=click.Path(path_type=Path), help="Write the lines that could not be read to this file.")
def ingest(
    files: tuple[Path, ...],
    team_id: int,
    service: str | None,
    day: date | None,
    environment: str,
    year: int | None,
    again: bool,
    rejects: Path | None,
) -> None:
    """Read FILES, folders of them, or standard input (none, or -) into the embedded log store.

    Lines are text, syslog, JSON, logfmt or a container runtime's; OpenTelemetry's logs are read in JSON and protobuf;
    gzip, zstd, xz and bzip2 are unpacked. Timestamps, severities and services are found in the lines, and the lines of
    a stack trace become one log; --day puts lines without a date on a day. A file that was read before is left out, and
    of one that has grown only what is new is read. What cannot be read is counted and shown.

    \b
    lipservice ingest app.log --team 7 --service shop --day yesterday
    kubectl logs deploy/shop --timestamps | lipservice ingest --team 7 --service shop
    """
    from lipservice_dagster.commands import ingest as command

    settings = read_settings()
    sys.exit(command.run(settings, files, team_id, service, day, environment, year, again, rejects))


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--service", help="Name of the service, for lines that do not say theirs. Default: the file's name.")
@click.option("--environment", default="", help="Environment of the service, such as production.")
@click.option("--day", type=DAY, help="Take all logs as those of this UTC day; the time of day in a line is kept.")
@click.option(
    "--year",
    type=click.IntRange(1970, 2299),
    help="Year of times that name none. Default: the latest that is not after the file.",
)
@click.option("--json", "as_json", is_flag=True, help="All that was found, as JSON; policies as their documents.")
def analyze(
    files: tuple[Path, ...], service: str | None, environment: str, day: date | None, year: int | None, as_json: bool
) -> None:
    """Say what is in FILES, folders of them, or standard input (none, or -), and what a policy would save.

    Lines, span, severities, services, patterns, what is out of the ordinary, and the sampling policy that an average
    day of these logs asks for. They are read as by `lipservice ingest`, into a folder that is gone afterwards: nothing
    is kept, nothing leaves the machine, nothing need be set up.

    \b
    lipservice analyze app.log
    lipservice analyze /var/log/nginx --json | jq .savings
    """
    from lipservice_dagster.commands import analyze as command

    command.run(read_settings(), files, service, environment, day, year, as_json)


@click.command()
@click.argument(
    "counts", metavar="COUNTS.csv", type=click.Path(path_type=Path, allow_dash=True, exists=True, dir_okay=False)
)
@click.option(
    "--false-alarms",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PER_DAY",
    help="How many alarms a day there may be while nothing is out of the ordinary; 0.05 is one in twenty days. Of a "
    "series coarser than a day: how many a point.",
)
@click.option(
    "--detector",
    default="predictive",
    show_default=True,
    type=click.Choice(["predictive", "ratio", "zscore"]),
    help="A plain rule instead: at least twice (or half) the mean of the same time of day in the 14 days before, or 3 "
    "standard deviations from it.",
)
@click.option("--all", "everything", is_flag=True, help="Print every point, those that are not flagged too.")
@click.pass_context
def anomalies(context: click.Context, counts: Path, false_alarms: float, detector: str, everything: bool) -> None:
    """Print the points of a count series that are out of the ordinary.

    COUNTS.csv (or -, standard input) has columns timestamp and value: a point every few minutes, hour or day, in rising
    order. Times are ISO 8601, UTC where they name no zone. Values are counts, or anything else that is not negative;
    gaps and empty values are points that are not known. Each point is judged by the points before it alone: by hour of
    the day and weekday where the series has such rhythms, by where it stood last, and by how far it usually strays.
    Neighbouring points add up, so that a moderate shift that stays is found as well, and learnt after a day or two. The
    first day (and at least 14 points) is only learnt from.

    
    Written to standard output, as CSV:
      timestamp,value  as they are in the file
      expected         what the point should have been
      p_value          how likely an ordinary point would begin an alarm this strong
      score            minus the logarithm (base 10) of how many alarms at least this strong an ordinary day has:
                       0 once a day, 1 once in 10 days, 2 once in 100. Flagged is what reaches --false-alarms
    With --detector ratio the score is the ratio or its inverse, with zscore the |z|; a ratio has no p_value.
    What was read, which gaps there are and how much was flagged goes to standard error.

    
    lipservice anomalies logins.csv
    lipservice anomalies --false-alarms 0.5 --all logins.csv > judged.csv
    """
    from lipservice_dagster.commands import anomalies as command

    said = context.get_parameter_source("false_alarms") is not click.core.ParameterSource.DEFAULT
    if detector != "predictive" and said:
        raise click.UsageError(f"--false-alarms has no meaning with --detector {detector}: it knows no such rate")
    command.run(counts, false_alarms, everything, detector)


@click.command()
def templates() -> None:
    """Read messages from standard input, one a line; write SIGNATURE<TAB>TEMPLATE for each, in order."""
    from lipservice_dagster.templates_command import run as command

    command(sys.stdin.buffer, sys.stdout.buffer)
