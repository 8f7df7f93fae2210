"""The daemon itself: a spike in the logs is asked for, run, and raises boosts; a failed run is told by webhook."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.local import postgres
from lipservice_dagster.storage import boosts, releases
from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.defs.test_notify import Hook, hook
from lipservice_dagster_tests.logs import log, store

__all__ = ["hook"]
LIPSERVICE = Path(sys.executable).with_name("lipservice")


class Dev:
    """`lipservice dev` over a home of its own."""

    def __init__(self, home: Path, **settings: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIPSERVICE_", "DAGSTER_"))}
        named = {f"LIPSERVICE_{k.upper()}": v for k, v in settings.items()}
        self.out = home / "dev.out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [str(LIPSERVICE), "dev", "--port", str(self.port)],
                stdout=out,
                stderr=out,
                cwd=home,
                env=kept | {"LIPSERVICE_HOME": str(home), "LIPSERVICE_ADVISOR": "rules"} | named,
            )
        self.until(lambda: "The Dagster UI is at" in self.out.read_text())

    def until(self, done: Callable[[], Any], seconds: float = 240) -> Any:
        """The answer once it is true."""
        deadline = time.monotonic() + seconds
        while not (answer := done()):
            assert self.process.poll() is None, self.out.read_text()[-3000:]
            assert time.monotonic() < deadline, self.out.read_text()[-3000:]
            time.sleep(1)
        return answer

    def ask(self, query: str, **variables: Any) -> Any:
        """GraphQL."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def set_cursor(self, sensor: str, cursor: str) -> None:
        """What a person does in the UI."""
        query = (
            "mutation ($s: SensorSelector!, $c: String) {"
            " setSensorCursor(sensorSelector: $s, cursor: $c) { __typename } }"
        )
        assert self.ask(query, s=selector(sensor), c=cursor)["setSensorCursor"]["__typename"] == "Sensor"

    def ticks(self, sensor: str, since: float) -> int:
        """How often a sensor has looked, to the end, from a time on (seconds of the epoch)."""
        query = (
            "query ($s: SensorSelector!, $a: Float) { sensorOrError(sensorSelector: $s) { ... on Sensor"
            " { sensorState { ticks(afterTimestamp: $a) { status } } } } }"
        )
        ticks = self.ask(query, s=selector(sensor), a=since)["sensorOrError"]["sensorState"]["ticks"]
        assert not any(t["status"] == "FAILURE" for t in ticks)
        return sum(t["status"] in ("SUCCESS", "SKIPPED") for t in ticks)

    def runs(self, key: str, value: str) -> list[dict[str, Any]]:
        """The runs with a tag."""
        query = (
            "query ($f: RunsFilter) { runsOrError(filter: $f) { ... on Runs"
            " { results { runId status tags { key value } } } } }"
        )
        return self.ask(query, f={"tags": [{"key": key, "value": value}]})["runsOrError"]["results"]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(90)


def selector(sensor: str) -> dict[str, str]:
    """Its name in GraphQL."""
    return {
        "sensorName": sensor,
        "repositoryName": "__repository__",
        "repositoryLocationName": "lipservice_dagster.definitions",
    }


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lipservice-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(900)
def test_a_spike_goes_from_the_logs_through_the_daemon_to_boosts_and_its_cursor_survives(
    home: Path, hook: Hook
) -> None:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    records = [
        log(f"order {i} placed", timestamp=hour - timedelta(hours=h) + timedelta(minutes=20 * i))
        for h in range(24 * 6)
        for i in range(3)
    ]
    records += [log(f"order {i} placed", timestamp=hour + timedelta(seconds=i)) for i in range(3000)]
    store(home / "log_store", {1: records})
    first_day = (hour.date() - timedelta(days=5)).isoformat()
    chosen = {"first_day": first_day, "fill_days": "5", "webhook_url": hook.url, "window_days": "5"}
    sensors = ("discover_teams", "volume_spikes", "notify")
    chosen |= {"discover_seconds": "2", "spike_seconds": "2", "notify_seconds": "2"}
    dev = Dev(home, **chosen)
    try:
        fill = dev.until(
            lambda: [r for r in dev.runs("lipservice/reason", "a new team's days") if r["status"] == "SUCCESS"]
        )
        # The hour of the spike is over; that it was seen while it lasted is what the cursor says.
        reason = "shop: 3,000 logs where 5 were to be expected"
        dev.set_cursor("volume_spikes", json.dumps({"1": {"hour": hour.isoformat(), "reason": reason}}))
        (run,) = dev.until(lambda: [r for r in dev.runs("lipservice/only_boosts", "true") if r["status"] == "SUCCESS"])
        tags = {t["key"]: t["value"] for t in run["tags"]}
        assert tags["dagster/partition"] == f"{hour.date()}|1"
        assert reason in tags["lipservice/reason"]
        told = dev.until(lambda: [t for t in hook.texts() if "high severity" in t])
        assert f"{hour.date()}" in told[0]
    finally:
        dev.end()
    since = time.time()
    again = Dev(home, **chosen)
    try:
        again.until(lambda: all(again.ticks(sensor, since) >= 2 for sensor in sensors))
        assert len(again.runs("lipservice/only_boosts", "true")) == 1
        assert len(again.runs("lipservice/reason", "a new team's days")) == len(fill) == 1
        assert len([t for t in hook.texts() if "high severity" in t]) == len(told)
    finally:
        again.end()
    with postgres.running(home) as server:
        database = Database(server.dsn("lipservice"))
        later = datetime.now(UTC)
        raised: list[Boost] = [b for b, _ in boosts.standing(database, [1], later, later)]
        assert {b.service for b in raised} == {"shop"}
        end = max(b.ends_at for b in raised)
        assert boosts.standing(database, [1], end, end) == []
        # The fill has made the days before today; a spike of today adds no release to theirs.
        assert all(r.day < now.date() for r in releases.in_force(database, 1))
        database.dispose()
