"""The API on a free port: the real server, a real database, keys of two teams."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lipservice_dagster.core.policy import PatternRate, Policy, document
from lipservice_dagster.serving.server import server
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import keys, releases, services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import LIVE, Release
from lipservice_sampler.text import signature

DAY = date(2026, 9, 10)
PLACED = "order <*> placed"


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Api:
    """The running server, asked with a key."""

    url: str
    database: Database
    secrets: dict[tuple[int, str], str] = field(default_factory=dict)
    secret: str | None = None

    def by(self, access: str, team_id: int = 7) -> Api:
        return replace(self, secret=self.secrets[team_id, access])

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        sent = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        )
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, sent | (headers or {}), method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: Any) -> Answer:
        return self.ask("POST", path, body)


@contextmanager
def serving(settings: Settings, database: Database) -> Iterator[str]:
    """The server in a thread; its URL."""
    running = server(settings, database, "127.0.0.1", 0)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not (running.started and running.servers):
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        context = running.config.app.state.context  # type: ignore[union-attr]
        while not context.changes.alive:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def start(dsn: str, database: Database, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Starts the API with these settings; keys of every access of teams 7 and 8 are there."""
    stops = []

    def make(**settings: Any) -> Api:
        found = Settings(_env_file=None, home=tmp_path, postgres_dsn=dsn, first_day=date(2026, 8, 1), **settings)  # type: ignore[call-arg,arg-type]
        running = serving(found, database)
        url = running.__enter__()
        stops.append(running)
        secrets = {(t, a): keys.create(database, t, f"{a} of {t}", a)[1] for t in (7, 8) for a in keys.ACCESS}
        return Api(url, database, secrets)

    yield make
    for running in stops:
        running.__exit__(None, None, None)


@pytest.fixture
def api(start: Callable[..., Api]) -> Api:
    """The API, asked with the key of team 7 that may write."""
    return start().by("write")


def policy(rate: float = 0.2, service: str = "shop", environment: str = "production") -> Policy:
    return Policy(
        team_id=7,
        service=service,
        environment=environment,
        day=DAY,
        global_rate=0.5,
        severity_rates={"info": 0.5, "error": 1.0, "fatal": 1.0},
        pattern_rates=(PatternRate(signature=signature(service, PLACED), template=PLACED, rate=rate),),
        generated_by="rules",
    )


def release(database: Database, made: Policy, state: str = LIVE) -> Release:
    """Register its service and put it in force."""
    services.add(database, made.team_id, made.service, made.environment)
    entry = Release(
        made.team_id, made.service, made.environment, made.day, made.version, state, document(made), "ada", "so it is"
    )  # fmt: skip
    return releases.add_by_hand(database, entry)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it comes true within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False
