"""`lipservice …`: the commands and what they take. What a command does is imported when it is called."""

from __future__ import annotations

import sys

import click

from lipservice_dagster.cli import files, graph, overrides, policies, stack

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="lipservice-dagster", prog_name="lipservice")
def cli() -> None:
    """LipService: sampling policies for a team's logs, proven on real days before they go live.

    \b
    A first look, on data of its own:   lipservice demo, then lipservice dev
    What is in your own log files:      lipservice analyze app.log
    The same, day by day:               lipservice ingest app.log --team 7 --service shop
                                        lipservice run --team 7 --day yesterday
                                        lipservice policy show --team 7 --service shop
    Settings:                           lipservice config
    """


for command in (
    files.demo,
    stack.dev,
    files.ingest,
    files.analyze,
    graph.run,
    graph.teams,
    graph.backfill,
    graph.services,
    policies.policy,
    policies.dropped,
    graph.marts,
    overrides.override,
    stack.serve,
    stack.keys,
    stack.db,
    stack.config,
    stack.doctor,
    files.anomalies,
    files.templates,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors that are told to people end it without a traceback."""
    try:
        cli.main(standalone_mode=True)
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        click.echo(f"Error: {told}", err=True)
        sys.exit(1)


def _told(error: Exception) -> str | None:
    """What a person is told of an error that is not a fault of ours; None for one that is.

    By name, so that a short command need not import the rooms that raise them.
    """
    names = {t.__name__ for t in type(error).__mro__}
    if type(error).__module__.startswith("lipservice_dagster.") and names & _SAY_IT_THEMSELVES:
        return str(error)
    if type(error).__module__.startswith("sqlalchemy.") and "OperationalError" in names:
        return f"PostgreSQL: {str(getattr(error, 'orig', error)).strip()}"
    if type(error).__module__.startswith("adbc_driver_manager") and "OperationalError" in names:
        return f"PostgreSQL: {str(error).strip()}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}. Mend that, or set LIPSERVICE_HOME to a folder of your own"
    return None


_SAY_IT_THEMSELVES = {
    "StackError",
    "PostgresError",
    "DatabaseError",
    "LogSourceError",
    "LogStoreError",
    "UnknownPolicyError",
    "OpenDayError",
    "OverrideError",
    "PolicyError",
    "UnprovenError",
    "NotPinnedError",
    "UnknownKeyError",
    "PinnedError",
    "UnaccountableError",
    "IngestError",
    "RunError",
    "AnalysisError",
    "AdvisorError",
    "DbtError",
}
