"""The policies that are served, as finished answers, held until something of their team changes or their time comes.

As documents for samplers, or in a format for collectors.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from prometheus_client import Counter
from starlette.responses import Response

from lipservice_dagster.core.exports import export
from lipservice_dagster.core.overlay import overlay_document
from lipservice_dagster.core.policy import document, keep_all
from lipservice_dagster.serving.held import Held
from lipservice_dagster.serving.problems import ProblemError
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import DROPPING
from lipservice_dagster.storage.served import Scope, overlays, served_of

LIVE, SHADOW, DEFAULT = "live", "shadow", "default"
JSON, YAML = "application/json", "application/yaml"
_LONGEST = timedelta(seconds=60)


class Asked(NamedTuple):
    """Whose policy, in which of `core.exports.FORMATS`; None: the document itself."""

    scope: Scope
    format: str | None = None


@dataclass(frozen=True)
class Current:
    """What decides over a service now; ``document`` None: nothing was released, all is kept."""

    mode: str
    version: str
    released_at: datetime | None
    document: dict[str, Any] | None
    overlay: dict[str, Any]
    until: datetime

    def answer(self, scope: Scope, refresh_seconds: float) -> dict[str, Any]:
        """As it is served."""
        at = None if self.released_at is None else self.released_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return {
            **scope._asdict(),
            "mode": self.mode,
            "version": self.version,
            "released_at": at,
            "policy": self.document,
            "overlay": self.overlay,
            "refresh_seconds": refresh_seconds,
        }

    def exported(self, scope: Scope, format: str, at: datetime) -> str:  # noqa: A002
        """As a collector's configuration; where nothing was released, one that keeps all."""
        if self.document is None:
            return export(document(keep_all(*scope, at.date())), None, format, mode=SHADOW)
        return export(self.document, self.overlay, format, mode=self.mode)


@dataclass(frozen=True)
class Finished:
    """The bytes of an answer, their name and their type."""

    body: bytes
    etag: str
    media_type: str

    @cached_property
    def headers(self) -> dict[str, str]:
        """Those of the answer, be it with the body or without."""
        return {"ETag": self.etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}

    @cached_property
    def whole(self) -> list[tuple[bytes, bytes]]:
        """The headers of status 200 as ASGI has them."""
        return Response(self.body, headers=self.headers, media_type=self.media_type).raw_headers

    @cached_property
    def not_modified(self) -> list[tuple[bytes, bytes]]:
        """The headers of status 304."""
        return Response(status_code=304, headers=self.headers).raw_headers


def current(database: Database, scope: Scope, at: datetime) -> Current:
    """What decides over a service at a moment, until it changes by itself (a boost begins, an override ends).

    Raises ProblemError (404) where the service is not known.
    """
    found = served_of(database, [scope], at).get(scope)
    if found is None and not services.find(
        database, team_id=scope.team_id, name=scope.service, environment=scope.environment
    ):
        others = services.find(database, team_id=scope.team_id, name=scope.service)
        known = f"; it is known in {', '.join(repr(s.environment) for s in others[:10])}" if others else ""
        detail = f"Team {scope.team_id} has no service {scope.service!r} in environment {scope.environment!r}{known}"
        raise ProblemError(404, detail)
    until = at + _LONGEST
    said = overlays(database, [scope.team_id], at, until)
    until = min(said.next_change(*scope, at) or until, until)
    overlay = overlay_document(said.of(*scope, at))
    if found is None:
        return Current(DEFAULT, "0", None, None, overlay, until)
    mode = LIVE if found.mode in DROPPING else SHADOW
    return Current(mode, found.version, found.released_at, found.document, overlay, until)


class PolicyAnswers:
    """The answers, by service and environment and by format."""

    def __init__(self, settings: Settings, database: Database, may_hold: Callable[[], bool], origins: Counter):
        self._settings, self._database = settings, database
        self._held: Held[Asked, Finished] = Held(self._load, settings.api_cache_bytes, may_hold)
        self._memory, self._loaded = origins.labels("memory"), origins.labels("postgres")

    def forget(self, team: int | None) -> None:
        """A team's policies have changed (None: any may have)."""
        self._held.forget(team)

    def held(self, asked: Asked) -> Finished | None:
        """The answer, where it is held."""
        found = self._held.get(asked)
        if found is not None:
            self._memory.inc()
        return found

    async def of(self, asked: Asked) -> Finished:
        """The answer. Raises ProblemError (404) where the service is not known."""
        found = self.held(asked)
        if found is not None:
            return found
        self._loaded.inc()
        return await self._held.of(asked)

    async def _load(self, asked: Asked) -> tuple[Finished, int, int, float]:
        finished, until = await asyncio.to_thread(self._make, asked)
        return finished, asked.scope.team_id, len(finished.body), until

    def _make(self, asked: Asked) -> tuple[Finished, float]:
        began = time.monotonic()
        with self._database.engine.connect() as connection:
            at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        found = current(self._database, asked.scope, at)
        if asked.format is None:
            answer = found.answer(asked.scope, self._settings.api_refresh_seconds)
            text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        else:
            text = found.exported(asked.scope, asked.format, at)
        body = text.encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        finished = Finished(body, etag, JSON if asked.format is None else YAML)
        return finished, began + (found.until - at).total_seconds()


def names(if_none_match: str, etag: str) -> bool:
    """Whether the header If-None-Match names this answer."""
    return if_none_match.strip() == "*" or any(
        tag.strip().removeprefix("W/") == etag for tag in if_none_match.split(",")
    )
