"""`lipservice override …`."""

from __future__ import annotations

from datetime import datetime

import click

from lipservice_dagster.cli.options import END, actor_option, read_settings, reason_option, team_option


@click.group()
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
    from lipservice_dagster.core.overlay import LEAST_CAP

    said = {"never_sample": never_sample, "cap": cap is not None, "lift_error_like": lift_error_like}
    kinds = [kind for kind, wanted in said.items() if wanted]
    if len(kinds) != 1:
        raise click.UsageError("say one of --never-sample, --cap RATE and --lift-error-like")
    if cap is not None and not LEAST_CAP <= cap < 1:
        raise click.UsageError(f"--cap {cap:g} is out of bounds: a share from {LEAST_CAP:g} on, below 1")
    if (until is None) != no_end:
        raise click.UsageError("say when it ends, --until, or that it does not, --no-end")
    if no_end and not never_sample:
        raise click.UsageError("--no-end goes with --never-sample only: what loses logs must name its end")
    command.add(
        read_settings(),
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

    command.show(read_settings(), team_id, service, with_history)


@override.command("remove")
@click.argument("override_id", metavar="ID", type=int)
@team_option
@actor_option
@reason_option
def override_remove(override_id: int, team_id: int, actor: str, reason: str) -> None:
    """End an override before its time; ID is its number in the list."""
    from lipservice_dagster.commands import override as command

    command.remove(read_settings(), team_id, override_id, actor, reason)
