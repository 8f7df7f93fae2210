"""`lipservice …`: the commands and what they take. What a command does is imported when it is called."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lipservice_dagster.settings import Settings

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Day(click.ParamType):
    """A UTC day: 2026-09-10, today or yesterday."""

    name = "day"

    def convert(self, value: str | date, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The day; a usage error says what is wrong."""
        from datetime import timedelta

        if isinstance(value, date):
            return value
        today = datetime.now(UTC).date()
        named = {"today": today, "yesterday": today - timedelta(days=1)}
        try:
            return named.get(value) or date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day; days read 2026-09-10, today or yesterday", param, ctx)


class End(click.ParamType):
    """A moment to come: 2026-11-27, 2026-11-27T18:00 (UTC where no zone is named), or from now: 90m, 12h, 3d."""

    name = "end"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment; a usage error says what is wrong."""
        from datetime import timedelta

        if isinstance(value, datetime):
            return value
        unit = {"m": "minutes", "h": "hours", "d": "days"}.get(value[-1:])
        try:
            if unit and value[:-1].isdecimal():
                return datetime.now(UTC) + timedelta(**{unit: int(value[:-1])})
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no end; ends read 2026-11-27 (its 00:00 UTC), 2026-11-27T18:00, 90m, 12h or 3d",
                param,
                ctx,
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


DAY = Day()
END = End()
team_option = click.option(
    "--team", "team_id", type=click.IntRange(0, 2**31 - 1), required=True, help="Number of the team."
)
environment_option = click.option(
    "--environment", default="", help="Environment of the service; empty where it has none."
)
actor_option = click.option("--by", "actor", required=True, help="Who decides this; kept in the ledger.")
reason_option = click.option("--reason", required=True, help="Why; kept in the ledger.")


def _settings() -> Settings:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from lipservice_dagster.settings import PREFIX, Settings, misspelled

    for name, meant in misspelled().items():
        click.echo(f"Warning: {name} is no setting and is not read; {meant} is one", err=True)
    try:
        return Settings()
    except SettingsError as error:
        # A value that should be JSON and is not; pydantic names the field.
        raise click.ClickException(f"The settings are not valid: {error} (it must be JSON)") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"The file .env in this folder is not UTF-8: {error}") from error
    except ValidationError as error:
        fields = (
            PREFIX + str(e["loc"][0]).upper() + "".join(f"[{part}]" for part in e["loc"][1:]) + ": " if e["loc"] else ""
            for e in error.errors()
        )
        problems = "\n".join(f"  {f}{e['msg']}" for f, e in zip(fields, error.errors(), strict=True))
        raise click.ClickException(
            f"The settings are not valid:\n{problems}\n`lipservice config --help` says more"
        ) from error


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


@cli.command()
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

    command.run(_settings(), teams=teams, days=days, until=until, logs_per_day=logs_per_day, seed=seed)


@cli.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the UI. Default: the setting webserver_port, 3000."
)
def dev(port: int | None) -> None:
    """Keep the embedded stack, the Dagster UI and the HTTP API (`lipservice serve`) running until Ctrl-C."""
    from lipservice_dagster.local.stack import dev as start

    settings = _settings()
    sys.exit(start(settings, port or settings.webserver_port, click.echo))


@cli.command()
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

    settings = _settings()
    sys.exit(command.run(settings, files, team_id, service, day, environment, year, again, rejects))


@cli.command()
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

    command.run(_settings(), files, service, environment, day, year, as_json)


@cli.command()
@team_option
@click.option("--day", type=DAY, help="The day; a single one.")
@click.option("--from", "first", type=DAY, help="The first of several days.")
@click.option("--to", "last", type=DAY, help="The last of several days.")
def run(team_id: int, day: date | None, first: date | None, last: date | None) -> None:
    """Take a team's day, or days, through the whole graph in this process, and print what was found."""
    from lipservice_dagster.commands import run as command

    if (day is None) == (first is None) or (first is None) != (last is None):
        raise click.UsageError("say either --day, or --from and --to")
    first, last = day or first, day or last
    if first is not None and last is not None:
        if last < first:
            raise click.UsageError(f"--to {last} lies before --from {first}")
        command.run(_settings(), team_id, first, last)


