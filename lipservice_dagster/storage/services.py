"""Services: the registry of those that ever logged, and their volumes by hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import raw_logs, services


def register(database: Database, raw: pd.DataFrame) -> None:
    """Add the services of these raw_logs rows, or stretch their first and last day; in any order with the same end."""
    if raw.empty:
        return
    found = raw.groupby(["team_id", "service", "environment"], as_index=False).agg(
        first_day=("day", "min"), last_day=("day", "max")
    )
    values = found.rename(columns={"service": "name"}).astype({"team_id": int}).to_dict("records")
    statement = pg.insert(services)
    statement = statement.on_conflict_do_update(
        index_elements=["team_id", "name", "environment"],
        set_={
            "first_day": sa.func.least(services.c.first_day, statement.excluded.first_day),
            "last_day": sa.func.greatest(services.c.last_day, statement.excluded.last_day),
        },
    )
    with database.engine.begin() as connection:
        for i in range(0, len(values), 1_000):
            connection.execute(statement.values(values[i : i + 1_000]))


def volumes(database: Database, team_id: int, first_day: date, last_day: date) -> pd.DataFrame:
    """The team's services with what they logged on these days (both included).

    Columns service, environment, days (with logs), logs, bytes, weighted_logs, errors (stored logs of error and fatal)
    and hours (24 floats: weighted logs by UTC hour, summed over the days); the largest by bytes first. A service of
    the registry that was silent has zeros.
    """
    day = sa.and_(raw_logs.c.team_id == team_id, raw_logs.c.day.between(first_day, last_day))
    by_hour = sa.func.unnest(raw_logs.c.hours).table_valued("value", with_ordinality="hour").render_derived()
    key = [raw_logs.c.service, raw_logs.c.environment]
    hourly = (
        sa.select(*key, by_hour.c.hour, sa.func.sum(by_hour.c.value).label("value"))
        .select_from(raw_logs.join(by_hour, sa.true()))
        .where(day)
        .group_by(*key, by_hour.c.hour)
        .subquery()
    )
    hours = (
        sa.select(
            hourly.c.service,
            hourly.c.environment,
            sa.func.array_agg(pg.aggregate_order_by(hourly.c.value, hourly.c.hour)).label("hours"),
        )
        .group_by(hourly.c.service, hourly.c.environment)
        .subquery()
    )
    totals = (
        sa.select(
            *key,
            sa.func.count(raw_logs.c.day.distinct()).label("days"),
            sa.func.sum(raw_logs.c.logs).cast(sa.BigInteger).label("logs"),
            sa.func.sum(raw_logs.c.bytes).cast(sa.BigInteger).label("bytes"),
            sa.func.sum(raw_logs.c.weighted_logs).label("weighted_logs"),
            sa.func.coalesce(sa.func.sum(raw_logs.c.logs).filter(raw_logs.c.severity.in_(["error", "fatal"])), 0)
            .cast(sa.BigInteger)
            .label("errors"),
        )
        .where(day)
        .group_by(*key)
        .subquery()
    )

    def same(part: sa.Subquery) -> sa.ColumnElement[bool]:
        return sa.and_(part.c.service == services.c.name, part.c.environment == services.c.environment)

    counted = [sa.func.coalesce(totals.c[c], 0).label(c) for c in ("days", "logs", "bytes", "weighted_logs", "errors")]
    statement = (
        sa.select(
            services.c.name.label("service"),
            services.c.environment,
            *counted,
            sa.func.coalesce(hours.c.hours, sa.func.array_fill(sa.cast(0, sa.Double), pg.array([24]))).label("hours"),
            services.c.first_day,
            services.c.last_day,
        )
        .select_from(services.outerjoin(totals, same(totals)).outerjoin(hours, same(hours)))
        .where(services.c.team_id == team_id)
        .order_by(sa.desc("bytes"), services.c.name, services.c.environment)
    )
    with database.engine.connect() as connection:
        return pd.read_sql(statement, connection)


@dataclass(frozen=True)
class Service:
    """A service and environment of the registry; without days while it has not logged."""

    id: int
    team_id: int
    name: str
    environment: str
    first_day: date | None
    last_day: date | None


_COLUMNS = [services.c[name] for name in Service.__dataclass_fields__]


def add(database: Database, team_id: int, name: str, environment: str) -> tuple[Service, bool]:
    """Register a service that may not have logged yet; returns it, and whether it is new."""
    key = {"team_id": team_id, "name": name, "environment": environment}
    new = pg.insert(services).values(key).on_conflict_do_nothing().returning(*_COLUMNS)
    with database.engine.begin() as connection:
        row = connection.execute(new).first()
        if row is not None:
            return Service(**row._mapping), True
        known = sa.select(*_COLUMNS).where(*(services.c[column] == value for column, value in key.items()))
        return Service(**connection.execute(known).one()._mapping), False


def find(database: Database, **wanted: Any) -> list[Service]:
    """The services whose columns (``id``, ``team_id``, ``name``, ``environment``) are these, by name."""
    statement = (
        sa.select(*_COLUMNS)
        .where(*(services.c[column] == value for column, value in wanted.items()))
        .order_by(services.c.name, services.c.environment)
    )
    with database.engine.connect() as connection:
        return [Service(**row._mapping) for row in connection.execute(statement)]
