"""What every request passes: measured, its path taken as it was sent, its body bounded in size and time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from urllib.parse import quote, unquote

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipservice_dagster.serving.problems import ProblemError

_BODY_SECONDS = 30.0
_LINGER_SECONDS, _LINGER_BYTES = 5.0, 64 * 1024 * 1024
_CLOSE = {"Connection": "close"}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_MOST_BUCKETS = 10_000


class Metrics:
    """What Prometheus reads, of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lipservice_http_requests", "Answers.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "lipservice_http_request_seconds",
            "Time from the request to the end of its answer.",
            ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self.registry,
        )
        self.policies = Counter(
            "lipservice_policy_answers", "Policies served, by where they came from.", ["origin"], registry=self.registry
        )
        self.reported = Counter(
            "lipservice_reported_logs", "Logs that samplers told of.", ["mode", "what"], registry=self.registry
        )


class Door:
    """The outermost layer of the application (ASGI)."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int):
        self._app, self._metrics, self._most = app, metrics, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        # Quoted: a service's name may hold a slash, which must not end its segment.
        scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        if method == "HEAD":  # as GET; the server, whose scope stays as it is, leaves the body out
            scope["method"] = "GET"
        began, status = time.perf_counter(), 500
        body = _Body(receive)

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if scope["method"] != "GET":
                receive = await self._whole(scope, body)
            await self._app(scope, receive, told)
        except ProblemError as problem:  # the body is refused before there is a route
            await _refuse(problem, scope, body, told)
        finally:
            route = getattr(scope.get("route"), "path_format", "none")
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)

    async def _whole(self, scope: Scope, body: _Body) -> Receive:
        """The whole body, ready to be received. Raises ProblemError where it is too long or too slow."""
        too_long = ProblemError(413, f"The body is longer than {self._most} bytes", headers=_CLOSE)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and int(length) > self._most:
            raise too_long
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while not body.ended:
                    parts.append(await body.more())
                    size += len(parts[-1])
                    if size > self._most:
                        raise too_long
        except TimeoutError as error:
            raise ProblemError(408, f"The body took longer than {_BODY_SECONDS:g} s", headers=_CLOSE) from error
        whole: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await body.receive()

        return replay


class _Body:
    """A request's body as it arrives; ``ended``: there is no more, or who sent it is gone."""

    def __init__(self, receive: Receive):
        self.receive, self.ended = receive, False

    async def more(self) -> bytes:
        message = await self.receive()
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


async def _refuse(problem: ProblemError, scope: Scope, body: _Body, send: Send) -> None:
    """Answer, and take in what is still on its way before the connection is closed.

    Closing over octets that were not read resets a connection, and who is sending would never see the answer.
    """

    async def begin(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await send(message)

    await problem.response()(scope, body.receive, begin)
    left = _LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0 and not body.ended:
                left -= len(await body.more())
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Rates:
    """Token buckets: so many requests a second, and a burst of twice as many, for each of who asks."""

    def __init__(self, a_second: float):
        self._a_second, self._burst = a_second, max(2 * a_second, 1.0)
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def spent(self, who: Hashable) -> bool:
        """Whether there is none left to take."""
        return self._left(who, time.monotonic()) < 1

    def _left(self, who: Hashable, now: float) -> float:
        left, at = self._buckets.get(who, (self._burst, now))
        return min(left + (now - at) * self._a_second, self._burst)

    def take(self, who: Hashable) -> None:
        """Take one. Raises ProblemError (429) where there is none left."""
        now = time.monotonic()
        left = self._left(who, now)
        self._buckets.pop(who, None)
        self._buckets[who] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = max(round((1 - left) / self._a_second + 0.5), 1)
            raise ProblemError(
                429, f"More than {self._a_second:g} requests a second; wait", headers={"Retry-After": str(wait)}
            )


class _Quoted(Convertor[str]):
    """A segment of the path as it was meant; it may be empty."""

    regex = "[^/]*"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("quoted", _Quoted())