@cli.command()
def teams() -> None:
    """Every team that is known or logs, with its latest logs and its latest day that was made.

    LIPSERVICE_TEAMS=[1, 42] takes these teams through the graph only, LIPSERVICE_TEAMS_DENIED=[7] all but these. A team
    that stops logging, or is denied, stays with what is stored of it.
    """
    from lipservice_dagster.commands import teams as command

    command.run(_settings())


@cli.command()
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
    command.run(_settings(), teams, first, last, wait=not no_wait)


@cli.command()
@team_option
@click.option("--from", "first", type=DAY, help="First day. Default: seven days before --to.")
@click.option("--to", "last", type=DAY, default="today", show_default=True, help="Last day.")
def services(team_id: int, first: date | None, last: date) -> None:
    """A team's services with their volumes, in all and by hour of the day."""
    from lipservice_dagster.commands import services as command

    command.run(_settings(), team_id, first, last)


@cli.group()
def policy() -> None:
    """Policies and their releases."""


@policy.command("list")
@team_option
def policy_list(team_id: int) -> None:
    """What is in force for each service of a team."""
    from lipservice_dagster.commands import policy as command

    command.list_releases(_settings(), team_id)


@policy.command("show")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
@click.option("--day", type=DAY, help="The policy computed for this day. Default: the newest.")
@click.option("--in-force", is_flag=True, help="The document that is in force instead of the newest computed one.")
@click.option("--json", "as_json", is_flag=True, help="The document itself, as JSON.")
@click.option("--overlay", is_flag=True, help="With --json: the overlay now in force, overrides and boosts, instead.")
def policy_show(
    team_id: int, service: str, environment: str, day: date | None, in_force: bool, as_json: bool, overlay: bool
) -> None:
    """A service's policy: what is kept of which pattern, why, and what that saves."""
    from lipservice_dagster.commands import policy as command

    if overlay and not as_json:
        raise click.UsageError("--overlay goes with --json; without it, what is in force is shown below the policy")
    command.show(
        _settings(), team_id, service, environment, day=day, in_force=in_force, as_json=as_json, overlay=overlay
    )


@policy.command("history")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
def policy_history(team_id: int, service: str, environment: str) -> None:
    """Every release of a service, newest first: who and why."""
    from lipservice_dagster.commands import policy as command

    command.history(_settings(), team_id, service, environment)


@policy.command("diff")
@click.argument("one", required=False)
@click.argument("other", required=False)
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
def policy_diff(team_id: int, service: str, environment: str, one: str | None, other: str | None) -> None:
    """What changes from policy ONE to policy OTHER, in sentences, the largest changes of patterns first.

    Each is a day (2026-09-10), a version or its beginning, or in-force. By default ONE is what is in force and OTHER
    the newest computed. Overrides in force, which come first whatever the policy, are shown below.
    """
    from lipservice_dagster.commands import policy as command

    command.print_difference(_settings(), team_id, service, environment, one, other)


@policy.command("schema")
@click.option("--overlay", is_flag=True, help="Of the overlay (overrides and boosts) instead of the policy.")
def policy_schema(overlay: bool) -> None:
    """The JSON schema of the policy document."""
    from lipservice_dagster.commands import policy as command

    command.schema(overlay)


@policy.command("export")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
@click.option(
    "--format", "to", required=True, type=click.Choice(["otelcol", "vector", "fluentbit"]), help="The collector."
)
def policy_export(team_id: int, service: str, environment: str, to: str) -> None:
    """What is in force as configuration of a log collector: the policy, overrides and boosts, weights stamped.

    A service in shadow has everything kept. Make it again when the policy or what stands over it changes.
    """
    from lipservice_dagster.commands import policy as command

    command.export_policy(_settings(), team_id, service, environment, to)


def _release_options(function: click.decorators.FC) -> click.decorators.FC:
    for option in (
        reason_option,
        actor_option,
        click.option("--version", help="A version, or its beginning. Default: the newest computed."),
        click.option("--day", type=DAY, help="The policy computed for this day. Default: the newest."),
        environment_option,
        click.option("--service", required=True, help="Name of the service."),
        team_option,
    ):
        function = option(function)
    return function


