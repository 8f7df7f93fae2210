"""Requests of a log store with a limit an hour: all runs and sensors take from one budget."""

from __future__ import annotations

import sqlalchemy as sa

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import source_requests

_HOUR = sa.text("interval '1 hour'")


def take(database: Database, store: str, per_hour: int) -> float:
    """Note a request of ``store``, where the last hour has had fewer than ``per_hour``, and return 0.

    Else nothing is noted; the result is the seconds until one may be made.
    """
    table = source_requests
    now = sa.func.clock_timestamp()
    with database.engine.begin() as connection:
        # Who asks at the same moment waits, so that the last request of an hour is not given twice.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(store, 6020))))
        connection.execute(sa.delete(table).where(table.c.store == store, table.c.made_at <= now - _HOUR))
        nth = sa.select(table.c.made_at).where(table.c.store == store).order_by(table.c.made_at.desc())
        frees = nth.offset(per_hour - 1).limit(1).scalar_subquery()
        wait = connection.execute(sa.select(sa.extract("epoch", frees + _HOUR - now))).scalar()
        if wait is None:
            connection.execute(sa.insert(table).values(store=store))
            return 0.0
        return max(float(wait), 0.1)
