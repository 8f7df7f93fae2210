"""The ledger of boosts: append-only, idempotent by its natural key. See `core.boosts` for what a boost is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import boosts

_COLUMNS = [boosts.c[name] for name in Boost.__dataclass_fields__]


def add(database: Database, entries: Sequence[Boost]) -> int:
    """Append those that are not there yet; returns how many."""
    if not entries:
        return 0
    statement = pg.insert(boosts).on_conflict_do_nothing().returning(boosts.c.id)
    with database.engine.begin() as connection:
        return len(connection.execute(statement.values([vars(e) for e in entries])).all())


def in_force(database: Database, team_id: int, at: datetime, service: str | None = None) -> list[Boost]:
    """The team's boosts (or one service's) at an instant: one a service, environment and pattern.

    Where several overlap it is the one of the greatest factor, and of those the one that ends last.
    """
    statement = (
        sa.select(*_COLUMNS)
        .ext(pg.distinct_on(boosts.c.service, boosts.c.environment, boosts.c.signature))
        .where(boosts.c.team_id == team_id, boosts.c.starts_at <= at, boosts.c.ends_at > at)
        .order_by(
            boosts.c.service,
            boosts.c.environment,
            boosts.c.signature,
            boosts.c.factor.desc(),
            boosts.c.ends_at.desc(),
            boosts.c.id,
        )
    )
    if service is not None:
        statement = statement.where(boosts.c.service == service)
    with database.engine.connect() as connection:
        return [Boost(**row._mapping) for row in connection.execute(statement)]
