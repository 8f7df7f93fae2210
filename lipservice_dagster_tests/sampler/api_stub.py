"""A local server that serves policies and takes statistics as the API does, over real HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RETRY_AFTER = "0"
SCOPE: dict[str, Any] = {"team_id": 1, "service": "shop", "environment": "production"}
A, B = "a" * 16, "b" * 16
POLICY: dict[str, Any] = {
    "global_rate": 0.05,
    "severity_rates": {"info": 0.2, "error": 1.0, "fatal": 1.0},
    "pattern_rates": [
        {"signature": A, "template": "order <*> placed", "rate": 0.1},
        {"signature": B, "template": "cart <*> priced in <*> ms", "rate": 0.5},
    ],
    "unknown": {"first_per_hour": 3, "then": "severity"},
}


def document(
    policy: dict[str, Any] | None = POLICY, mode: str = "live", version: str = "v1", **more: Any
) -> dict[str, Any]:
    """What the API serves."""
    return {
        **SCOPE,
        "mode": mode,
        "version": version,
        "released_at": None,
        "policy": policy,
        "overlay": {},
        "refresh_seconds": 30,
        **more,
    }


@dataclass
class Stub:
    """The running server: what it serves, what it was asked and told."""

    url: str
    serves: Any = field(default_factory=document)
    etag: str = '"1"'
    delay: float = 0.0
    policy_status: list[int] = field(default_factory=list)
    stats_status: list[int] = field(default_factory=list)
    gets: list[tuple[str, dict[str, str], int]] = field(default_factory=list)
    """Path, headers in lower case and status of the answer."""
    posts: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    """Body and status of the answer."""

    def batches(self) -> list[dict[str, Any]]:
        """What was accepted, each batch once."""
        return list({body["batch_id"]: body for body, status in self.posts if status == 202}.values())

    def rows(self) -> list[dict[str, Any]]:
        """All rows of what was accepted."""
        return [row for batch in self.batches() for row in batch["patterns"]]

    def seen(self) -> int:
        """Logs that were told of."""
        return sum(row["seen"] for row in self.rows())


@contextmanager
def running() -> Iterator[Stub]:
    """A stub for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(stub.delay)
            headers = {k.lower(): v for k, v in self.headers.items()}
            status = stub.policy_status.pop(0) if stub.policy_status else 200
            if status == 200 and headers.get("if-none-match") == stub.etag:
                status = 304
            stub.gets.append((self.path, headers, status))
            body = stub.serves if isinstance(stub.serves, bytes) else json.dumps(stub.serves).encode()
            self.answer(status, body if status == 200 else b"", {"ETag": stub.etag})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(stub.delay)
            status = stub.stats_status.pop(0) if stub.stats_status else 202
            stub.posts.append((body, status))
            self.answer(status, b'{"accepted":true,"duplicate":false}', {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status in (429, 503):
                    self.send_header("Retry-After", RETRY_AFTER)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client did not wait

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub = Stub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def eventually(condition: Any, seconds: float = 20.0) -> bool:
    """Whether it comes true within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False
