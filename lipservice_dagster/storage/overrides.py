"""The ledger of overrides: append-only. Adding, removing and running out are entries, each with who, why and when.

An override is in force from its entry until it is removed or its time is over, whichever comes first. What was in force
at a moment follows from the entries up to it, so that the answer for a moment in the past does not change.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.accountable import accountable
from lipservice_dagster.core.overlay import Kind, Override, contradiction
from lipservice_dagster.core.problems import explain
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import overrides, services, signatures
from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import repair
from lipservice_sampler.text import signature as signature_of

ADDED, REMOVED, EXPIRED = "added", "removed", "expired"
_LOCK = 6_020_000_000_003  # any constant of ours: adding takes turns, so that no two contradict each other


class OverrideError(ValueError):
    """An override cannot be added or removed; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One entry of the ledger. ``ends``: the override that this entry removed, or whose time was over."""

    id: int
    entry: str
    ends: int | None
    team_id: int
    service: str
    environment: str | None
    template: str | None
    kind: Kind
    rate: float | None
    until: datetime | None
    actor: str
    reason: str
    at: datetime

    @property
    def override(self) -> Override:
        """What it says, as the overlay carries it."""
        return Override(
            id=self.id,
            kind=self.kind,
            signature=None if self.template is None else signature_of(self.service, self.template),
            template=self.template,
            rate=self.rate,
            until=self.until,
            owner=self.actor,
            reason=self.reason,
        )


_COLUMNS = [overrides.c[name] for name in Entry.__dataclass_fields__]


def add(
    database: Database,
    team_id: int,
    service: str,
    kind: str,
    *,
    owner: str,
    reason: str,
    until: datetime | None = None,
    rate: float | None = None,
    template: str | None = None,
    signature: str | None = None,
    environment: str | None = None,
    now: datetime | None = None,
) -> Entry:
    """Append an override of a service, or of a pattern by template or by signature (which must have been seen).

    A template may be given as one of its messages: it is masked. ``environment`` None means every one; ``now`` None
    the database's clock.

    Raises:
        OverrideError: it is out of bounds, is over already, speaks of what is not known, or contradicts another.
        UnaccountableError: it does not say who and why.
    """
    owner, reason = accountable(owner, reason)
    with database.engine.begin() as connection:
        _require_service(connection, team_id, service, environment)
        if signature is not None:
            if template is not None:
                raise OverrideError("say which pattern by its template or by its signature, not by both")
            template = _template(connection, team_id, service, signature)
        elif template is not None:
            template = mask(repair(template))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        now = now or _clock(connection)
        if until is not None and until <= now:
            raise OverrideError(
                f"its end, {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC, is over (it is {now:%Y-%m-%d %H:%M}): name a"
                " later one"
            )
        fields = {"kind": kind, "template": template, "rate": rate, "until": until, "owner": owner, "reason": reason}
        try:
            new = Override.model_validate(fields)
        except ValidationError as error:
            raise OverrideError(explain("override", "", error)) from error
        _record_expired(connection, now)
        standing = [
            e for e in _fetch(connection, _standing(team_id, service, now)) if _meet(e.environment, environment)
        ]
        other = contradiction(service, new, tuple(e.override for e in standing))
        if other is not None:
            raise OverrideError(
                f"override {other.id} in force says already: {other.target} {other.says} ({other.by}); remove it"
                f" first, lipservice override remove {other.id} --team {team_id}"
            )
        values = {
            "entry": ADDED,
            "team_id": team_id,
            "service": service,
            "environment": environment,
            "template": template,
            "kind": new.kind,
            "rate": new.rate,
            "until": new.until,
            "actor": owner,
            "reason": reason,
            "at": now,
        }
        return Entry(**connection.execute(sa.insert(overrides).values(values).returning(*_COLUMNS)).one()._mapping)


def remove(
    database: Database, team_id: int, override_id: int, *, actor: str, reason: str, now: datetime | None = None
) -> Entry:
    """Append the end of an override.

    Raises OverrideError where the team has no such override in force, UnaccountableError where it does not say who and
    why.
    """
    actor, reason = accountable(actor, reason)
    with database.engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        now = now or _clock(connection)
        _record_expired(connection, now)
        of_team = sa.select(*_COLUMNS).where(overrides.c.team_id == team_id)
        found = _fetch(connection, of_team.where(overrides.c.id == override_id, overrides.c.entry == ADDED))
        ended = _fetch(connection, of_team.where(overrides.c.ends == override_id))
        if not found:
            standing = ", ".join(str(e.id) for e in _fetch(connection, _standing(team_id, None, now))) or "none"
            raise OverrideError(f"Team {team_id} has no override {override_id}; in force are: {standing}")
        if ended:
            raise OverrideError(f"override {override_id} was {ended[0].entry} at {ended[0].at:%Y-%m-%d %H:%M} UTC")
        values = {name: getattr(found[0], name) for name in _COPIED}
        values |= {"entry": REMOVED, "ends": override_id, "actor": actor, "reason": reason, "at": now}
        return Entry(**connection.execute(sa.insert(overrides).values(values).returning(*_COLUMNS)).one()._mapping)


def in_force(
    database: Database, team_id: int, service: str | None = None, *, now: datetime | None = None
) -> list[Entry]:
    """The overrides of a team, or of one service, in force at a moment (now), oldest first; notes those run out."""
    with database.engine.begin() as connection:
        clock = _clock(connection)
        _record_expired(connection, clock)
        return _fetch(connection, _standing(team_id, service, now or clock))


def history(database: Database, team_id: int, service: str | None = None) -> list[Entry]:
    """Every entry of a team, or of one service, newest first."""
    with database.engine.begin() as connection:
        _record_expired(connection, _clock(connection))
        statement = sa.select(*_COLUMNS).where(overrides.c.team_id == team_id).order_by(overrides.c.id.desc())
        if service is not None:
            statement = statement.where(overrides.c.service == service)
        return _fetch(connection, statement)


def standing(
    database: Database, team_ids: Collection[int], first: datetime, last: datetime
) -> list[tuple[Entry, datetime | None]]:
    """The overrides of teams in force at some moment from ``first`` to ``last``, oldest first, each with when it ended
    or will end (None: it has no end)."""
    ending = overrides.alias("ending")
    ends = sa.func.least(overrides.c.until, ending.c.at)
    statement = (
        sa.select(ends.label("ends"), *_COLUMNS)
        .select_from(overrides.outerjoin(ending, ending.c.ends == overrides.c.id))
        .where(
            overrides.c.team_id.in_(set(team_ids)),
            overrides.c.entry == ADDED,
            overrides.c.at <= last,
            sa.or_(ends.is_(None), ends > first),
        )
        .order_by(overrides.c.id)
    )
    with database.engine.connect() as connection:
        return [(Entry(*row[1:]), row[0]) for row in connection.execute(statement)]


def matched(database: Database, team_id: int, service: str, template: str) -> list[str]:
    """The templates of the service's newest day that a template speaks of, sorted."""
    of_service = (signatures.c.team_id == team_id, signatures.c.service == service)
    newest = sa.select(sa.func.max(signatures.c.day)).where(*of_service).scalar_subquery()
    statement = sa.select(signatures.c.template).distinct().where(*of_service, signatures.c.day == newest)
    matcher = Matcher([template])
    with database.engine.connect() as connection:
        return sorted(t for t in connection.execute(statement).scalars() if matcher.match(t) is not None)


