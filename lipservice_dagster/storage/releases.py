"""The ledger of releases: append-only. The newest entry of a service and environment is in force.

**States.** In ``shadow`` a policy decides and reports, and drops nothing. ``live`` drops, and each later day's policy
that passed its backtest takes its place. ``pinned`` drops too, and stays until a person unpins it: a rollback pins.
A person makes a service live once; the graph keeps the state and only moves the policy.

Entries of the graph are idempotent by (service, environment, day) and only move forward by day: a backfill of an old
day adds nothing. People's entries are added with who and why, but none makes live over a pin: that is what unpinning is
for. Whoever adds an entry holds the team's lock, and
the graph adds only over the entry that it has seen: what a person did meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.accountable import accountable
from lipservice_dagster.core.policy import Policy, parse
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import backtests, policies, releases

SHADOW, LIVE, PINNED = "shadow", "live", "pinned"
DROPPING = frozenset({LIVE, PINNED})
"""States in which a policy drops logs."""


class UnknownPolicyError(LookupError):
    """There is no such service, day or version, or several begin like the one named; the message says what there is."""


class OpenDayError(ValueError):
    """The policy of a day that was still open cannot be released."""


class UnprovenError(ValueError):
    """The policy's backtest did not pass; the message says what failed."""


class NotPinnedError(ValueError):
    """Nothing is pinned that could be unpinned."""


class PinnedError(ValueError):
    """The service is pinned: a policy cannot be made live over that, and it is rolled back already."""


@dataclass(frozen=True)
class Release:
    """One entry of the ledger: from then on this document decides, or (in shadow) only reports."""

    team_id: int
    service: str
    environment: str
    day: date
    version: str
    state: str
    document: dict[str, Any]
    actor: str
    reason: str
    by_hand: bool = False
    id: int | None = None
    released_at: datetime | None = None


_COLUMNS = [releases.c[name] for name in Release.__dataclass_fields__]


def in_force(database: Database, team_id: int, service: str | None = None) -> list[Release]:
    """The newest entry of each service and environment of the team (or of one service), by name."""
    statement = (
        sa.select(*_COLUMNS)
        .ext(pg.distinct_on(releases.c.service, releases.c.environment))
        .where(releases.c.team_id == team_id)
        .order_by(releases.c.service, releases.c.environment, releases.c.id.desc())
    )
    if service is not None:
        statement = statement.where(releases.c.service == service)
    return _fetch(database, statement)


def history(
    database: Database,
    team_id: int,
    service: str,
    environment: str,
    *,
    before: int | None = None,
    limit: int | None = None,
) -> list[Release]:
    """The entries of a service and environment, newest first: all, or ``limit`` older than the one with an id."""
    statement = _newest_first(team_id, service, environment).limit(limit)
    if before is not None:
        statement = statement.where(releases.c.id < before)
    return _fetch(database, statement)


