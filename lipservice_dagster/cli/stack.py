"""Commands of the stack: dev, serve, keys, db, config, doctor."""

from __future__ import annotations

import sys

import click

from lipservice_dagster.cli.options import read_settings, team_option


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the UI. Default: the setting webserver_port, 3000."
)
def dev(port: int | None) -> None:
    """Keep the embedded stack, the Dagster UI and the HTTP API (`lipservice serve`) running until Ctrl-C."""
    from lipservice_dagster.local.stack import dev as start

    settings = read_settings()
    sys.exit(start(settings, port or settings.webserver_port, click.echo))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the setting api_port, 8080.")
def serve(host: str, port: int | None) -> None:
    """Serve the HTTP API until Ctrl-C: policies for samplers and collectors (`lipservice dev` does it too).

    Who asks needs a key (`lipservice keys create`). It speaks plain HTTP: put what speaks TLS in front of it where it
    leaves the machine. Its routes are shown at /docs.
    """
    from lipservice_dagster.serving.server import serve as command

    settings = read_settings()
    command(settings, host, port or settings.api_port)


@click.group()
def keys() -> None:
    """Keys of the HTTP API, each of one team.

    \b
    lipservice keys create --team 7 --name "shop's samplers" --access report
    lipservice keys list   --team 7
    lipservice keys revoke 3 --team 7
    """


@keys.command("create")
@team_option
@click.option("--name", required=True, help="Whose it is, for people; kept in the ledger with what it does.")
@click.option(
    "--access",
    type=click.Choice(["read", "report", "write"]),
    required=True,
    help="read: what there is of the team. report: that, and what a sampler reports. write: everything.",
)
def keys_create(team_id: int, name: str, access: str) -> None:
    """Make a key and print it; only its hash is stored."""
    from lipservice_dagster.commands import keys as command

    command.create(read_settings(), team_id, name, access)


@keys.command("list")
@team_option
def keys_list(team_id: int) -> None:
    """A team's keys, without their secrets."""
    from lipservice_dagster.commands import keys as command

    command.show(read_settings(), team_id)


@keys.command("revoke")
@click.argument("key_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@team_option
def keys_revoke(key_id: int, team_id: int) -> None:
    """End a key, within a second; ID is its number in the list."""
    from lipservice_dagster.commands import keys as command

    command.revoke(read_settings(), team_id, key_id)


@click.group()
def db() -> None:
    """The tables in PostgreSQL."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the tables to the newest migration (demo, dev, run and ingest do it for you)."""
    from lipservice_dagster.local.stack import database

    with database(read_settings()) as found:
        click.echo(f"the tables are at migration {found.revision()}")


@click.command()
def config() -> None:
    """Each setting with its value and where it came from; secrets are not shown.

    A setting is an environment variable LIPSERVICE_…, or a line of a file .env in the current folder.
    """
    from lipservice_dagster.commands import config as command

    command.run(read_settings())


@click.command()
def doctor() -> None:
    """Look at what LipService stands on, and say what to do about what is not well.

    The log source (with PostHog's API its key and scopes), PostgreSQL and its migrations, Dagster's instance, versions,
    the clock and the disk. Starts and changes nothing; exits with 1 where something is bad.
    """
    from lipservice_dagster.commands import doctor as command

    sys.exit(command.run(read_settings()))
