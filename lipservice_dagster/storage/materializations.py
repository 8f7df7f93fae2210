"""What is stored of each asset and team-day: the reading side of ``materializations``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import materializations


@dataclass(frozen=True)
class Materialization:
    """The stored content of one partition, and what the last attempt to make it anew says where it left it as it was.

    ``problem``: something is wrong. ``kept``: nothing is, but its source holds nothing of it any more.
    """

    rows: int | None
    logs: int | None
    fingerprint: str | None
    as_of: datetime | None
    hours: int | None
    problem: str | None
    kept: str | None


def of(database: Database, asset: str, team_days: Collection[TeamDay]) -> dict[TeamDay, Materialization]:
    """The entries of these team-days; those never attempted are not in the answer."""
    if not team_days:
        return {}
    wanted = set(team_days)
    table = materializations.c
    statement = sa.select(
        table.team_id,
        table.day,
        table.rows,
        table.logs,
        table.fingerprint,
        table.as_of,
        table.hours,
        table.problem,
        table.kept,
    ).where(
        table.asset == asset,
        table.team_id.in_({d.team_id for d in wanted}),
        table.day.in_({d.day for d in wanted}),
    )
    with database.engine.connect() as connection:
        rows = connection.execute(statement).all()
    found = {TeamDay(row.team_id, row.day): Materialization(*row[2:]) for row in rows}
    return {d: m for d, m in found.items() if d in wanted}


def latest_days(database: Database, asset: str) -> dict[int, tuple[date, int]]:
    """Of each team the latest day of which the asset holds content, and how many days there are."""
    table = materializations.c
    statement = (
        sa.select(table.team_id, sa.func.max(table.day), sa.func.count())
        .where(table.asset == asset, table.fingerprint.is_not(None))
        .group_by(table.team_id)
    )
    with database.engine.connect() as connection:
        return {team: (day, days) for team, day, days in connection.execute(statement)}


def kept(database: Database, team_ids: Collection[int], first: date, last: date) -> list[TeamDay]:
    """The team-days from ``first`` to ``last`` that keep their raw logs because the log store has none any more."""
    table = materializations.c
    statement = (
        sa.select(table.team_id, table.day)
        .where(
            table.asset == "raw_logs",
            table.kept.is_not(None),
            table.day.between(first, last),
            table.team_id.in_(team_ids),
        )
        .order_by(table.team_id, table.day)
    )
    with database.engine.connect() as connection:
        return [TeamDay(row.team_id, row.day) for row in connection.execute(statement)]


def written(entries: dict[TeamDay, Materialization]) -> dict[TeamDay, Materialization]:
    """Those that hold content."""
    return {d: m for d, m in entries.items() if m.fingerprint is not None}


def fingerprint_of(entries: dict[TeamDay, Materialization], days: Iterable[TeamDay]) -> str:
    """One hash of what these days held when they were read; a day never made counts as such."""
    digest = hashlib.sha256()
    for day in sorted(days):
        entry = entries.get(day)
        digest.update(f"{day}={entry.fingerprint if entry else None};".encode())
    return digest.hexdigest()[:16]