def in_force_during(database: Database, team_id: int, day: date) -> list[tuple[int, Release]]:
    """What was in force in the hours of a UTC day: (hour from which, entry), by service, environment and hour.

    An entry counts from the start of the hour in which it was added; of several in an hour the newest. What was in
    force before the day counts from hour 0.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    hour = sa.func.greatest(
        sa.cast(sa.func.floor(sa.extract("epoch", releases.c.released_at - midnight) / 3600), sa.Integer), 0
    ).label("hour")
    statement = (
        sa.select(hour, *_COLUMNS)
        .ext(pg.distinct_on(releases.c.service, releases.c.environment, hour))
        .where(releases.c.team_id == team_id, releases.c.released_at < midnight + timedelta(days=1))
        .order_by(releases.c.service, releases.c.environment, hour, releases.c.id.desc())
    )
    with database.engine.connect() as connection:
        rows = connection.execute(statement).all()
    return [(row[0], Release(*row[1:])) for row in rows]


def add_from_graph(database: Database, entry: Release, *, over: int | None) -> Release | None:
    """Append an entry where the one that it follows, ``over`` (its id; None: there is none), is still in force.

    Returns it as it was added, or None: where another was added meanwhile, or the graph has one of this day or later.
    """
    with database.engine.begin() as connection:
        _lock(connection, entry.team_id)
        of_service = sa.and_(
            releases.c.team_id == entry.team_id,
            releases.c.service == entry.service,
            releases.c.environment == entry.environment,
        )
        newest = connection.execute(sa.select(sa.func.max(releases.c.id)).where(of_service)).scalar()
        later = sa.select(releases.c.id).where(of_service, releases.c.day >= entry.day, ~releases.c.by_hand)
        if newest != over or connection.execute(later.limit(1)).first() is not None:
            return None
        row = connection.execute(sa.insert(releases).values(_values(entry)).returning(*_COLUMNS)).one()
    return Release(**row._mapping)


def add_by_hand(database: Database, entry: Release) -> Release:
    """Append a person's entry.

    Raises:
        UnaccountableError: it does not say who and why.
        PinnedError: it makes live what is pinned, which stays until it is unpinned (`unpin`).
    """
    with database.engine.begin() as connection:
        _lock(connection, entry.team_id)
        newest = _newest(connection, entry.team_id, entry.service, entry.environment)
        if entry.state == LIVE and newest is not None and newest.state == PINNED:
            raise PinnedError(
                f"{_pinned(newest)}. Unpin it first, lipservice policy unpin, or pin another release by name,"
                " lipservice policy rollback --version"
            )
        return _append(connection, entry)


def roll_back(
    database: Database,
    team_id: int,
    service: str,
    environment: str,
    *,
    day: date | None = None,
    version: str | None = None,
    actor: str,
    reason: str,
) -> Release:
    """Pin an earlier release: the newest that dropped logs by another version than what is in force, or the one named.

    Raises:
        UnaccountableError: it does not say who and why.
        UnknownPolicyError: the ledger has none, or several versions that begin like the one named.
        PinnedError: none is named, and one is pinned: the last that dropped is then what was rolled back from, maybe by
            somebody else a moment ago.
        UnprovenError: the one named never dropped, a person put it in shadow, and its backtest has not passed.
    """
    with database.engine.begin() as connection:
        _lock(connection, team_id)
        entries = _entries(connection, _newest_first(team_id, service, environment))
        if entries:
            back = _earlier(entries, day, version)
            # The graph releases what has passed, in shadow too; a person may put anything there, as it drops nothing.
            if not any(e.version == back.version and (e.state in DROPPING or not e.by_hand) for e in entries):
                passed, why = _verdict(connection, team_id, service, environment, back.day, back.version)
                if not passed:
                    raise UnprovenError(
                        f"The release of {back.day} was only in shadow, and its policy has not passed its backtest."
                        f" {why} Name one that dropped, or release it all the same, lipservice policy release"
                        " --unproven"
                    )
            return _append(connection, replace(back, state=PINNED, actor=actor, reason=reason))
    # Raises where there is no such service, and names those there are.
    computed(database, team_id, service, environment)
    raise UnknownPolicyError(f"Team {team_id} has no release of {service!r} yet")


def _earlier(entries: Sequence[Release], day: date | None, version: str | None) -> Release:
    """Which of a service's entries, newest first, a rollback goes back to; see there."""
    current = entries[0]
    if day is None and version is None:
        if current.state == PINNED:
            raise PinnedError(
                f"{_pinned(current)}: it is rolled back already. To go further back name a release with --day or"
                " --version, or stop dropping with `lipservice policy shadow`"
            )
        earlier = [e for e in entries if e.version != current.version and e.state in DROPPING]
    else:
        earlier = [e for e in entries if e.day == day or day is None]
        if version is not None:
            full = _meant(version, (e.version for e in earlier))
            earlier = [e for e in earlier if e.version == full]
    if not earlier:
        there = ", ".join(dict.fromkeys(f"{e.version[:8]} of {e.day} ({e.state})" for e in entries[:10]))
        raise UnknownPolicyError(
            f"Nothing to roll {current.service!r} back to. Its releases: {there}. Name one with --day or --version, or"
            " stop dropping with `lipservice policy shadow`"
        )
    return earlier[0]


def unpin(database: Database, team_id: int, service: str, environment: str, *, actor: str, reason: str) -> Release:
    """Let the graph move again what is pinned, which stays live until a later day's policy passes.

    Raises NotPinnedError where nothing is pinned.
    """
    with database.engine.begin() as connection:
        _lock(connection, team_id)
        current = _newest(connection, team_id, service, environment)
        if current is None or current.state != PINNED:
            state = f"is {current.state}" if current else "has no release"
            raise NotPinnedError(f"{service!r} of team {team_id} is not pinned: it {state}")
        return _append(connection, replace(current, state=LIVE, actor=actor, reason=reason))


def computed(
    database: Database,
    team_id: int,
    service: str,
    environment: str,
    *,
    day: date | None = None,
    version: str | None = None,
) -> tuple[date, str, dict[str, Any]]:
    """The day, version and document of a policy that the graph computed: the newest, or of this day or version.

    Raises UnknownPolicyError, which names what there is, where there is none, or several that begin like ``version``.
    """
    of_service = (policies.c.team_id == team_id, policies.c.service == service, policies.c.environment == environment)
    asked_for = [*of_service] if day is None else [*of_service, policies.c.day == day]
    with database.engine.connect() as connection:
        if version is not None:
            every = connection.execute(sa.select(policies.c.version).where(*asked_for)).scalars()
            asked_for.append(policies.c.version == _meant(version, every))
        statement = sa.select(policies.c.day, policies.c.version, policies.c.document).where(*asked_for)
        row = connection.execute(statement.order_by(policies.c.day.desc()).limit(1)).first()
        if row is not None:
            return row.day, row.version, row.document
        versions = connection.execute(
            sa.select(policies.c.day, policies.c.version).where(*of_service).order_by(policies.c.day.desc()).limit(10)
        ).all()
        known = connection.execute(
            sa.select(policies.c.service, policies.c.environment, sa.func.max(policies.c.day))
            .where(policies.c.team_id == team_id)
            .group_by(policies.c.service, policies.c.environment)
            .order_by(policies.c.service, policies.c.environment)
        ).all()
    asked = f"{service!r}" + (f" in {environment!r}" if environment else " without an environment")
    asked += f" on {day}" if day else ""
    asked += f", version {version}" if version else ""
    if versions:
        newest = ", ".join(f"{row.version} of {row.day}" for row in versions)
        raise UnknownPolicyError(f"Team {team_id} has no policy for {asked}. The newest of the service: {newest}")
    there = "; ".join(f"{s!r}{f' in {e!r}' if e else ''} (newest {d})" for s, e, d in known) or "none at all"
    raise UnknownPolicyError(f"Team {team_id} has no policy for {asked}. It has: {there}")


