"""The application: nothing but assembly, and what is asked of the server itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Literal

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from lipservice_dagster.serving import problems
from lipservice_dagster.serving.context import Context, Shared
from lipservice_dagster.serving.door import Door
from lipservice_dagster.serving.hot import Hot
from lipservice_dagster.serving.models import Dependency, HealthAnswer
from lipservice_dagster.serving.problems import ProblemDocument
from lipservice_dagster.serving.routes import policies, services, work
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import reported
from lipservice_dagster.storage.database import Database

_LOGGER = logging.getLogger(__name__)
_THREADS = 8  # with those of asyncio no more than the pool has connections for
_FORGET_SECONDS = 3600.0

own = APIRouter(tags=["server"])


def create_app(settings: Settings, database: Database) -> FastAPI:
    """The application over a database whose tables are there."""
    context = Context(settings, database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        context.changes.start()
        forgetting = asyncio.create_task(_forget(context))
        yield
        forgetting.cancel()
        with suppress(asyncio.CancelledError):
            await forgetting
        context.changes.stop()
        context.runs.close()

    app = FastAPI(
        title="LipService",
        version=version("lipservice-dagster"),
        description="Sampling policies for a team's logs, proven on real days before they go live.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.context = context
    problems.install(app)
    for router in (own, policies.router, services.router, work.router):
        app.include_router(router)
    route = next(r for r in policies.router.routes if getattr(r, "endpoint", None) is policies.policy)
    app.add_middleware(Hot, context=context, route=route, prefix=f"{policies.router.prefix}/")
    app.add_middleware(Door, metrics=context.metrics, max_body_bytes=settings.api_max_body_bytes)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@own.get("/", responses=problems.documented(), summary="What this is")
async def root() -> dict[str, str]:
    """Where to go on."""
    return {"name": "LipService", "version": version("lipservice-dagster"), "docs": "/docs", "health": "/health"}


@own.get(
    "/health",
    responses={
        503: {"model": HealthAnswer, "description": "Policies cannot be served."},
        **{s: d for s, d in problems.documented().items() if s != 503},
    },
    summary="Whether all is well",
)
async def health(context: Shared, response: Response) -> HealthAnswer:
    """With each dependency. Only without PostgreSQL it is down (503)."""
    postgres, dagster = await asyncio.gather(
        run_in_threadpool(_checked, lambda: _postgres(context.database)),
        run_in_threadpool(_checked, lambda: context.runs.daemon()),
    )
    alive = context.changes.alive
    changes = Dependency(ok=alive, detail="PostgreSQL tells of changes" if alive else "policies are not held meanwhile")
    response.status_code = 200 if postgres.ok else 503
    well: Literal["ok", "degraded"] = "ok" if dagster.ok and alive else "degraded"
    status = well if postgres.ok else "down"
    return HealthAnswer(status=status, dependencies={"postgres": postgres, "changes": changes, "dagster": dagster})


@own.get(
    "/metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems.documented()},
    response_class=Response,
    summary="For Prometheus",
)
async def metrics(context: Shared) -> Response:
    """Requests, their times, where policies came from, logs that samplers told of."""
    return Response(generate_latest(context.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _postgres(database: Database) -> tuple[bool, str]:
    database.require_current()
    return True, f"migration {database.revision()}"


def _checked(check: Callable[[], tuple[bool, str]]) -> Dependency:
    try:
        ok, detail = check()
    except Exception as error:  # whatever is wrong with it, it is what is asked
        ok, detail = False, f"{type(error).__name__}: {str(error)[:300].partition(chr(10))[0]}"
    return Dependency(ok=ok, detail=detail)


async def _forget(context: Context) -> None:
    """Drop what samplers reported of days that are no partitions any more, now and then."""
    while True:
        now = datetime.now(UTC)
        try:
            oldest = now - timedelta(days=context.settings.history_days)
            await context.thread(reported.forget, oldest, now - reported.REMEMBERED)
        except Exception:
            _LOGGER.exception("reports that are too old could not be dropped; it is tried again")
        await asyncio.sleep(_FORGET_SECONDS)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the problems that the routes answer with."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = found["components"]["schemas"]
        document = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= document.pop("$defs", {}) | {"ProblemDocument": document}
        app.openapi_schema = found
    return app.openapi_schema
