"""A local HTTP server that speaks ClickHouse's protocol, over the embedded engine of this process."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

USER, PASSWORD = "reader", "s3cret"
_MEMORY = "Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)"


@dataclass
class ClickHouse:
    """The server's state: what it was asked, and what goes wrong with the next questions that are no handshake."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """cut, midway, rubbish (an error in the middle of an answer), silent or gone."""
    engine: Any = field(default_factory=lambda: clickhouse_connect.get_client(interface="chdb"))
    """Holds the engine, which ends with its last client."""
    local: threading.local = field(default_factory=threading.local)

    def run(self, query: str, default: str) -> bytes:
        """What the engine answers, in the format of the query or else the default."""
        if not hasattr(self.local, "client"):
            self.local.client = clickhouse_connect.get_client(interface="chdb", settings={"session_timezone": "UTC"})
        head, _, last = query.strip().rstrip(";").rpartition("FORMAT ")
        text, fmt = (head, last.strip()) if head and " " not in last.strip() else (query, default)
        answer: bytes = self.local.client.raw_query(text, fmt=fmt)
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    clickhouse: ClickHouse


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    def do_GET(self) -> None:
        self._send(200, b"Ok.\n")

    def do_POST(self) -> None:
        clickhouse = self.server.clickhouse
        asked = parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        query = "\n".join([*asked.get("query", []), body]).strip()
        ours = "system." not in query and "version()" not in query
        fault = clickhouse.faults.pop(0) if ours and clickhouse.faults else None
        if ours:
            clickhouse.asked.append(query)
        if fault == "gone":
            self.close_connection = True
            return
        if fault == "silent":
            threading.Event().wait(1.5)
        if self.headers.get("Authorization") != _basic():
            self._refuse(516, "Authentication failed: password is incorrect, or there is no user with such name.")
            return
        if fault == "midway" and asked.get("wait_end_of_query") == ["1"]:  # else it has sent its 200 by then
            self._refuse(241, _MEMORY)
            return
        try:
            self._send(200, clickhouse.run(query, asked.get("default_format", ["TabSeparated"])[0]), fault)
        except DatabaseError as error:
            text = str(error)
            self._refuse(int(text.split("Code: ")[1].split(".")[0]), text)

    def _refuse(self, code: int, text: str) -> None:
        self._send(
            500, f"Code: {code}. DB::Exception: {text}".encode(), headers={"X-ClickHouse-Exception-Code": str(code)}
        )

    def _send(self, status: int, data: bytes, fault: str | None = None, headers: dict[str, str] | None = None) -> None:
        if fault == "rubbish":
            data = data[: len(data) // 2] + _MEMORY.encode()
        with suppress(OSError):  # whoever asked has gone
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = fault is not None

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


def _basic() -> str:
    return f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


@contextmanager
def clickhouse_server() -> Iterator[ClickHouse]:
    """A ClickHouse over HTTP whose tables are those of this process's engine."""
    found = ClickHouse()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.clickhouse, found.port = found, server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
