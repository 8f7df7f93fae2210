"""/api/v1/services: what is known of a team's services, and what was found in their logs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import pandas as pd
import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Response

from lipservice_dagster.serving.context import Caller, Reader, Writer
from lipservice_dagster.serving.models import (
    AnomalyAnswer,
    DroppedAnswer,
    NewService,
    PatternsAnswer,
    ReportedDay,
    ReportedHour,
    ReportedPattern,
    SavingsAnswer,
    SavingsDay,
    ServiceAnswer,
    StoredHour,
    StoredPattern,
)
from lipservice_dagster.serving.problems import ProblemError, documented, unprocessable
from lipservice_dagster.serving.routes.policies import Environment, Service, TeamQuery
from lipservice_dagster.storage import reported, services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.dropped import dropped as dropped_of
from lipservice_dagster.storage.tables import anomalies as anomalies_table
from lipservice_dagster.storage.tables import savings as savings_table
from lipservice_dagster.storage.tables import signatures

router = APIRouter(prefix="/api/v1/services", tags=["services"])

_MOST_DAYS = 366
Day = Annotated[date, Query(description="UTC day.", examples=["2026-11-23"])]
First = Annotated[date | None, Query(alias="from", description="First UTC day. Default: six days before the last.")]
Last = Annotated[date | None, Query(alias="to", description="Last UTC day. Default: today.")]
_ERRORS = documented(401, 403, 404, 422)


@router.post(
    "/",
    status_code=201,
    responses={
        200: {"model": ServiceAnswer, "description": "It was known already."},
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **documented(400, 401, 403, 404, 408, 413, 422),
    },
    summary="Make a service known before it logs",
)
def add(new: NewService, caller: Writer, response: Response) -> ServiceAnswer:
    """A service that logs is known by itself; this one is served a keep-all default until it has a release."""
    caller.require_team(new.team_id)
    found, is_new = services.add(caller.context.database, new.team_id, new.name, new.environment)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/v1/services/{found.id}"
    return ServiceAnswer(**vars(found))


@router.get("/", responses=_ERRORS, summary="A team's services")
def of_team(team_id: TeamQuery, caller: Reader) -> list[ServiceAnswer]:
    """Every service and environment of the team, by name."""
    caller.require_team(team_id)
    return [ServiceAnswer(**vars(s)) for s in services.find(caller.context.database, team_id=team_id)]


@router.get("/{service_id}", responses=_ERRORS, summary="A service by its number")
def by_id(service_id: Annotated[int, Path(ge=1, le=2**63 - 1)], caller: Reader) -> ServiceAnswer:
    """One service and environment."""
    found = services.find(caller.context.database, id=service_id, team_id=caller.key.team_id)
    if not found:
        raise ProblemError(404, f"There is no service {service_id}")
    return ServiceAnswer(**vars(found[0]))


@router.get("/{service:quoted}/savings", responses=_ERRORS, summary="Savings by day, as stored and as reported")
def savings(
    service: Service,
    team_id: TeamQuery,
    caller: Reader,
    environment: Environment = "",
    first: First = None,
    last: Last = None,
) -> SavingsAnswer:
    """What live policies kept, from the logs as they are stored, and what samplers saw and kept of it."""
    database = _known(caller, team_id, service, environment)
    first, last = _span(first, last)
    rows = _rows(database, savings_table, team_id, service, environment, first, last, list(SavingsDay.model_fields))
    told = reported.by_day(database, team_id, service, environment, first, last)
    return SavingsAnswer(stored=[SavingsDay(**r) for r in rows], reported=[ReportedDay(**r) for r in told])


@router.get("/{service:quoted}/patterns", responses=_ERRORS, summary="The largest patterns of a day")
def patterns(
    service: Service,
    team_id: TeamQuery,
    caller: Reader,
    day: Day,
    environment: Environment = "",
    limit: Annotated[int, Query(ge=1, le=5_000)] = 200,
) -> PatternsAnswer:
    """As the day's logs hold them, and as samplers saw them: those of which nothing was sent too."""
    database = _known(caller, team_id, service, environment)
    names = list(StoredPattern.model_fields)
    order = [signatures.c.weighted_bytes.desc(), signatures.c.signature]
    rows = _rows(database, signatures, team_id, service, environment, day, day, names, order, limit)
    told = reported.patterns(database, team_id, service, environment, day, limit)
    return PatternsAnswer(stored=[StoredPattern(**r) for r in rows], reported=[ReportedPattern(**r) for r in told])


@router.get("/{service:quoted}/anomalies", responses=_ERRORS, summary="Anomalies by day")
def anomalies(
    service: Service,
    team_id: TeamQuery,
    caller: Reader,
    environment: Environment = "",
    first: First = None,
    last: Last = None,
) -> list[AnomalyAnswer]:
    """What was out of the ordinary, the newest day first."""
    database = _known(caller, team_id, service, environment)
    table = anomalies_table
    order = [table.c.day.desc(), table.c.p_value, table.c.kind, table.c.subject, table.c.start_hour]
    names = list(AnomalyAnswer.model_fields)
    rows = _rows(database, table, team_id, service, environment, *_span(first, last), names, order)
    return [AnomalyAnswer(**r) for r in rows]


@router.get("/{service:quoted}/dropped", responses=_ERRORS, summary="What of each pattern was dropped, by hour")
def dropped(
    service: Service, team_id: TeamQuery, caller: Reader, day: Day, environment: Environment = ""
) -> DroppedAnswer:
    """Seen, kept and rate per pattern and hour of a day: by the weights of the stored logs, and as samplers counted."""
    database = _known(caller, team_id, service, environment)
    found: pd.DataFrame = dropped_of(database, team_id, day, service, environment)
    rows = found.drop(columns=["service", "environment"]).to_dict("records")
    told = reported.dropped(database, team_id, service, environment, day)
    return DroppedAnswer(stored=[StoredHour(**r) for r in rows], reported=[ReportedHour(**r) for r in told])


def _known(caller: Caller, team_id: int, service: str, environment: str) -> Database:
    caller.require_team(team_id)
    database = caller.context.database
    if not services.find(database, team_id=team_id, name=service, environment=environment):
        raise ProblemError(404, f"Team {team_id} has no service {service!r} in {environment!r}")
    return database


def _span(first: date | None, last: date | None) -> tuple[date, date]:
    last = last or datetime.now(UTC).date()
    if first is None:
        first = max(last, date.min + timedelta(days=6)) - timedelta(days=6)
    if not 0 <= (last - first).days < _MOST_DAYS:
        raise unprocessable(("query.from", f"must lie before `to`, by less than {_MOST_DAYS} days"))
    return first, last


def _rows(
    database: Database,
    table: sa.Table,
    team_id: int,
    service: str,
    environment: str,
    first: date,
    last: date,
    names: list[str],
    order: list[Any] | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    c = table.c
    statement = (
        sa.select(*(c[name] for name in names))
        .where(c.team_id == team_id, c.day.between(first, last), c.service == service, c.environment == environment)
        .order_by(*(order or [c.day]))
        .limit(limit)
    )
    with database.engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(statement)]
