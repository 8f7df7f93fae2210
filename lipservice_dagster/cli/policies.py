"""`lipservice policy …` and `lipservice dropped`."""

from __future__ import annotations

from datetime import date

import click

from lipservice_dagster.cli.options import (
    DAY,
    actor_option,
    environment_option,
    read_settings,
    reason_option,
    team_option,
)


@click.group()
def policy() -> None:
    """Policies and their releases."""


@policy.command("list")
@team_option
def policy_list(team_id: int) -> None:
    """What is in force for each service of a team."""
    from lipservice_dagster.commands import policy as command

    command.list_releases(read_settings(), team_id)


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

    if in_force and day is not None:
        raise click.UsageError("say --day or --in-force: what is in force may be of another day")
    if overlay and not as_json:
        raise click.UsageError("--overlay goes with --json; without it, what is in force is shown below the policy")
    command.show(
        read_settings(), team_id, service, environment, day=day, in_force=in_force, as_json=as_json, overlay=overlay
    )


@policy.command("history")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
def policy_history(team_id: int, service: str, environment: str) -> None:
    """Every release of a service, newest first: who and why."""
    from lipservice_dagster.commands import policy as command

    command.history(read_settings(), team_id, service, environment)


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

    command.print_difference(read_settings(), team_id, service, environment, one, other)


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

    command.export_policy(read_settings(), team_id, service, environment, to)


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

    command.release(
        read_settings(), team_id, service, environment, "live", day, version, actor, reason, unproven=unproven
    )


@policy.command("shadow")
@_release_options
def policy_shadow(
    team_id: int, service: str, environment: str, day: date | None, version: str | None, actor: str, reason: str
) -> None:
    """Put a computed policy in shadow: it decides and reports, and drops nothing."""
    from lipservice_dagster.commands import policy as command

    command.release(read_settings(), team_id, service, environment, "shadow", day, version, actor, reason)


@policy.command("rollback")
@_release_options
def policy_rollback(
    team_id: int, service: str, environment: str, day: date | None, version: str | None, actor: str, reason: str
) -> None:
    """Go back to an earlier release and pin it: it stays in force until `policy unpin`.

    Without --day or --version to the last release that dropped logs by another version.
    """
    from lipservice_dagster.commands import policy as command

    command.rollback(read_settings(), team_id, service, environment, day, version, actor, reason)


@policy.command("unpin")
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
@actor_option
@reason_option
def policy_unpin(team_id: int, service: str, environment: str, actor: str, reason: str) -> None:
    """Let later days' policies take the place of what is pinned again."""
    from lipservice_dagster.commands import policy as command

    command.unpin(read_settings(), team_id, service, environment, actor, reason)


@click.command()
@team_option
@click.option("--service", required=True, help="Name of the service.")
@environment_option
@click.option("--day", type=DAY, default="yesterday", show_default=True, help="The day.")
def dropped(team_id: int, service: str, environment: str, day: date) -> None:
    """What of a service's patterns was dropped on a day: seen, kept and rate, in all and by hour."""
    from lipservice_dagster.commands import dropped as command

    command.run(read_settings(), team_id, service, environment, day)
