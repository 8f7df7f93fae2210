"""What is served: the policy in force of a service and environment, and the overlay that is decided before it.

What belongs here: the one definition of an overlay, overrides of people and boosts of incidents in one document
(docs/overlay.schema.json), at a moment or over the hours of a day. The ledgers it is read from are `storage.releases`,
`storage.overrides` and `storage.boosts`.

**What counts at a moment.** An override from the moment it was added until it was removed or its time was over; a boost
between its start and its end, from the moment it was added. Ledgers only grow, and what is added is dated when it is
added: what was in force at a moment of the past does not change any more. An hour of a day is decided by what was in
force when it began.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.core.overlay import Boost as BoostEntry
from lipservice_dagster.core.overlay import Overlay, OverlayHours, Override
from lipservice_dagster.storage import boosts, overrides
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import UnknownPolicyError
from lipservice_dagster.storage.tables import releases


class Scope(NamedTuple):
    """Whose policy it is."""

    team_id: int
    service: str
    environment: str


@dataclass(frozen=True)
class Served:
    """What decides over a service's logs: the policy document and its version, in which mode, and the overlay.

    ``mode`` is the state of the release: shadow (nothing is dropped), live or pinned. ``day``: that the policy was made
    from.
    """

    scope: Scope
    mode: str
    day: date
    version: str
    document: dict[str, Any]
    overlay: Overlay
    released_at: datetime


def served(database: Database, team_id: int, service: str, environment: str, at: datetime) -> Served:
    """What decides over the logs of a service and environment at a moment.

    Raises UnknownPolicyError where nothing was released for it by then.
    """
    scope = Scope(team_id, service, environment)
    found = served_of(database, [scope], at)
    if scope not in found:
        raise UnknownPolicyError(f"Team {team_id} has no release of {service!r}{_where(environment)} by {at:%F %R} UTC")
    return found[scope]


def served_of(database: Database, scopes: Collection[Scope], at: datetime) -> dict[Scope, Served]:
    """The same for many services, in three queries; those that nothing was released for are not in the answer."""
    wanted = sorted(set(scopes))
    columns = [[s.team_id for s in wanted], [s.service for s in wanted], [s.environment for s in wanted]]
    arrays = sa.func.unnest(
        *(sa.cast(values, pg.ARRAY(kind)) for values, kind in zip(columns, (sa.Integer, sa.Text, sa.Text), strict=True))
    )
    of = arrays.table_valued("team_id", "service", "environment").render_derived()
    key = (releases.c.team_id, releases.c.service, releases.c.environment)
    statement = (
        sa.select(*key, *(releases.c[c] for c in ("state", "day", "version", "document", "released_at")))
        .ext(pg.distinct_on(*key))
        .select_from(releases)
        .join(of, sa.and_(*(column == of.c[column.name] for column in key)))
        .where(releases.c.released_at <= at)
        .order_by(*key, releases.c.id.desc())
    )
    with database.engine.connect() as connection:
        rows = connection.execute(statement).all()
    said = overlays(database, {s.team_id for s in wanted}, at)
    found = {}
    for row in rows:
        scope = Scope(row.team_id, row.service, row.environment)
        said_of = said.of(*scope, at)
        found[scope] = Served(scope, row.state, row.day, row.version, row.document, said_of, row.released_at)
    return found


@dataclass(frozen=True)
class _Standing:
    """An override or boost and the time it is in force, [starts, ends); ``ends`` None: without an end.

    ``until``: the end that it says itself, which is what is served. ``environment`` None: every one.
    """

    starts: datetime
    ends: datetime | None
    team_id: int
    service: str
    environment: str | None
    override: Override | None = None
    boost: Boost | None = None

    def holds(self, at: datetime) -> bool:
        return self.starts <= at and (self.ends is None or at < self.ends)

    def speaks_of(self, scope: Scope) -> bool:
        of_scope = self.team_id == scope.team_id and self.service == scope.service
        return of_scope and self.environment in (None, scope.environment)


@dataclass(frozen=True)
class Overlays:
    """The overrides and boosts of teams that were in force at some moment of a span, ready to be asked."""

    entries: Sequence[_Standing]

    def of(self, team_id: int, service: str, environment: str, at: datetime) -> Overlay:
        """The overlay of a service and environment at a moment of the span."""
        scope = Scope(team_id, service, environment)
        return _overlay(scope, [e for e in self.entries if e.holds(at) and e.speaks_of(scope)])

    def during(self, team_id: int, service: str, environment: str, day: date) -> OverlayHours:
        """The overlays of the hours of a UTC day, which lies in the span."""
        scope = Scope(team_id, service, environment)
        mine = [e for e in self.entries if e.speaks_of(scope)]
        hours: list[tuple[int, Overlay]] = []
        for hour in range(HOURS if mine else 1):
            at = datetime.combine(day, time(hour), UTC)
            found = _overlay(scope, [e for e in mine if e.holds(at)])
            if not hours or hours[-1][1] != found:
                hours.append((hour, found))
        return OverlayHours(day, tuple(hours))

    def next_change(self, team_id: int, service: str, environment: str, at: datetime) -> datetime | None:
        """When an entry of the span next begins or ends for a service and environment; None: not within it."""
        scope = Scope(team_id, service, environment)
        mine = [e for e in self.entries if e.speaks_of(scope)]
        return min((t for e in mine for t in (e.starts, e.ends) if t is not None and t > at), default=None)

    def with_boosts(self, raised: Iterable[Boost]) -> Overlays:
        """These with other boosts, each in force from its start to its end: those that reports raise, say."""
        return Overlays([e for e in self.entries if e.boost is None] + [_of_boost(b, b.starts_at) for b in raised])


def overlays(database: Database, team_ids: Collection[int], first: datetime, last: datetime | None = None) -> Overlays:
    """What was in force of these teams at some moment from ``first`` to ``last`` (by default that moment alone)."""
    last = first if last is None else last
    standing = [
        _Standing(e.at, ends, e.team_id, e.service, e.environment, override=e.override)
        for e, ends in overrides.standing(database, team_ids, first, last)
    ]
    raised = boosts.standing(database, team_ids, first, last)
    return Overlays(standing + [_of_boost(boost, max(added, boost.starts_at)) for boost, added in raised])


def day_overlays(database: Database, team_ids: Collection[int], day: date) -> Overlays:
    """What was in force of these teams in the hours of a UTC day."""
    midnight = datetime.combine(day, time(), UTC)
    return overlays(database, team_ids, midnight, midnight + timedelta(hours=HOURS - 1))


def _of_boost(boost: Boost, starts: datetime) -> _Standing:
    return _Standing(starts, boost.ends_at, boost.team_id, boost.service, boost.environment, boost=boost)


def _overlay(scope: Scope, entries: Iterable[_Standing]) -> Overlay:
    """The document; a boost that another of the same target outlasts and outdoes is left out."""
    entries = list(entries)
    said = [e.override for e in entries if e.override is not None]
    best: list[Boost] = []
    found = [e.boost for e in entries if e.boost is not None]
    for boost in sorted(found, key=lambda b: (b.signature, -b.factor, -b.ends_at.timestamp(), b.starts_at, b.reason)):
        if not any(b.signature == boost.signature and b.ends_at >= boost.ends_at for b in best):
            best.append(boost)
    return Overlay(
        team_id=scope.team_id,
        service=scope.service,
        environment=scope.environment,
        overrides=tuple(sorted(said, key=lambda o: o.id or 0)),
        boosts=tuple(
            BoostEntry(
                signature=b.signature or None,
                template=b.template or None,
                factor=b.factor,
                until=b.ends_at,
                reason=b.reason,
            )
            for b in best
        ),
    )


def _where(environment: str) -> str:
    return f" in {environment!r}" if environment else ""