IN_FORCE = "in-force"


def named(database: Database, team_id: int, service: str, environment: str, which: str | None) -> Policy:
    """The policy in force, of a day or of a version (computed, or once released); None: the newest computed.

    Raises UnknownPolicyError where there is none.
    """
    if which is None:
        return parse(computed(database, team_id, service, environment)[2])
    released = history(database, team_id, service, environment)
    if which == IN_FORCE:
        if not released:
            raise UnknownPolicyError(f"Team {team_id} has no release of {service!r} yet")
        return parse(released[0].document)
    try:
        day = date.fromisoformat(which)
    except ValueError:
        full = _meant(which, (entry.version for entry in released))
        for entry in released:
            if entry.version == full:
                return parse(entry.document)
        return parse(computed(database, team_id, service, environment, version=which)[2])
    return parse(computed(database, team_id, service, environment, day=day)[2])


def verdict(
    database: Database, team_id: int, service: str, environment: str, day: date, version: str
) -> tuple[bool, str]:
    """Whether the backtest of a policy passed, and what it says. One of another version of the day is none of this."""
    with database.engine.connect() as connection:
        return _verdict(connection, team_id, service, environment, day, version)


def _verdict(
    connection: sa.Connection, team_id: int, service: str, environment: str, day: date, version: str
) -> tuple[bool, str]:
    statement = sa.select(backtests.c.passed, backtests.c.why, backtests.c.version).where(
        backtests.c.team_id == team_id,
        backtests.c.day == day,
        backtests.c.service == service,
        backtests.c.environment == environment,
    )
    row = connection.execute(statement).first()
    if row is None:
        return False, "It has no backtest yet."
    if row.version != version:
        return False, f"The backtest of the day is of another version, {row.version}."
    return row.passed, row.why


def _newest(connection: sa.Connection, team_id: int, service: str, environment: str) -> Release | None:
    """What is in force of a service and environment."""
    return next(iter(_entries(connection, _newest_first(team_id, service, environment).limit(1))), None)


def _newest_first(team_id: int, service: str, environment: str) -> sa.Select:
    """The entries of a service and environment."""
    return (
        sa.select(*_COLUMNS)
        .where(releases.c.team_id == team_id, releases.c.service == service, releases.c.environment == environment)
        .order_by(releases.c.id.desc())
    )


def _meant(beginning: str, versions: Iterable[str]) -> str | None:
    """The version of these that begins like this; None where none does.

    Raises UnknownPolicyError where several do, or nothing is named: which is meant is not for us to guess.
    """
    if not beginning:
        raise UnknownPolicyError("The version is empty: name one, or leave it out")
    found = sorted({version for version in versions if version.startswith(beginning)})
    if len(found) > 1:
        more = ", …" if len(found) > 10 else ""
        raise UnknownPolicyError(f"Several versions begin with {beginning}: {', '.join(found[:10])}{more}")
    return found[0] if found else None


def _pinned(entry: Release) -> str:
    return (
        f"{entry.service!r} of team {entry.team_id} is pinned at version {entry.version} of {entry.day} by"
        f" {entry.actor} ({entry.reason})"
    )


def _append(connection: sa.Connection, entry: Release) -> Release:
    actor, reason = accountable(entry.actor, entry.reason)
    values = _values(entry) | {"by_hand": True, "actor": actor, "reason": reason}
    return Release(**connection.execute(sa.insert(releases).values(values).returning(*_COLUMNS)).one()._mapping)


def _values(entry: Release) -> dict[str, Any]:
    return {k: v for k, v in vars(entry).items() if k not in ("id", "released_at")}


def _lock(connection: sa.Connection, team_id: int) -> None:
    """Entries of a team are added one after the other."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"lipservice|releases|{team_id}"}
    )


def _fetch(database: Database, statement: sa.Select) -> list[Release]:
    with database.engine.connect() as connection:
        return _entries(connection, statement)


def _entries(connection: sa.Connection, statement: sa.Select) -> list[Release]:
    return [Release(**row._mapping) for row in connection.execute(statement)]
