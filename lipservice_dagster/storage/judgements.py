"""What models said of patterns, and what that cost: two append-only ledgers.

**Which judgement holds.** A judgement was asked for a day. For a day D the one that holds is, of those asked for a day
less than the time to live away from D (before or after: a backfill asks nothing anew), the first that was stored. Rows
stored later therefore never change what an earlier answer settled, no clock decides, and the same question is asked
again only for a day that no answer reaches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.judgements import Judged, Judgement
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import judgements, model_calls


def holding(
    database: Database, at: TeamDay, signatures: Collection[str], model: str, prompt_version: str, days: int
) -> dict[str, Judged]:
    """The judgements of these signatures that hold for the team-day, by signature; ``days`` is the time to live."""
    found: dict[str, Judged] = {}
    if not signatures:
        return found
    distance = sa.func.abs(judgements.c.day - sa.literal(at.day, sa.Date()))
    statement = (
        sa.select(judgements)
        .ext(pg.distinct_on(judgements.c.signature))
        .where(
            judgements.c.team_id == at.team_id,
            judgements.c.signature == sa.func.any(sa.cast(sorted(signatures), pg.ARRAY(sa.Text))),
            judgements.c.model == model,
            judgements.c.prompt_version == prompt_version,
            distance < days,
        )
        .order_by(judgements.c.signature, judgements.c.id)
    )
    with database.engine.connect() as connection:
        for row in connection.execute(statement):
            judgement = Judgement(signature=row.signature, worth=row.worth, category=row.category, reason=row.reason)
            found[row.signature] = Judged(judgement, row.of_family)
    return found


def add(
    database: Database,
    run_id: str,
    at: TeamDay,
    model: str,
    prompt_version: str,
    judged: Sequence[Judged],
    call: Mapping[str, object],
) -> None:
    """Append what one request brought: its judgements (none twice) and, in the same transaction, what it cost.

    ``call`` has the request's columns of ``model_calls``: patterns, the four kinds of tokens, cost and problem.
    """
    common = {"team_id": at.team_id, "day": at.day, "model": model, "prompt_version": prompt_version}
    rows = [
        common
        | {
            "signature": j.judgement.signature,
            "worth": j.judgement.worth,
            "category": j.judgement.category,
            "reason": j.judgement.reason,
            "of_family": j.of_family,
        }
        for j in judged
    ]
    with database.engine.begin() as connection:
        if rows:
            connection.execute(pg.insert(judgements).values(rows).on_conflict_do_nothing())
        connection.execute(sa.insert(model_calls).values(common | dict(call) | {"run_id": run_id, "judged": len(rows)}))


def tokens_of_day(database: Database, day: date) -> int:
    """The tokens of all requests that were sent on this UTC day."""
    c = model_calls.c
    total = sa.func.sum(c.input_tokens + c.output_tokens + c.cached_tokens + c.cache_write_tokens)
    statement = sa.select(sa.func.coalesce(total, 0)).where(
        c.called_at >= sa.cast(day.isoformat(), sa.Date()), c.called_at < sa.cast(day.isoformat(), sa.Date()) + 1
    )
    with database.engine.connect() as connection:
        return int(connection.execute(statement).scalar_one())


@contextmanager
def asking(database: Database, team_id: int) -> Iterator[None]:
    """While the block lasts, no other run asks a model about this team: two at once would pay for an answer twice."""
    key = int.from_bytes(hashlib.sha256(f"lipservice|judgements|{team_id}".encode()).digest()[:8], "big", signed=True)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
