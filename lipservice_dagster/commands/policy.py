"""`lipservice policy …`: what is computed, what is in force, and people's releases."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import click
from rich.console import Console
from rich.table import Table

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.commands.findings import line
from lipservice_dagster.core import frames
from lipservice_dagster.core.exports import export
from lipservice_dagster.core.overlay import Overlay, describe, overlay_document, overlay_schema
from lipservice_dagster.core.policy import Policy, diff, json_schema, parse
from lipservice_dagster.local import stack
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import materializations, releases
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.served import Scope, overlays, served, served_of

_MOST_PATTERNS = 25


def list_releases(settings: Settings, team_id: int) -> None:
    """Print what is in force for each service."""
    with stack.database(settings) as database:
        rows = releases.in_force(database, team_id)
    if not rows:
        click.echo(f"{settings.team_name(team_id)} has no releases yet: they come with the first day in the graph")
        return
    _table(rows, f"{settings.team_name(team_id)}: in force")


def history(settings: Settings, team_id: int, service: str, environment: str) -> None:
    """Print every release of a service."""
    with stack.database(settings) as database:
        rows = releases.history(database, team_id, service, environment)
        if not rows:
            releases.computed(database, team_id, service, environment)  # raises, and names the services there are
    _table(rows, f"{settings.team_name(team_id)}: releases of {service or '(none)'}")


def release(
    settings: Settings,
    team_id: int,
    service: str,
    environment: str,
    state: str,
    day: date | None,
    version: str | None,
    actor: str,
    reason: str,
    *,
    unproven: bool = False,
) -> None:
    """Append a person's release of a computed policy; what drops logs must have passed its backtest, or be unproven."""
    with stack.database(settings) as database:
        day, version, document = releases.computed(database, team_id, service, environment, day=day, version=version)
        parse(document)
        _require_whole_day(database, team_id, day)
        passed, why = releases.verdict(database, team_id, service, environment, day, version)
        if state in releases.DROPPING and not (passed or unproven):
            raise releases.UnprovenError(
                f"The policy of {day} has not passed its backtest. {why} Name an earlier day with --day, wait for the"
                " next one, or release it all the same with --unproven"
            )
        releases.add_by_hand(
            database,
            releases.Release(team_id, service, environment, day, version, state, document, actor, reason),
        )
    click.echo(f"{service or '(none)'}: version {version} of {day} is {state} from now on")


def rollback(
    settings: Settings,
    team_id: int,
    service: str,
    environment: str,
    day: date | None,
    version: str | None,
    actor: str,
    reason: str,
) -> None:
    """Pin an earlier release."""
    with stack.database(settings) as database:
        entry = releases.roll_back(
            database, team_id, service, environment, day=day, version=version, actor=actor, reason=reason
        )
    click.echo(
        f"{service or '(none)'}: back at version {entry.version} of {entry.day}, which is pinned: it stays until"
        " `lipservice policy unpin`"
    )


def unpin(settings: Settings, team_id: int, service: str, environment: str, actor: str, reason: str) -> None:
    """Let the graph move again what is pinned."""
    with stack.database(settings) as database:
        entry = releases.unpin(database, team_id, service, environment, actor=actor, reason=reason)
    click.echo(
        f"{service or '(none)'}: version {entry.version} of {entry.day} stays live until a later day's policy passes"
    )


def _require_whole_day(database: Database, team_id: int, day: date) -> None:
    at = TeamDay(team_id, day)
    entry = materializations.of(database, "raw_logs", [at]).get(at)
    if entry is None or entry.hours != frames.HOURS:
        raise releases.OpenDayError(
            f"{day} was read while it was open ({entry.hours if entry else 0} of 24 hours): policies are released from"
            f" whole days. Take it through the graph again, lipservice run --team {team_id} --day {day}, or name an"
            " earlier one with --day"
        )


