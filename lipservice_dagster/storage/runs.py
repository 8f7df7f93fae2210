"""The record of analysis runs: what each Dagster run did to each team-day, asset by asset."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import analysis_runs

_LONGEST_ERROR = 4_000


def start(database: Database, run_id: str, asset: str, team_days: Collection[TeamDay]) -> None:
    """Note that the run has begun this asset for these team-days (again, where a step is tried again)."""
    _upsert(database, run_id, asset, {d: {"status": "running", "counts": {}, "error": None} for d in team_days})


def succeed(database: Database, run_id: str, asset: str, counts: Mapping[TeamDay, Mapping[str, Any]]) -> None:
    """Note the end, with what was counted."""
    _upsert(
        database,
        run_id,
        asset,
        {d: {"status": "succeeded", "counts": dict(c), "error": None} for d, c in counts.items()},
        finished=True,
    )


def fail(database: Database, run_id: str, asset: str, errors: Mapping[TeamDay, str]) -> None:
    """Note that these team-days were not made, and why."""
    _upsert(
        database,
        run_id,
        asset,
        {d: {"status": "failed", "counts": {}, "error": e[:_LONGEST_ERROR]} for d, e in errors.items()},
        finished=True,
    )


@contextmanager
def failing(database: Database, run_id: str, asset: str, team_days: Collection[TeamDay]) -> Iterator[None]:
    """Note an error of the block for all these team-days, and let it go on its way."""
    try:
        yield
    except Exception as error:
        fail(database, run_id, asset, dict.fromkeys(team_days, f"{type(error).__name__}: {error}"))
        raise


def fail_unfinished(database: Database, run_id: str, error: str) -> int:
    """Note the end of a run that died or was stopped before it could; returns how many entries were still open."""
    statement = (
        sa.update(analysis_runs)
        .where(analysis_runs.c.run_id == run_id, analysis_runs.c.status == "running")
        .values(status="failed", error=error[:_LONGEST_ERROR], finished_at=sa.func.now())
    )
    with database.engine.begin() as connection:
        return connection.execute(statement).rowcount


def latest_day(database: Database, asset: str, team_id: int, count: str) -> date | None:
    """The latest day of which a run of this asset has counted at least one of ``count`` for the team."""
    statement = sa.select(sa.func.max(analysis_runs.c.day)).where(
        analysis_runs.c.asset == asset,
        analysis_runs.c.team_id == team_id,
        analysis_runs.c.status == "succeeded",
        analysis_runs.c.counts[count].as_integer() >= 1,
    )
    with database.engine.connect() as connection:
        return connection.execute(statement).scalar()


def history(database: Database, team_id: int, limit: int = 50) -> pd.DataFrame:
    """The team's newest entries first."""
    statement = (
        sa.select(analysis_runs)
        .where(analysis_runs.c.team_id == team_id)
        .order_by(analysis_runs.c.started_at.desc(), analysis_runs.c.day.desc(), analysis_runs.c.asset)
        .limit(limit)
    )
    with database.engine.connect() as connection:
        return pd.read_sql(statement, connection)


def _upsert(
    database: Database, run_id: str, asset: str, rows: Mapping[TeamDay, Mapping[str, Any]], *, finished: bool = False
) -> None:
    if not rows:
        return
    statement = pg.insert(analysis_runs)
    statement = statement.on_conflict_do_update(
        index_elements=["run_id", "asset", "team_id", "day"],
        set_={
            "status": statement.excluded.status,
            "counts": statement.excluded.counts,
            "error": statement.excluded.error,
            "finished_at": sa.func.now() if finished else None,
        },
    )
    values = [
        {
            "run_id": run_id,
            "asset": asset,
            "team_id": d.team_id,
            "day": d.day,
            **row,
            "finished_at": sa.func.now() if finished else None,
        }
        for d, row in sorted(rows.items())
    ]
    with database.engine.begin() as connection:
        for i in range(0, len(values), 1_000):
            connection.execute(statement.values(values[i : i + 1_000]))


def of_run(database: Database, run_id: str, team_id: int) -> list[dict[str, Any]]:
    """What a run did to a team's days: rows of asset, day, status, counts, error, started_at, finished_at."""
    names = ("asset", "day", "status", "counts", "error", "started_at", "finished_at")
    statement = (
        sa.select(*(analysis_runs.c[n] for n in names))
        .where(analysis_runs.c.run_id == run_id, analysis_runs.c.team_id == team_id)
        .order_by(analysis_runs.c.started_at, analysis_runs.c.day, analysis_runs.c.asset)
    )
    with database.engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(statement)]
