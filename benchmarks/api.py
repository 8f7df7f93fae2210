"""The HTTP API on one core: policy requests a second over loopback, their latencies, and the same answered with 304.

The server is `lipservice serve` in a process of its own, bound to one core where the system can; who asks keeps some
connections open and asks anew as soon as it is answered, as wrk does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import uvloop

from benchmarks.measure import table
from lipservice_dagster.core.policy import PatternRate, Policy, document
from lipservice_dagster.local import postgres
from lipservice_dagster.storage import keys, releases, services
from lipservice_dagster.storage.database import Database
from lipservice_sampler.text import signature

TEAM, SERVICES, PATTERNS = 7, 50, 100
CONNECTIONS = 16
SECONDS = 6.0
ASKED, ASKED_P99 = 1_500, 30


@dataclass(frozen=True)
class Load:
    """Answers a second, their latencies in milliseconds, and the server's processor time a request."""

    rate: float
    p50: float
    p99: float
    cpu: float


def run(data: Path | None) -> str:
    """The section of the report."""
    with _server() as (port, secret, process):
        whole = [_measure(port, secret, process, 200) for _ in range(3)]
        same = [_measure(port, secret, process, 304) for _ in range(3)]
    rows = [_row("200", whole), _row("304", same)]
    return "\n\n".join(
        [
            "## HTTP API",
            f"`GET /api/v1/policies/{{service}}` from one process of `lipservice serve` on one core, over loopback:"
            f" {SERVICES} services with {PATTERNS} patterns each, {CONNECTIONS} connections, the best of three runs of"
            f" {SECONDS:g} seconds. By processor time: what the core would answer were nothing else on it. Asked for:"
            f" {ASKED:,} a second with a p99 of {ASKED_P99} ms.",
            table(["answer", "a second", "p50 (ms)", "p99 (ms)", "a second of its processor time"], rows),
        ]
    )


def _row(name: str, loads: list[Load]) -> list[str]:
    best = max(loads, key=lambda load: load.rate)
    cpu = min(load.cpu for load in loads)
    return [name, f"{best.rate:,.0f}", f"{best.p50:.1f}", f"{best.p99:.1f}", f"{1 / cpu:,.0f}"]


@contextmanager
def _server() -> Iterator[tuple[int, str, psutil.Process]]:
    home = Path(tempfile.mkdtemp(prefix="lipservice-bench-"))
    home.chmod(0o755)
    with postgres.running(home) as layout:
        dsn = layout.dsn("postgres")
        secret = _fill(dsn)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LIPSERVICE_", "DAGSTER_"))}
        environment |= {
            "LIPSERVICE_HOME": str(home),
            "LIPSERVICE_POSTGRES_DSN": dsn,
            "LIPSERVICE_API_RATE": "1000000",
        }
        command = [str(Path(sys.executable).with_name("lipservice")), "serve", "--port", str(port)]
        child = subprocess.Popen(command, env=environment, cwd=home)
        try:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
            _wait(port, child)
            yield port, secret, psutil.Process(child.pid)
        finally:
            child.terminate()
            child.wait(30)


def _fill(dsn: str) -> str:
    database = Database(dsn)
    database.upgrade()
    for n in range(SERVICES):
        name = f"service-{n}"
        templates = [f"request {i} of <*> was answered in <*> ms with status <*>" for i in range(PATTERNS)]
        entries = tuple(
            PatternRate(signature=signature(name, t), template=t, rate=0.1, reason="noise") for t in templates
        )
        made = Policy(
            team_id=TEAM, service=name, environment="", day=date(2026, 9, 10), global_rate=0.5,
            severity_rates={"error": 1.0, "fatal": 1.0}, pattern_rates=entries, generated_by="rules",
        )  # fmt: skip
        services.add(database, TEAM, name, "")
        releases.add_by_hand(
            database,
            releases.Release(TEAM, name, "", made.day, made.version, "live", document(made), "bench", "measured"),
        )
    _, secret = keys.create(database, TEAM, "bench", "read")
    database.dispose()
    return secret


def _wait(port: int, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if child.poll() is not None:
            raise RuntimeError(f"the server ended with {child.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the server did not answer")


class _Client(asyncio.Protocol):
    """One connection that asks for one service after another."""

    def __init__(self, requests: list[bytes], status: bytes, took: list[float]):
        self._requests, self._status, self._took = requests, status, took
        self._next, self._buffer, self._began = 0, b"", 0.0
        self.wrong = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        self._took.append(time.perf_counter() - self._began)
        self.wrong += head[9:12] != self._status
        self._buffer = b""
        if not self.stopped:
            self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def close(self) -> None:
        self._transport.close()


def _measure(port: int, secret: str, process: psutil.Process, status: int) -> Load:
    tags = []
    requests = []
    for n in range(SERVICES):
        url = f"http://127.0.0.1:{port}/api/v1/policies/service-{n}?team_id={TEAM}"
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"}), timeout=30
        ) as answer:
            tags.append(answer.headers["etag"])
        lines = [
            f"GET /api/v1/policies/service-{n}?team_id={TEAM}&environment= HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {secret}",
            "User-Agent: lipservice-sampler/bench",
            "Accept: application/json",
            *([f"If-None-Match: {tags[n]}"] if status == 304 else []),
        ]
        requests.append("\r\n".join([*lines, "", ""]).encode())

    async def load() -> tuple[list[float], float, float]:
        took: list[float] = []
        clients: list[_Client] = []
        loop = asyncio.get_running_loop()
        for n in range(CONNECTIONS):
            part = requests[n:] + requests[:n]
            _, client = await loop.create_connection(
                partial(_Client, part, str(status).encode(), took), "127.0.0.1", port
            )
            clients.append(client)
        await asyncio.sleep(0.5)
        took.clear()
        before, began = sum(process.cpu_times()[:2]), time.perf_counter()
        await asyncio.sleep(SECONDS)
        seconds, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
        for client in clients:
            client.stopped = True
        counted = list(took)
        await asyncio.sleep(0.2)
        for client in clients:
            client.close()
        if wrong := sum(client.wrong for client in clients):
            raise RuntimeError(f"{wrong} answers were no {status}")
        return counted, seconds, cpu

    took, seconds, cpu = uvloop.run(load())
    p50, p99 = np.percentile(np.array(took) * 1000, [50, 99])
    return Load(len(took) / seconds, float(p50), float(p99), cpu / len(took))
