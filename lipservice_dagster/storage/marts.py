"""What the marts of each day were made of: ``mart_days``, and the days whose tables have changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import mart_days

READ = ("signatures", "anomaly_reports", "policies", "backtests", "savings")
"""The assets by team-day that the marts read; beside them the ledger of releases."""

_LOCK = 6_020_000_000_003  # any constant of ours: two builds take turns

# Sums of hashes: they do not depend on the order of rows, and one query answers for all days.
_FINGERPRINTS = sa.text("""
WITH content AS (
    SELECT day, sum(hashtextextended(concat_ws(' ', asset, team_id, fingerprint), 0)::numeric)
                  FILTER (WHERE asset <> 'raw_logs') AS hash,
           bool_or(asset = 'savings') AND bool_or(asset = 'raw_logs' AND hours = 24) AS done
      FROM materializations
     WHERE asset = ANY(:read || '{raw_logs}'::text[]) AND fingerprint IS NOT NULL AND day BETWEEN :first AND :last
     GROUP BY day
), ledger AS (
    SELECT day, sum(hashtextextended(id::text, 0)::numeric) AS hash
      FROM releases WHERE day BETWEEN :first AND :last GROUP BY day
)
SELECT day, md5(concat_ws(' ', CAST(:basis AS text), content.hash, coalesce(ledger.hash, 0)))
  FROM content LEFT JOIN ledger USING (day) WHERE done ORDER BY day
""")


def fingerprints(database: Database, first: date, last: date, basis: str) -> dict[date, str]:
    """A fingerprint of what the tables of each day hold, of all teams together; ``basis`` is what else decides.

    A day that no team has taken through the whole graph since it was over is not in the answer.
    """
    with database.engine.connect() as connection:
        rows = connection.execute(_FINGERPRINTS, {"read": list(READ), "first": first, "last": last, "basis": basis})
        return {row.day: row[1] for row in rows}


def stale(database: Database, first: date, last: date, basis: str) -> dict[date, str]:
    """Those of `fingerprints` that the marts were not made of."""
    with database.engine.connect() as connection:
        made = {row.day: row.fingerprint for row in connection.execute(sa.select(mart_days))}
    return {day: found for day, found in fingerprints(database, first, last, basis).items() if made.get(day) != found}


def note(database: Database, made_of: Mapping[date, str], run_id: str) -> None:
    """The marts of these days hold what was made of these fingerprints."""
    if not made_of:
        return
    statement = insert(mart_days).values([{"day": d, "fingerprint": f, "run_id": run_id} for d, f in made_of.items()])
    new = statement.excluded
    with database.engine.begin() as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["day"],
                set_={"fingerprint": new.fingerprint, "run_id": new.run_id, "made_at": sa.func.now()},
            )
        )


@contextmanager
def building(database: Database) -> Iterator[None]:
    """Keep other builds waiting: each adds the rows of its days, and two of one day would both add them."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
