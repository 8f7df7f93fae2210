"""What the routes share: the database, what is held of it, who asks and what they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from lipservice_dagster.serving.changes import Changes
from lipservice_dagster.serving.door import Metrics, Rates
from lipservice_dagster.serving.held import Held
from lipservice_dagster.serving.policy_answers import PolicyAnswers
from lipservice_dagster.serving.problems import ProblemError
from lipservice_dagster.serving.runs import Runs
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import keys
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.keys import READ, REPORT, WRITE, Key

_KEY_SECONDS = 60.0
_STRANGERS_A_SECOND = 20.0
"""Wrong keys of an address, and a burst of twice as many, before it is told to wait."""
_bearer = HTTPBearer(auto_error=False, description="A key made by `lipservice keys create`.")
T = TypeVar("T")


class Context:
    """Everything that lives as long as the application."""

    def __init__(self, settings: Settings, database: Database):
        self.settings, self.database = settings, database
        self.metrics = Metrics()
        self.changes = Changes(database.dsn, self.forget)
        self.rates, self.strangers = Rates(settings.api_rate), Rates(_STRANGERS_A_SECOND)
        self._narrow = asyncio.Lock()
        self.keys: Held[str, Key] = Held(self._load_key, 10_000, self._may_hold)
        self.policies = PolicyAnswers(settings, database, self._may_hold, self.metrics.policies)
        self.runs = Runs(settings, database)

    def forget(self, team: int | None) -> None:
        """Something of a team has changed."""
        self.keys.forget(team)
        self.policies.forget(team)

    def _may_hold(self) -> bool:
        return self.changes.alive

    async def _load_key(self, hashed: str) -> tuple[Key, int, int, float]:
        key = await asyncio.to_thread(keys.find, self.database, hashed)
        if key is None:
            raise ProblemError(401, "The key is not known, or was revoked", headers={"WWW-Authenticate": "Bearer"})
        return key, key.team_id, 1, time.monotonic() + _KEY_SECONDS

    async def identify(self, request: Request, secret: str | None) -> Key:
        """Whose request it is. Raises ProblemError: 401, or 429 where they ask too often."""
        if secret is None:
            raise ProblemError(401, "Send a key: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
        hashed = keys.hashed(secret)
        key = self.keys.get(hashed)
        if key is None:
            key = await self._looked_up(hashed, request.client.host if request.client else "")
        self.rates.take(key.id)
        return key

    async def _looked_up(self, hashed: str, address: str) -> Key:
        """The key from the database. Only wrong ones count against an address, which many may share; where there were
        too many, its keys are looked up one at a time, so that guessing costs no more than that.
        """
        async with self._narrow if self.strangers.spent(address) else nullcontext():
            try:
                return await self.keys.of(hashed)
            except ProblemError:
                self.strangers.take(address)
                raise

    async def thread(self, work: Callable[..., T], *values: Any, **named: Any) -> T:
        """Ask the database without holding the others up."""
        return await asyncio.to_thread(work, self.database, *values, **named)


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    key: Key
    context: Context

    def require_team(self, team_id: int) -> None:
        """Of another team nothing is told, not even whether it is there. Raises ProblemError (404)."""
        if team_id != self.key.team_id:
            raise ProblemError(404, f"There is no team {team_id}")


def context_of(request: Request) -> Context:
    """The application's."""
    found: Context = request.app.state.context
    return found


def _having(access: str) -> Callable[..., Awaitable[Caller]]:
    async def caller(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        context = context_of(request)
        key = await context.identify(request, credentials.credentials if credentials else None)
        if not key.may(access):
            raise ProblemError(403, f"The key {key.name!r} has access {key.access}; this needs {access}")
        return Caller(key, context)

    return caller


Shared = Annotated[Context, Depends(context_of)]
Reader = Annotated[Caller, Depends(_having(READ))]
Reporter = Annotated[Caller, Depends(_having(REPORT))]
Writer = Annotated[Caller, Depends(_having(WRITE))]
