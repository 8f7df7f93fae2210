"""/api/v1/policies: what decides over a service, what did, what changes, and the way back."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from lipservice_dagster.core.policy import diff
from lipservice_dagster.serving.context import Reader, Writer
from lipservice_dagster.serving.models import (
    DiffAnswer,
    HistoryAnswer,
    Name,
    PolicyAnswer,
    ReleaseAnswer,
    Rollback,
    Side,
    Team,
)
from lipservice_dagster.serving.policy_answers import YAML, Asked, names
from lipservice_dagster.serving.problems import ProblemError, documented
from lipservice_dagster.storage import releases, services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import IN_FORCE, PinnedError, Release, UnknownPolicyError, UnprovenError
from lipservice_dagster.storage.served import Scope

router = APIRouter(prefix="/api/v1/policies", tags=["policies"])

Service = Annotated[Name, Path(description="Name of the service; a slash in it is written %2F.", examples=["shop"])]
TeamQuery = Annotated[Team, Query(examples=[7])]
Environment = Annotated[Name, Query(description="Environment of the service; empty where it has none.")]
Format = Annotated[
    Literal["otelcol", "vector", "fluentbit"] | None, Query(description="For a collector. Default: for samplers.")
]
Which = Annotated[Name, Query(description="A day (2026-09-10), a version or its beginning, or in-force.")]


@router.get(
    "/{service:quoted}",
    responses={
        200: {
            "model": PolicyAnswer,
            "headers": {"ETag": {"schema": {"type": "string"}}},
            "content": {YAML: {"schema": {"type": "object"}}},
            "description": "The document; with a format, that collector's configuration.",
        },
        304: {"description": "It is what If-None-Match names."},
        **documented(401, 403, 404, 422),
    },
    response_class=Response,
    summary="The policy in force, with its overlay",
)
async def policy(
    request: Request,
    service: Service,
    team_id: TeamQuery,
    caller: Reader,
    environment: Environment = "",
    format: Format = None,  # noqa: A002
) -> Response:
    """What a sampler decides by: the live (or shadow) policy and the overlay of overrides and boosts.

    A service that is known and has no release is answered with mode default, version 0 and no policy: all is kept.
    Changes are seen within a second; ask with If-None-Match. With a format: a fragment of that collector's
    configuration, which keeps what the policy keeps; its comments say what it cannot do.
    """
    caller.require_team(team_id)
    found = await caller.context.policies.of(Asked(Scope(team_id, service, environment), format))
    if names(request.headers.get("if-none-match", ""), found.etag):
        return Response(status_code=304, headers=found.headers)
    return Response(found.body, headers=found.headers, media_type=found.media_type)


@router.get("/{service:quoted}/history", responses=documented(401, 403, 404, 422), summary="Releases, newest first")
def history(
    service: Service,
    team_id: TeamQuery,
    caller: Reader,
    environment: Environment = "",
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only entries older than this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> HistoryAnswer:
    """Who released what and why; `next` asks for the older ones."""
    caller.require_team(team_id)
    database = caller.context.database
    _require_known(database, team_id, service, environment)
    entries = releases.history(database, team_id, service, environment, before=before, limit=limit + 1)
    more = entries[limit - 1].id if len(entries) > limit else None
    return HistoryAnswer(releases=[_entry(e) for e in entries[:limit]], next=more)


@router.get("/{service:quoted}/diff", responses=documented(401, 403, 404, 422), summary="What changes between two")
def difference(
    service: Service,
    team_id: TeamQuery,
    caller: Reader,
    environment: Environment = "",
    one: Which = IN_FORCE,
    other: Annotated[Name | None, Query(description="Likewise. Default: the newest computed.")] = None,
) -> DiffAnswer:
    """What changes from policy `one` to policy `other`, in sentences, the largest changes first."""
    caller.require_team(team_id)
    database = caller.context.database
    try:
        first = releases.named(database, team_id, service, environment, one)
        second = releases.named(database, team_id, service, environment, other)
    except UnknownPolicyError as error:
        raise ProblemError(404, str(error)) from error
    return DiffAnswer(
        one=Side(day=first.day, version=first.version),
        other=Side(day=second.day, version=second.version),
        changes=diff(first, second),
    )


@router.post(
    "/{service:quoted}/rollback",
    responses=documented(400, 401, 403, 404, 408, 409, 413, 422),
    summary="Pin an earlier release",
)
def rollback(service: Service, wanted: Rollback, caller: Writer) -> ReleaseAnswer:
    """Go back to an earlier release, which stays until it is unpinned; by default the last other one that dropped.

    409 where there is none to go back to, none is named while one is pinned, or the one named may not drop logs.
    """
    caller.require_team(wanted.team_id)
    database = caller.context.database
    _require_known(database, wanted.team_id, service, wanted.environment)
    try:
        entry = releases.roll_back(
            database,
            wanted.team_id,
            service,
            wanted.environment,
            day=wanted.day,
            version=wanted.version,
            actor=f"{wanted.actor} (key {caller.key.name})",
            reason=wanted.reason,
        )
    except (UnknownPolicyError, PinnedError, UnprovenError) as error:
        raise ProblemError(409, str(error)) from error
    return _entry(entry)


def _require_known(database: Database, team_id: int, service: str, environment: str) -> None:
    if not services.find(database, team_id=team_id, name=service, environment=environment):
        raise ProblemError(404, f"Team {team_id} has no service {service!r} in {environment!r}")


def _entry(entry: Release) -> ReleaseAnswer:
    return ReleaseAnswer(**{name: getattr(entry, name) for name in ReleaseAnswer.model_fields})
