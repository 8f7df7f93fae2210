"""Values held in memory until they change: keys and policies, forgotten team by team as PostgreSQL tells of changes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Held(Generic[K, V]):
    """Values by key, the least recently used given up first. Used on the event loop alone.

    ``load(key)`` answers with (value, team, size, until when it holds by time.monotonic), or raises. A value that
    changed while it was being loaded is handed out and not held. While ``may_hold()`` is false, each is loaded anew.
    """

    def __init__(
        self, load: Callable[[K], Awaitable[tuple[V, int, int, float]]], most: int, may_hold: Callable[[], bool]
    ):
        self._load, self._most, self._may_hold = load, most, may_hold
        self._values: OrderedDict[K, tuple[V, int, int, float]] = OrderedDict()
        self._of_team: dict[int, set[K]] = {}
        self._changes: Counter[int | None] = Counter()
        self._loading: dict[K, tuple[int, asyncio.Future[V]]] = {}
        self._clock = 0
        self._size = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """What is held and still holds."""
        found = self._values.get(key)
        if found is None or found[3] < time.monotonic() or not self._may_hold():
            return None
        self._values.move_to_end(key)
        return found[0]

    async def of(self, key: K) -> V:
        """The value; those who ask for one at a time share its loading, unless it has changed since that began."""
        found = self.get(key)
        if found is not None:
            return found
        loading = self._loading.get(key)
        if loading is not None and loading[0] == self._clock:
            return await asyncio.shield(loading[1])
        task = asyncio.ensure_future(self._fill(key, self._clock))
        self._loading[key] = (self._clock, task)
        try:
            return await asyncio.shield(task)
        finally:
            if self._loading.get(key, (0, None))[1] is task:
                del self._loading[key]

    async def _fill(self, key: K, began: int) -> V:
        alive = self._may_hold()
        value, team, size, until = await self._load(key)
        if alive and self._may_hold() and max(self._changes[team], self._changes[None]) <= began:
            self._drop(key)
            self._values[key] = (value, team, size, until)
            self._of_team.setdefault(team, set()).add(key)
            self._size += size
            while self._size > self._most:
                self._drop(next(iter(self._values)))
        return value

    def forget(self, team: int | None) -> None:
        """A team's values have changed (None: any may have)."""
        self._clock += 1
        self._changes[team] = self._clock
        for key in list(self._values if team is None else self._of_team.get(team, ())):
            self._drop(key)

    def _drop(self, key: K) -> None:
        held = self._values.pop(key, None)
        if held is not None:
            self._size -= held[2]
            keys = self._of_team[held[1]]
            keys.discard(key)
            if not keys:
                del self._of_team[held[1]]
