"""The policies that are served, as finished answers, held until something of their team changes or their time comes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter

from lipservice_dagster.core.overlay import overlay_document
from lipservice_dagster.serving.held import Held
from lipservice_dagster.serving.problems import ProblemError
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import DROPPING
from lipservice_dagster.storage.served import Scope, overlays, served_of

LIVE, SHADOW, DEFAULT = "live", "shadow", "default"
_LONGEST = timedelta(seconds=60)


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


@dataclass(frozen=True)
class Finished:
    """The bytes of an answer and their name."""

    body: bytes
    etag: str


def current(database: Database, scope: Scope, at: datetime) -> Current:
    """What decides over a service at a moment, until it changes by itself (a boost begins, an override ends).

    Raises ProblemError (404) where the service is not known.
    """
    found = served_of(database, [scope], at).get(scope)
    if found is None and not services.find(
        database, team_id=scope.team_id, name=scope.service, environment=scope.environment
    ):
        where = f" in {scope.environment!r}" if scope.environment else ""
        raise ProblemError(404, f"Team {scope.team_id} has no service {scope.service!r}{where}")
    until = at + _LONGEST
    said = overlays(database, [scope.team_id], at, until)
    until = min(said.next_change(*scope, at) or until, until)
    overlay = overlay_document(said.of(*scope, at))
    if found is None:
        return Current(DEFAULT, "0", None, None, overlay, until)
    mode = LIVE if found.mode in DROPPING else SHADOW
    return Current(mode, found.version, found.released_at, found.document, overlay, until)


class PolicyAnswers:
    """The answers, by service and environment."""

    def __init__(self, settings: Settings, database: Database, may_hold: Callable[[], bool], origins: Counter):
        self._settings, self._database = settings, database
        self._held: Held[Scope, Finished] = Held(self._load, settings.api_cache_bytes, may_hold)
        self._memory, self._loaded = origins.labels("memory"), origins.labels("postgres")

    def forget(self, team: int | None) -> None:
        """A team's policies have changed (None: any may have)."""
        self._held.forget(team)

    async def of(self, scope: Scope) -> Finished:
        """The answer. Raises ProblemError (404) where the service is not known."""
        found = self._held.get(scope)
        if found is not None:
            self._memory.inc()
            return found
        self._loaded.inc()
        return await self._held.of(scope)

    async def _load(self, scope: Scope) -> tuple[Finished, int, int, float]:
        finished, until = await asyncio.to_thread(self._make, scope)
        return finished, scope.team_id, len(finished.body), until

    def _make(self, scope: Scope) -> tuple[Finished, float]:
        began = time.monotonic()
        with self._database.engine.connect() as connection:
            at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        found = current(self._database, scope, at)
        answer = found.answer(scope, self._settings.api_refresh_seconds)
        body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return Finished(body, etag), began + (found.until - at).total_seconds()
