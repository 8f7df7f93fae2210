"""What samplers report of what they saw and kept: each batch is counted once, however often it is sent.

Samplers see what never arrives: patterns of which nothing was kept, and savings where they are made. In ``shadow``
``kept`` is what would have been kept. Logs that no pattern of the policy matches come with their masked message.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import reported_batches, reported_patterns, signatures
from lipservice_sampler.served import LIVE

COUNTS = ("seen", "kept", "bytes_seen", "bytes_kept")
REMEMBERED = timedelta(days=7)
"""Batches are known by their id so long; samplers try again for hours."""


@dataclass(frozen=True)
class Counted:
    """Logs and octets of a pattern (by ``signature``, or else the masked ``message``), severity and hour."""

    signature: str | None
    message: str | None
    severity: str
    hour: datetime
    seen: int
    kept: int
    bytes_seen: int
    bytes_kept: int

    @property
    def pattern(self) -> str:
        """What names the pattern among the others of its service; bounded, as messages are not."""
        if self.signature is not None:
            return self.signature
        return "message " + hashlib.sha256((self.message or "").encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Batch:
    """A report of one sampler's process."""

    batch_id: uuid.UUID
    team_id: int
    service: str
    environment: str
    policy_version: str
    mode: str
    sdk: str
    starts_at: datetime
    ends_at: datetime
    patterns: Sequence[Counted]


def add(database: Database, batch: Batch) -> bool:
    """Count a batch; False where it was counted before. In one transaction."""
    head = {name: value for name, value in vars(batch).items() if name != "patterns"}
    scope = {name: head[name] for name in ("team_id", "service", "environment", "policy_version", "mode")}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for counted in batch.patterns:
        key = (counted.hour, counted.pattern, counted.severity)
        row = rows.setdefault(key, scope | vars(counted) | {"pattern": counted.pattern} | dict.fromkeys(COUNTS, 0))
        for name in COUNTS:
            row[name] += getattr(counted, name)
    with database.engine.begin() as connection:
        new = pg.insert(reported_batches).values(head).on_conflict_do_nothing().returning(reported_batches.c.batch_id)
        if connection.execute(new).first() is None:
            return False
        if rows:
            statement = pg.insert(reported_patterns)
            statement = statement.on_conflict_do_update(
                index_elements=list(reported_patterns.primary_key.columns),
                set_={name: reported_patterns.c[name] + statement.excluded[name] for name in COUNTS},
            )
            # In order, so that two batches never wait for each other.
            connection.execute(statement.values([rows[key] for key in sorted(rows)]))
    return True


def forget(database: Database, patterns_before: datetime, batches_before: datetime) -> None:
    """Drop counts of hours, and ids of batches, from before these moments."""
    with database.engine.begin() as connection:
        connection.execute(sa.delete(reported_patterns).where(reported_patterns.c.hour < patterns_before))
        connection.execute(sa.delete(reported_batches).where(reported_batches.c.received_at < batches_before))


def by_day(
    database: Database, team_id: int, service: str, environment: str, first: date, last: date
) -> list[dict[str, Any]]:
    """Rows of day, mode and the four sums, by day and mode, of a service and environment."""
    r = reported_patterns.c
    day = sa.cast(sa.func.timezone("UTC", r.hour), sa.Date).label("day")
    statement = (
        sa.select(day, r.mode, *(sa.func.sum(r[n]).cast(sa.BigInteger).label(n) for n in COUNTS))
        .where(*_of(team_id, service, environment, first, last))
        .group_by(day, r.mode)
        .order_by(day, r.mode)
    )
    return _fetch(database, statement)


def patterns(
    database: Database, team_id: int, service: str, environment: str, day: date, limit: int
) -> list[dict[str, Any]]:
    """What was reported of a day by pattern, that of which most was seen first.

    Rows of signature, message, the four sums and ``arrived``: whether the day's logs hold the pattern (by signature;
    of a message it is not known, None). Nothing of a pattern may have arrived because all of it was dropped.
    """
    r, s = reported_patterns.c, signatures.c
    arrived = sa.exists().where(
        s.team_id == team_id,
        s.day == day,
        s.service == service,
        s.environment == environment,
        s.signature == r.signature,
    )
    statement = (
        sa.select(
            r.signature,
            r.message,
            *(sa.func.sum(r[n]).cast(sa.BigInteger).label(n) for n in COUNTS),
            sa.case((r.signature.is_(None), sa.null()), else_=arrived).label("arrived"),
        )
        .where(*_of(team_id, service, environment, day, day))
        .group_by(r.signature, r.message)
        .order_by(sa.desc("seen"), r.signature, r.message)
        .limit(limit)
    )
    return _fetch(database, statement)


def dropped(database: Database, team_id: int, service: str, environment: str, day: date) -> list[dict[str, Any]]:
    """What live policies dropped on a day by pattern and hour, as samplers counted it.

    Rows of signature, message, hour (0 to 23), seen, kept and rate (kept / seen), those of which nothing was kept too.
    """
    r = reported_patterns.c
    hour = sa.cast(sa.func.extract("hour", sa.func.timezone("UTC", r.hour)), sa.Integer).label("hour")
    seen, kept = (sa.cast(sa.func.sum(r[n]), sa.BigInteger) for n in ("seen", "kept"))
    statement = (
        sa.select(
            r.signature,
            r.message,
            hour,
            seen.label("seen"),
            kept.label("kept"),
            (sa.cast(kept, sa.Float) / seen).label("rate"),
        )
        .where(*_of(team_id, service, environment, day, day), r.mode == LIVE)
        .group_by(r.signature, r.message, hour)
        .having(seen > 0)
        .order_by(r.signature, r.message, hour)
    )
    return _fetch(database, statement)


def _of(team_id: int, service: str, environment: str, first: date, last: date) -> list[sa.ColumnElement[bool]]:
    r = reported_patterns.c
    start, end = (datetime.combine(d, time(), UTC) for d in (first, last + timedelta(days=1)))
    scope = [r.team_id == team_id, r.service == service, r.environment == environment]
    return [*scope, r.hour >= start, r.hour < end]


def _fetch(database: Database, statement: sa.Select) -> list[dict[str, Any]]:
    with database.engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(statement)]