@policy.command("release")
@_release_options
@click.option("--unproven", is_flag=True, help="Also where its backtest has not passed.")
def policy_release(
    team_id: int,
    service: str,
    environment: str,
    day: date | None,
    version: str | None,
    actor: str,
    reason: str,
    unproven: bool,
) -> None:
    """Make a service live: from now on a computed policy decides what is kept.

    Later days' policies that pass their backtest take its place by themselves, until a rollback or `policy shadow`.
    """
    from lipservice_dagster.commands import policy as command

    command.release(_settings(), team_id, service, environment, "live", day, version, actor, reason, unproven=unproven)


@policy.command("shadow")
@_release_options
def policy_shadow(
    team_id: int, service: str, environment: str, day: date | None, version: str | None, actor: str, reason: str
) -> None:
    """Put a computed policy in shadow: it decides and reports, and drops nothing."""
    from lipservice_dagster.commands import policy as command

    command.release(_settings(), team_id, service, environment, "shadow", day, version, actor, reason)


@policy.command("rollback")
@_release_options
def policy_rollback(
    team_id: int, service: str, environment: str, day: date | None, version: str | None, actor: str, reason: str
) -> None:
    """Go back to an earlier release and pin it: it stays in force until `policy unpin`.

    Without --day or --version to the last release that dropped logs by another version.
    """
    from lipservice_dagster.commands import policy as command

    command.rollback(_settings(), team_id, service, environment, day, version, actor, reason)


@policy.command("unpin")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
@actor_option
@reason_option
def policy_unpin(team_id: int, service: str, environment: str, actor: str, reason: str) -> None:
    """Let later days' policies take the place of what is pinned again."""
    from lipservice_dagster.commands import policy as command

    command.unpin(_settings(), team_id, service, environment, actor, reason)


@cli.command()
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
@click.option("--day", type=DAY, default="yesterday", show_default=True, help="The day.")
def dropped(team_id: int, service: str, environment: str, day: date) -> None:
    """What of a service's patterns was dropped on a day: seen, kept and rate, in all and by hour."""
    from lipservice_dagster.commands import dropped as command

    command.run(_settings(), team_id, service, environment, day)


@cli.command()
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
    command.run(_settings(), first, last)


@cli.group()
def override() -> None:
    """What people say about patterns and services, above every policy, until it ends.

    \b
    lipservice override add --team 7 --service shop --never-sample --template "order <*> placed" --no-end \\
        --owner ada --reason "finance reads each of them"
    lipservice override add --team 7 --service shop --cap 0.1 --until 3d --owner ada --reason "noisy rollout"
    lipservice override list --team 7
    lipservice override remove 12 --team 7 --by ada --reason "the rollout is over"
    """


@override.command("add")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@click.option("--environment", help="Only in this environment; empty for logs without one. Default: in every one.")
@click.option("--template", help="Only this pattern: its text, with <*> for what varies, or one of its messages.")
@click.option("--signature", help="Only this pattern: its signature, as policies list it.")
@click.option("--never-sample", is_flag=True, help="Keep all of it.")
@click.option("--cap", type=float, help="Keep at most this share of it, below 1. Errors are kept all the same.")
@click.option("--lift-error-like", is_flag=True, help="Sample the pattern though its text reads like an error.")
@click.option("--until", type=END, help="When it ends: 2026-11-27, 2026-11-27T18:00, or 90m, 12h, 3d from now.")
@click.option("--no-end", is_flag=True, help="It stays until it is removed; only with --never-sample.")
@click.option("--owner", required=True, help="Who answers for it; kept in the ledger.")
@reason_option
def override_add(
    team_id: int,
    service: str,
    environment: str | None,
    template: str | None,
    signature: str | None,
    never_sample: bool,
    cap: float | None,
    lift_error_like: bool,
    until: datetime | None,
    no_end: bool,
    owner: str,
    reason: str,
) -> None:
    """Say that a pattern, or a whole service, is never sampled, or kept at most at a rate.

    It holds from now on, before the policy in force and before boosts. Without --template and --signature the whole
    service is meant; a word about a pattern comes before one about its service.
    """
    from lipservice_dagster.commands import override as command

    said = {"never_sample": never_sample, "cap": cap is not None, "lift_error_like": lift_error_like}
    kinds = [kind for kind, wanted in said.items() if wanted]
    if len(kinds) != 1:
        raise click.UsageError("say one of --never-sample, --cap RATE and --lift-error-like")
    if cap is not None and not 0 < cap < 1:
        raise click.UsageError(f"--cap {cap:g} is out of bounds: a share above 0 and below 1")
    if (until is None) != no_end:
        raise click.UsageError("say when it ends, --until, or that it does not, --no-end")
    if no_end and not never_sample:
        raise click.UsageError("--no-end goes with --never-sample only: what loses logs must name its end")
    command.add(
        _settings(),
        team_id,
        service,
        environment,
        kinds[0],
        rate=cap,
        until=until,
        template=template,
        signature=signature,
        owner=owner,
        reason=reason,
    )


