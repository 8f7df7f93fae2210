"""The ledger of releases: append-only. The newest entry of a service and environment is in force.

Entries of the graph are idempotent by (service, environment, day) and only move forward by day: a backfill of an old
day adds nothing. People's entries are always added, with who and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import policies, releases

SHADOW, LIVE = "shadow", "live"


class UnknownPolicyError(LookupError):
    """There is no such service, day or version; the message names those there are."""


class OpenDayError(ValueError):
    """The policy of a day that was still open cannot be released."""


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


def history(database: Database, team_id: int, service: str, environment: str) -> list[Release]:
    """All entries of a service and environment, newest first."""
    return _fetch(
        database,
        sa.select(*_COLUMNS)
        .where(releases.c.team_id == team_id, releases.c.service == service, releases.c.environment == environment)
        .order_by(releases.c.id.desc()),
    )


def add_from_graph(database: Database, entries: Sequence[Release]) -> list[Release]:
    """Append the entries whose day is later than all of the graph's for their service; returns those that were added.

    Two runs at once add one: the natural key decides.
    """
    added = []
    with database.engine.begin() as connection:
        for entry in sorted(entries, key=lambda e: (e.team_id, e.service, e.environment, e.day)):
            values = {k: v for k, v in vars(entry).items() if k not in ("id", "released_at")}
            newer = sa.exists().where(
                releases.c.team_id == entry.team_id,
                releases.c.service == entry.service,
                releases.c.environment == entry.environment,
                releases.c.day >= entry.day,
                ~releases.c.by_hand,
            )
            source = sa.select(*(sa.literal(v, releases.c[k].type).label(k) for k, v in values.items())).where(~newer)
            statement = (
                pg.insert(releases).from_select(list(values), source).on_conflict_do_nothing().returning(releases.c.id)
            )
            if connection.execute(statement).first() is not None:
                added.append(entry)
    return added


def add_by_hand(database: Database, entry: Release) -> Release:
    """Append a person's entry."""
    values = {k: v for k, v in vars(entry).items() if k not in ("id", "released_at")} | {"by_hand": True}
    with database.engine.begin() as connection:
        row = connection.execute(sa.insert(releases).values(values).returning(*_COLUMNS)).one()
    return Release(**row._mapping)


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

    Raises UnknownPolicyError, which names what there is, where there is none.
    """
    statement = (
        sa.select(policies.c.day, policies.c.version, policies.c.document)
        .where(policies.c.team_id == team_id, policies.c.service == service, policies.c.environment == environment)
        .order_by(policies.c.day.desc())
        .limit(1)
    )
    if day is not None:
        statement = statement.where(policies.c.day == day)
    if version is not None:
        statement = statement.where(policies.c.version.startswith(version, autoescape=True))
    with database.engine.connect() as connection:
        row = connection.execute(statement).first()
        if row is not None:
            return row.day, row.version, row.document
        known = connection.execute(
            sa.select(policies.c.service, policies.c.environment, sa.func.max(policies.c.day))
            .where(policies.c.team_id == team_id)
            .group_by(policies.c.service, policies.c.environment)
            .order_by(policies.c.service, policies.c.environment)
        ).all()
    asked = f"{service!r}" + (f" in {environment!r}" if environment else " without an environment")
    asked += f" on {day}" if day else ""
    asked += f", version {version}" if version else ""
    there = "; ".join(f"{s!r}{f' in {e!r}' if e else ''} (newest {d})" for s, e, d in known) or "none at all"
    raise UnknownPolicyError(f"Team {team_id} has no policy for {asked}. It has: {there}")


def _fetch(database: Database, statement: sa.Select) -> list[Release]:
    with database.engine.connect() as connection:
        return [Release(**row._mapping) for row in connection.execute(statement)]