_COPIED = ("team_id", "service", "environment", "template", "kind", "rate", "until")


def _standing(team_id: int, service: str | None, at: datetime) -> sa.Select:
    ending = overrides.alias("ending")
    ended = sa.exists().where(ending.c.ends == overrides.c.id, ending.c.at <= at)
    statement = (
        sa.select(*_COLUMNS)
        .where(
            overrides.c.team_id == team_id,
            overrides.c.entry == ADDED,
            overrides.c.at <= at,
            sa.or_(overrides.c.until.is_(None), overrides.c.until > at),
            ~ended,
        )
        .order_by(overrides.c.id)
    )
    return statement if service is None else statement.where(overrides.c.service == service)


def _record_expired(connection: sa.Connection, now: datetime) -> None:
    """Append the end of what has run out, dated when it did; whoever notices first writes it, once."""
    ending = overrides.alias("ending")
    source = sa.select(
        sa.literal(EXPIRED),
        overrides.c.id,
        *(overrides.c[name] for name in _COPIED),
        overrides.c.actor,
        sa.literal("its time was over"),
        overrides.c.until,
    ).where(overrides.c.entry == ADDED, overrides.c.until <= now, ~sa.exists().where(ending.c.ends == overrides.c.id))
    columns = ["entry", "ends", *_COPIED, "actor", "reason", "at"]
    connection.execute(pg.insert(overrides).from_select(columns, source).on_conflict_do_nothing())


def _meet(one: str | None, other: str | None) -> bool:
    """Whether two environments (None: every one) have one in common."""
    return one is None or other is None or one == other


def _clock(connection: sa.Connection) -> datetime:
    return connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()


def _fetch(connection: sa.Connection, statement: sa.Select) -> list[Entry]:
    return [Entry(**row._mapping) for row in connection.execute(statement)]


def _require_service(connection: sa.Connection, team_id: int, service: str, environment: str | None) -> None:
    known = connection.execute(
        sa.select(services.c.name, services.c.environment)
        .where(services.c.team_id == team_id)
        .order_by(services.c.name, services.c.environment)
    ).all()
    if any(name == service and _meet(environment, found) for name, found in known):
        return
    asked = repr(service) + ("" if environment is None else f" in environment {environment!r}")
    there = ", ".join(f"{name!r}{f' in {found!r}' if found else ''}" for name, found in known) or "none at all"
    raise OverrideError(f"Team {team_id} has no service {asked}. It has: {there}")


def _template(connection: sa.Connection, team_id: int, service: str, signature: str) -> str:
    statement = (
        sa.select(signatures.c.template)
        .where(
            signatures.c.team_id == team_id,
            signatures.c.service == service,
            signatures.c.signature == signature,
        )
        .limit(1)
    )
    found: Sequence[str] = connection.execute(statement).scalars().all()
    if not found:
        raise OverrideError(
            f"Service {service!r} of team {team_id} has no pattern with signature {signature!r} on any day that is"
            " kept: `lipservice policy show --json` lists signatures, or name it by --template"
        )
    return found[0]
