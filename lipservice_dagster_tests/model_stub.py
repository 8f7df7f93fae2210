"""A local server that answers as model APIs do, for the real SDKs: Anthropic's messages, OpenAI's chat completions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Response:
    """What the server sends; ``delay`` in seconds before it does."""

    body: Body | str
    status: int = 200
    delay: float = 0.0
    content_type: str = "application/json"


def asked(request: Body) -> Body:
    """The document of patterns that a request holds."""
    content = request["messages"][-1]["content"]
    return json.loads(content.removeprefix("<patterns>\n").split("\n</patterns>")[0])


def answer_all(request: Body, worth: str = "low", kind: str = "other") -> Body:
    """An answer that gives every family of the request the same worth."""
    return {
        "families": [
            {"family": f["family"], "worth": worth, "class": kind, "reason": "The stub says so.", "exceptions": []}
            for f in asked(request)["families"]
        ]
    }


def message(text: str, stop_reason: str = "end_turn", **usage: int) -> Response:
    """A message of Anthropic's API."""
    tokens = {"input_tokens": 900, "output_tokens": 100, "cache_read_input_tokens": 0} | usage
    return Response(
        {
            "id": "msg_stub",
            "type": "message",
            "role": "assistant",
            "model": "stub",
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": tokens,
        }
    )


def good(request: Body) -> Response:
    return message(json.dumps(answer_all(request)))


def error(status: int, kind: str) -> Response:
    return Response({"type": "error", "error": {"type": kind, "message": "the stub fails"}}, status)


@dataclass
class Stub:
    """The running server: its URL, what it was asked, and how it answers: each of ``script`` once, then ``reply``."""

    url: str
    reply: Callable[[Body], Response] = good
    script: list[Response] = field(default_factory=list)
    requests: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def templates(self) -> list[str]:
        """Of all patterns that were asked about, in order."""
        return [p["template"] for r in self.requests for f in asked(r)["families"] for p in f["patterns"]]


@contextmanager
def running() -> Iterator[Stub]:
    """A stub for as long as the block lasts."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                stub.requests.append(request)
                stub.headers.append({k.lower(): v for k, v in self.headers.items()})
                response = stub.script.pop(0) if stub.script else stub.reply(request)
            time.sleep(response.delay)
            data = (response.body if isinstance(response.body, str) else json.dumps(response.body)).encode()
            try:
                self.send_response(response.status)
                self.send_header("Content-Type", response.content_type)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(data)
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
