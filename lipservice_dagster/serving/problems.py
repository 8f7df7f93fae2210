"""Errors as application/problem+json (RFC 9457), whoever raises them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lipservice_dagster.storage.database import DatabaseError

MEDIA_TYPE = "application/problem+json"
_AWAY_SECONDS = 5


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Where it stands: body.patterns.0.kept, query.team_id, path.service.")
    message: str = Field(description="What is wrong with it.")


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 writes it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "query.team_id: Field required",
                    "errors": [{"field": "query.team_id", "message": "Field required"}],
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default=[], description="The fields that are wrong, of a 422.")


class ProblemError(Exception):
    """Ends a request with this status; ``errors`` are (field, message)."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers

    def response(self) -> Response:
        """The answer."""
        content = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "errors": [{"field": field, "message": message} for field, message in self.errors],
        }
        # ASCII: what was sent may hold half a surrogate pair, which is no UTF-8.
        body = json.dumps(content).encode()
        return Response(body, self.status, headers=dict(self.headers or {}), media_type=MEDIA_TYPE)


def unprocessable(*errors: tuple[str, str]) -> ProblemError:
    """422 with these (field, message)."""
    return ProblemError(422, "; ".join(f"{field}: {message}" for field, message in errors[:5]), errors=errors)


def away(what: str) -> ProblemError:
    """503: something that is needed does not answer."""
    return ProblemError(503, what, headers={"Retry-After": str(_AWAY_SECONDS)})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's ``responses`` for these statuses and for those that every route may answer with."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 429, 500, 503})
    }


def install(app: FastAPI) -> None:
    """Let every error of the application be answered so."""

    @app.exception_handler(ProblemError)
    async def ours(_: Request, problem: ProblemError) -> Response:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def starlettes(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # A path has a route for each of its methods, and the router names those of one.
            path = getattr(request.scope.get("route"), "path_format", None)
            if told := request.app.openapi()["paths"].get(path):
                headers["Allow"] = ", ".join(sorted(method.upper() for method in told))
        return ProblemError(error.status_code, str(error.detail), headers=headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return unprocessable(*(_field(e) for e in error.errors())).response()

    @app.exception_handler(sa.exc.OperationalError)
    @app.exception_handler(sa.exc.TimeoutError)
    @app.exception_handler(DatabaseError)
    async def no_database(_: Request, error: Exception) -> Response:
        return away("PostgreSQL does not answer").response()

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> Response:
        return ProblemError(500, "The server has failed; its log says why").response()


def _field(error: Mapping[str, Any]) -> tuple[str, str]:
    if error["type"] == "json_invalid":
        return "body", f"is no JSON: {error.get('ctx', {}).get('error', error['msg'])}"
    return ".".join(str(part) for part in error["loc"]), str(error["msg"])
