"""The ledger of boosts: append-only, idempotent by its natural key. See `core.boosts` for what a boost is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import boosts

_COLUMNS = [boosts.c[name] for name in Boost.__dataclass_fields__]


def add(database: Database, entries: Sequence[Boost], *, now: datetime | None = None) -> int:
    """Append those that are not there yet, dated ``now`` (None: by the database's clock); returns how many."""
    if not entries:
        return 0
    statement = pg.insert(boosts).on_conflict_do_nothing().returning(boosts.c.id)
    dated = {} if now is None else {"added_at": now}
    with database.engine.begin() as connection:
        return len(connection.execute(statement.values([vars(e) | dated for e in entries])).all())


def standing(
    database: Database, team_ids: Collection[int], first: datetime, last: datetime
) -> list[tuple[Boost, datetime]]:
    """The boosts of teams in force at some moment from ``first`` to ``last``, oldest first, each with when it was
    added: before that it could not be served."""
    statement = (
        sa.select(boosts.c.added_at, *_COLUMNS)
        .where(
            boosts.c.team_id.in_(set(team_ids)),
            sa.func.greatest(boosts.c.starts_at, boosts.c.added_at) <= last,
            boosts.c.ends_at > sa.func.greatest(first, boosts.c.added_at),
        )
        .order_by(boosts.c.id)
    )
    with database.engine.connect() as connection:
        return [(Boost(*row[1:]), row[0]) for row in connection.execute(statement)]