def show(
    settings: Settings,
    team_id: int,
    service: str,
    environment: str,
    *,
    day: date | None,
    in_force: bool,
    as_json: bool,
    overlay: bool = False,
) -> None:
    """Print a policy and what is in force over it; as JSON the policy's document, or the overlay's."""
    with stack.database(settings) as database:
        made, version, document = releases.computed(database, team_id, service, environment, day=day)
        passed, why = releases.verdict(database, team_id, service, environment, made, version)
        scope = Scope(team_id, service, environment)
        current = served_of(database, [scope], datetime.now(UTC)).get(scope)
        said = current.overlay if current else _overlay_now(database, *scope)
    if in_force:
        if current is None:
            raise releases.UnknownPolicyError(f"Team {team_id} has no release of {service!r} yet")
        version, document = current.version, current.document
    if as_json:
        shown = overlay_document(said) if overlay else document
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    state = f"{current.mode}, version {current.version} of {current.day}" if current else "nothing"
    print_policy(parse(document), version, f"in force: {state}")
    for sentence in describe(said):
        standard_console().print(f"first in force over it: {line(sentence, 400)}", highlight=False)
    if not in_force:
        standard_console().print(f"backtest {'passed' if passed else 'not passed'}: {line(why, 400)}")


def print_difference(
    settings: Settings, team_id: int, service: str, environment: str, one: str | None, other: str | None
) -> None:
    """Print what changes from one policy to another: by default from what is in force to the newest computed."""
    with stack.database(settings) as database:
        first = releases.named(database, team_id, service, environment, one or releases.IN_FORCE)
        second = releases.named(database, team_id, service, environment, other)
        said = _overlay_now(database, team_id, service, environment)
    changes = diff(first, second)
    console = standard_console()
    click.echo(f"from version {first.version} of {first.day} to version {second.version} of {second.day}:")
    for change in changes or ["nothing changes"]:
        console.print(f"  {line(change, 400)}", highlight=False, soft_wrap=True)
    for sentence in describe(said):
        console.print(f"  first in force over both: {line(sentence, 400)}", highlight=False, soft_wrap=True)


def export_policy(settings: Settings, team_id: int, service: str, environment: str, to: str) -> None:
    """Print what is in force as a collector's configuration."""
    with stack.database(settings) as database:
        found = served(database, team_id, service, environment, datetime.now(UTC))
    click.echo(export(found.document, overlay_document(found.overlay), to, mode=found.mode), nl=False)


def schema(overlay: bool) -> None:
    """Print the JSON schema of the policy or of the overlay document."""
    click.echo(json.dumps(overlay_schema() if overlay else json_schema(), indent=2, ensure_ascii=False))


def _overlay_now(database: Database, team_id: int, service: str, environment: str) -> Overlay:
    now = datetime.now(UTC)
    return overlays(database, [team_id], now).of(team_id, service, environment, now)


def print_policy(policy: Policy, version: str, state: str, console: Console | None = None) -> None:
    """A policy for people: its effect, its reasons, its largest patterns."""
    console = console or standard_console()
    name = line(policy.service) or "(no service name)"
    environment = f" in {line(policy.environment)}" if policy.environment else ""
    expected = policy.expected
    kept = expected.kept_bytes / expected.bytes if expected.bytes else 1.0
    console.print(f"\n[bold]{name}{environment}[/bold], {policy.day}, version {version} ({state})")
    console.print(
        f"keeps {expected.kept_logs:,.0f} of {expected.logs:,.0f} logs and {expected.kept_bytes / 1e6:,.2f} of"
        f" {expected.bytes / 1e6:,.2f} MB: [bold]{1 - kept:.0%} saved[/bold]"
    )
    console.print(policy.reasoning, markup=False)
    table = Table("rate", "worth", "class", "pattern", header_style="bold")
    for pattern in sorted(policy.pattern_rates, key=lambda p: (p.rate, p.template))[:_MOST_PATTERNS]:
        table.add_row(f"{pattern.rate:.3g}", f"{pattern.worth:.2f}", str(pattern.category), line(pattern.template))
    console.print(table)
    if (more := len(policy.pattern_rates) - _MOST_PATTERNS) > 0:
        console.print(f"… and {more} patterns more, all with higher rates")


def _table(rows: list[releases.Release], title: str) -> None:
    table = Table(
        "service", "environment", "state", "day", "version", "by", "why", "at (UTC)", title=title, header_style="bold"
    )
    for row in rows:
        at = f"{row.released_at:%Y-%m-%d %H:%M:%S}" if row.released_at else ""
        state = f"[bold green]{row.state}[/]" if row.state in releases.DROPPING else row.state
        table.add_row(
            line(row.service) or "(none)",
            line(row.environment),
            state,
            str(row.day),
            row.version[:8],
            line(row.actor),
            line(row.reason),
            at,
        )
    standard_console().print(table)
