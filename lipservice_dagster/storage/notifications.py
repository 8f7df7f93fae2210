"""The ledger of notifications: what people are told, once each, and how sending it went.

What happened is added by its natural key, as often as one likes; sending takes what is due, one message a transaction,
so that two senders never send the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import anomalies, backtests, notifications

FAILED_RUN, FAILED_GATE, HIGH_ANOMALY = "failed_run", "failed_gate", "high_anomaly"
_LONGEST_ERROR = 1_000
FIRST_DELAY, LONGEST_DELAY = timedelta(minutes=1), timedelta(hours=1)
MOST_TRIES = 30
"""With delays that double to an hour: about a day of a webhook that is away."""


@dataclass(frozen=True)
class Entry:
    """Something to tell: its kind, its ``topic`` (entries of one topic make one message), and what is known of it."""

    id: int
    kind: str
    topic: str
    details: dict[str, Any]
    tries: int


def add_failed_run(database: Database, run_id: str, of: str, error: str) -> None:
    """A run failed; ``of`` names its partition."""
    details = {"run_id": run_id, "of": of, "error": error[:_LONGEST_ERROR]}
    statement = pg.insert(notifications).on_conflict_do_nothing()
    values = {"kind": FAILED_RUN, "key": run_id, "topic": f"run {run_id}", "details": details}
    with database.engine.begin() as connection:
        connection.execute(statement.values(values))


def collect(database: Database, since: date) -> int:
    """Add the failed gates and the anomalies of high severity of the days from ``since`` on; how many were new.

    What was added once stays added: making a day again tells nobody again. Older days, of a backfill say, are no news.
    """
    day, team = (lambda t: sa.cast(t.c.day, sa.Text)), (lambda t: sa.cast(t.c.team_id, sa.Text))
    a, b = anomalies, backtests
    high = sa.select(
        sa.literal(HIGH_ANOMALY),
        sa.func.md5(
            sa.func.concat_ws(
                "|", day(a), team(a), a.c.service, a.c.environment, a.c.scope, a.c.subject, a.c.kind, a.c.start_hour
            )
        ),
        sa.func.concat_ws("|", day(a), team(a)),
        sa.func.jsonb_build_object(
            *_pairs(a, "team_id", "day", "service", "environment", "scope", "kind", "observed", "explanation")
        ),
    ).where(a.c.day >= since, a.c.severity == "high")
    gates = sa.select(
        sa.literal(FAILED_GATE),
        sa.func.md5(sa.func.concat_ws("|", day(b), team(b), b.c.service, b.c.environment)),
        sa.func.concat_ws("|", day(b), team(b)),
        sa.func.jsonb_build_object(*_pairs(b, "team_id", "day", "service", "environment", "why")),
    ).where(b.c.day >= since, ~b.c.passed, ~b.c.learning)
    added = 0
    with database.engine.begin() as connection:
        for found in (high, gates):
            statement = pg.insert(notifications).from_select(["kind", "key", "topic", "details"], found)
            added += connection.execute(statement.on_conflict_do_nothing()).rowcount
    return added


def send_due(database: Database, now: datetime, send: Callable[[list[Entry]], None]) -> tuple[int, str] | None:
    """Send the entries of the topic that has waited longest; (how many, '' or what went wrong), None if none is due.

    An error of ``send`` is kept with the entries, which are due again after a delay that doubles from time to time, up
    to an hour; after `MOST_TRIES` they are given up.
    """
    n = notifications.c
    due = sa.and_(n.sent_at.is_(None), n.tries < MOST_TRIES, n.next_try_at <= now)
    with database.engine.begin() as connection:
        first = connection.execute(
            sa.select(n.kind, n.topic)
            .where(due)
            .order_by(n.next_try_at, n.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if first is None:
            return None
        rows = connection.execute(
            sa.select(n.id, n.kind, n.topic, n.details, n.tries)
            .where(due, n.kind == first.kind, n.topic == first.topic)
            .order_by(n.id)
            .with_for_update(skip_locked=True)
        ).all()
        entries = [Entry(*row) for row in rows]
        tries = max(e.tries for e in entries) + 1
        try:
            send(entries)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            delay = min(FIRST_DELAY * 2 ** (tries - 1), LONGEST_DELAY)
            values = {"tries": tries, "error": told, "next_try_at": now + delay}
        else:
            told, values = "", {"tries": tries, "error": None, "sent_at": now}
        connection.execute(sa.update(notifications).where(n.id.in_([e.id for e in entries])).values(**values))
    return len(entries), told


def _pairs(table: sa.Table, *columns: str) -> list[Any]:
    return [x for c in columns for x in (sa.literal(c), table.c[c])]
