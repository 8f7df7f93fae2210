"""The thread in the background: it fetches the policy and reports statistics. The application never waits for it.

One worker belongs to one process; after a fork the child makes its own.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode

from . import client, served
from .counts import Key, Outbox
from .served import Served
from .version import __version__

LOGGER = logging.getLogger("lipservice_sampler")
"""Says what is wrong, once each time it begins; what it says is never sampled."""

JITTER = 0.2
"""Intervals vary by this share, so that processes started together do not ask together for ever."""

LONGEST_WAIT = 300.0
"""Seconds between attempts at most, however many have failed and whatever the API asks for."""

_FIRST_WAIT = 1.0
_MOST_DETAIL = 500
_PERMANENT = range(400, 500)
_BUSY = (408, 425, 429)


def jittered(seconds: float) -> float:
    """The seconds, more or less by a share of at most `JITTER`."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311


class Worker:
    """Fetches and reports until it is stopped; not started before `start`."""

    def __init__(
        self,
        url: SplitResult,
        key: str,
        scope: Mapping[str, Any],
        *,
        known: Served,
        cache: Path | None,
        report_seconds: float,
        timeout: float,
        install: Callable[[Served], None],
        drain: Callable[[], tuple[Mapping[tuple[tuple[str, str], float, Key], list[int]], float, float]],
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": f"lipservice-sampler/{__version__}"}
        self._scope = scope
        self._known = known
        self._cache = cache
        self._report_seconds = report_seconds
        self._timeout = timeout
        self._install = install
        self._drain = drain
        self._wake = threading.Event()
        self._stopping = self._stopped = False
        self._asked: list[threading.Event] = []
        self._troubles: set[str] = set()
        self._failures = {"policy": 0, "statistics": 0}
        self._thread = threading.Thread(target=self._run, name="lipservice-sampler", daemon=True)
        self.outbox = Outbox()

    def start(self) -> None:
        """Begin. Raises RuntimeError where no thread can be started (the interpreter is ending)."""
        self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Report now what there is; whether all was delivered within so many seconds."""
        done = threading.Event()
        self._asked.append(done)
        self._wake.set()
        return self._thread.is_alive() and done.wait(timeout) and not self.outbox.batches

    def ask_to_stop(self) -> None:
        """Report a last time and end; returns at once."""
        self._stopping = True
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Report a last time and end, within so many seconds; what is not delivered by then is told."""
        if not self._stopped:
            self._stopped = True
            self.ask_to_stop()
            if self._thread.is_alive():
                self._thread.join(timeout)
            self._collect()  # what was not reached, where the thread still waits for the API
            if self.outbox.waiting:
                LOGGER.warning("statistics of %d logs were not delivered before the end", self.outbox.waiting)

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Say once that something is wrong, until `well` is called of it."""
        if kind not in self._troubles:
            self._troubles.add(kind)
            LOGGER.warning(message, *args)

    def well(self, kind: str) -> None:
        """Something works (again)."""
        if kind in self._troubles:
            self._troubles.discard(kind)
            LOGGER.info("%s: works again", kind)

    def _run(self) -> None:
        refresh = send = time.monotonic()
        report = refresh + jittered(self._report_seconds)
        while True:
            now = time.monotonic()
            asked, stopping = self._asked[:], self._stopping
            try:
                if now >= refresh and not stopping:
                    refresh = time.monotonic() + self._refresh()
                if now >= report or asked or stopping:
                    report = time.monotonic() + jittered(self._report_seconds)
                    self._collect()
                if self.outbox.batches and (now >= send or asked or stopping):
                    send = time.monotonic() + self._send()
            except Exception as e:  # the thread must outlive what nobody thought of
                self.warn("worker", "the sampler's background work failed, and goes on: %r", e)
                refresh = max(refresh, time.monotonic() + _FIRST_WAIT)
                send = max(send, time.monotonic() + _FIRST_WAIT)
            for event in asked:
                self._asked.remove(event)
                event.set()
            if stopping:
                return
            due = min(refresh, report, *([send] if self.outbox.batches else []))
            self._wake.wait(max(due - time.monotonic(), 0.0))
            self._wake.clear()

    def _wait_after_failure(self, of: str, asked: float = 0.0) -> float:
        self._failures[of] = min(self._failures[of] + 1, 30)
        return jittered(min(max(_FIRST_WAIT * 2.0 ** (self._failures[of] - 1), asked), LONGEST_WAIT))

    def _refresh(self) -> float:
        """Ask for the policy; seconds until the next time."""
        query = urlencode({"team_id": self._scope["team_id"], "environment": self._scope["environment"]})
        path = f"/api/v1/policies/{quote(self._scope['service'], safe='')}?{query}"
        headers = {**self._headers, "Accept": "application/json"}
        if self._known.etag:
            headers["If-None-Match"] = self._known.etag
        try:
            answer = client.ask(self._url, "GET", path, headers=headers, timeout=self._timeout)
            if answer.status == 304:
                found = self._known
            elif answer.status == 200:
                found = served.read(_json(answer.body), self._scope, answer.headers.get("etag", ""))
            else:
                said = _detail(answer.body)
                self.warn("policy", "the API answered %d to %s; the last policy stays%s", answer.status, path, said)
                return self._wait_after_failure("policy", answer.retry_after)
        except (client.UnreachableError, served.ServedError) as e:
            self.warn("policy", "no policy could be fetched, and the last one stays: %s", e)
            return self._wait_after_failure("policy")
        self._failures["policy"] = 0
        self.well("policy")
        if found is not self._known:
            self._install(found)
            self._known = found
            self._save(found)
        return jittered(found.refresh_seconds)

    def _save(self, found: Served) -> None:
        if self._cache is None:
            return
        try:
            served.save(self._cache, found)
            self.well("disk")
        except OSError as e:
            self.warn("disk", "the policy cannot be kept on disk: %s", e)

    def _collect(self) -> None:
        tallies, start, end = self._drain()
        if not tallies:
            return
        scope = {**self._scope, "sdk": f"lipservice-sampler/{__version__}"}
        given_up = self.outbox.add(tallies, scope, start, end)
        if given_up:
            self.warn("statistics lost", "statistics could not be delivered; those of %d logs were given up", given_up)

    def _send(self) -> float:
        """Send what waits, the oldest first; seconds until the next attempt."""
        headers = {**self._headers, "Content-Type": "application/json"}
        while self.outbox.batches:
            batch = self.outbox.batches[0]
            try:
                answer = client.ask(
                    self._url,
                    "POST",
                    "/api/v1/patterns/stats",
                    headers=headers,
                    body=batch.body,
                    timeout=self._timeout,
                )
            except client.UnreachableError as e:
                self.warn("statistics", "statistics could not be sent, and wait: %s", e)
                return self._wait_after_failure("statistics")
            if 200 <= answer.status < 300:
                self.outbox.delivered += batch.logs
                self._failures["statistics"] = 0
                self.well("statistics")
            elif answer.status in _PERMANENT and answer.status not in _BUSY:
                self.outbox.lost += batch.logs
                self.warn(
                    "statistics refused",
                    "the API answered %d to statistics of %d logs, which are lost",
                    answer.status,
                    batch.logs,
                )
            else:
                self.warn("statistics", "the API answered %d to statistics, which wait", answer.status)
                return self._wait_after_failure("statistics", answer.retry_after)
            self.outbox.batches.popleft()
        return 0.0


def _detail(body: bytes) -> str:
    """What an answer says of an error (``application/problem+json``), after a colon; '' where it says nothing."""
    try:
        detail = _json(body)["detail"]
    except (served.ServedError, KeyError, TypeError):
        return ""
    return f": {detail[:_MOST_DETAIL]}" if isinstance(detail, str) else ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as e:
        raise served.ServedError(f"the answer is no JSON: {e}") from e