@override.command("list")
@team_option
@click.option("--service", help="Only of this service.")
@click.option("--history", "with_history", is_flag=True, help="Every entry: added, removed, expired; newest first.")
def override_list(team_id: int, service: str | None, with_history: bool) -> None:
    """The overrides in force, with owner, reason and end."""
    from lipservice_dagster.commands import override as command

    command.show(_settings(), team_id, service, with_history)


@override.command("remove")
@click.argument("override_id", metavar="ID", type=int)
@team_option
@actor_option
@reason_option
def override_remove(override_id: int, team_id: int, actor: str, reason: str) -> None:
    """End an override before its time; ID is its number in the list."""
    from lipservice_dagster.commands import override as command

    command.remove(_settings(), team_id, override_id, actor, reason)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the setting api_port, 8080.")
def serve(host: str, port: int | None) -> None:
    """Serve the HTTP API until Ctrl-C: policies for samplers and collectors (`lipservice dev` does it too).

    Who asks needs a key (`lipservice keys create`). It speaks plain HTTP: put what speaks TLS in front of it where it
    leaves the machine. Its routes are shown at /docs.
    """
    from lipservice_dagster.serving.server import serve as command

    settings = _settings()
    command(settings, host, port or settings.api_port)


@cli.group()
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

    command.create(_settings(), team_id, name, access)


@keys.command("list")
@team_option
def keys_list(team_id: int) -> None:
    """A team's keys, without their secrets."""
    from lipservice_dagster.commands import keys as command

    command.show(_settings(), team_id)


@keys.command("revoke")
@click.argument("key_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@team_option
def keys_revoke(key_id: int, team_id: int) -> None:
    """End a key, within a second; ID is its number in the list."""
    from lipservice_dagster.commands import keys as command

    command.revoke(_settings(), team_id, key_id)


@cli.group()
def db() -> None:
    """The tables in PostgreSQL."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the tables to the newest migration (demo, dev, run and ingest do it for you)."""
    from lipservice_dagster.local.stack import database

    with database(_settings()) as found:
        click.echo(f"the tables are at migration {found.revision()}")


@cli.command()
def config() -> None:
    """Each setting with its value and where it came from; secrets are not shown.

    A setting is an environment variable LIPSERVICE_…, or a line of a file .env in the current folder.
    """
    from lipservice_dagster.commands import config as command

    command.run(_settings())


@cli.command()
def doctor() -> None:
    """Look at what LipService stands on, and say what to do about what is not well.

    The log source (with PostHog's API its key and scopes), PostgreSQL and its migrations, Dagster's instance, versions,
    the clock and the disk. Starts and changes nothing; exits with 1 where something is bad.
    """
    from lipservice_dagster.commands import doctor as command

    sys.exit(command.run(_settings()))


@cli.command()
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


@cli.command()
def templates() -> None:
    """Read messages from standard input, one a line; write SIGNATURE<TAB>TEMPLATE for each, in order."""
    from lipservice_dagster.templates_command import run as command

    command(sys.stdin.buffer, sys.stdout.buffer)


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
