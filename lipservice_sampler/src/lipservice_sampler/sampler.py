"""The sampler of an application: decides over each log, counts, and keeps its policy fresh in the background.

It never blocks and never raises into the application: without a policy everything is kept, and with one the last good
policy stays in force whatever the API does.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import random
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import client, served
from .counts import Key, Tallies
from .decision import error_like, keeps, severity_name
from .draws import Draws
from .rules import ERROR_LIKE, EXCEPTION, PLAIN, Prepared, Rules, Verdict
from .text import MAX_CHARS, repair
from .words import Words, alike
from .worker import LOGGER, Worker

END_SECONDS = 2.0
"""How long the end of the process may wait for the last statistics of all its samplers."""

TraceId = str | bytes | int | uuid.UUID | None

_ID_BYTES = 16
_FOLD = bytes.maketrans(b"123456789", b"000000000")
_FAILED = Verdict(True, 1.0, "failed", None, True)
_ALL: weakref.WeakSet[Sampler] = weakref.WeakSet()


class Sampler:
    """Decides over the logs of one service and environment of a team.

    Args:
        service, team_id, environment: as the policies name them; the environment is empty where the logs name none.
        url: base URL of the API, else the environment variable ``LIPSERVICE_URL``; without one the sampler stays with
            ``policy`` and reports nothing.
        key: a key of the API, else ``LIPSERVICE_KEY``.
        policy: a document as the API serves it, to begin with.
        cache_dir: folder for the last good policy, ``~/.cache/lipservice`` unless ``XDG_CACHE_HOME`` says otherwise;
            False: none is kept.
        report_seconds: seconds between two reports of statistics, about.
        timeout: seconds a request may wait for the API, in the background.
        seed: makes the choice among logs without a trace repeatable, where they come in the same order.
        clock: the time in seconds since 1970.

    Logs without a trace are drawn evenly (`draws.EvenDraw`), those of a pattern at a severity together: of as many as
    rates add up to one for, one is kept. So their rebuilt count is off by less than one draw in each process. Beside
    logs with a trace they also make good what these leave to luck.

    Raises ValueError for a URL that is none, and `served.ServedError` for a policy that is not valid. Starting it waits
    for nothing but the file of the last policy; the thread in the background begins with the first log.
    """

    def __init__(
        self,
        service: str,
        *,
        team_id: int,
        environment: str = "",
        url: str | None = None,
        key: str | None = None,
        policy: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | bool | None = None,
        report_seconds: float = 60.0,
        timeout: float = 5.0,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = url if url is not None else os.environ.get("LIPSERVICE_URL", "")
        self._url = client.base(url) if url else None
        self._key = key if key is not None else os.environ.get("LIPSERVICE_KEY", "")
        self._scope = {"team_id": team_id, "service": service, "environment": environment}
        self._report_seconds = report_seconds
        self._timeout = timeout
        self._seed = seed
        self._clock = clock
        self._lock = threading.RLock()  # a signal's handler may log while its thread counts
        self._draws = Draws(random.Random(seed).random)  # noqa: S311
        self._words = Words()
        self._tallies = Tallies()
        self._since = clock()
        self._worker: Worker | None = None
        self._idle = self._url is not None
        """Whether the work in the background may yet begin."""
        self._closed = False
        self._failed = False
        self._cache = self._cache_file(cache_dir) if self._url is not None else None
        known = served.NOTHING if policy is None else served.read(policy, self._scope)
        if policy is None and self._cache is not None:
            try:
                known = served.load(self._cache, self._scope) or known
            except served.ServedError as e:
                LOGGER.warning("the policy kept on disk is ignored: %s", e)
        self._rules = Prepared(known).at(clock())
        _ALL.add(self)

    def decide(
        self, message: str, severity: str = "info", *, trace_id: TraceId = None, exception: bool = False
    ) -> Verdict:
        """What becomes of a log: ``keep`` says whether it goes on, ``sample_rate`` what to stamp on it.

        Args:
            message: the text as it will be stored.
            severity: in any spelling of `decision.severity_name`.
            trace_id: logs of a trace are kept by one number, so that of two the one with the higher rate is kept
                whenever the other is. Without one, a log is kept with the same probability, by an even draw among
                those of its pattern and severity.
            exception: the log carries an exception, which makes it an error.

        Never raises: a log whose decision fails is kept.
        """
        try:
            return self.choose(message, severity_name(severity), exception, _same, trace_id)
        except Exception as e:
            return self.failed(e)

    def choose(self, message: str, severity: str, exception: bool, trace: Callable[[Any], TraceId], of: Any) -> Verdict:
        """`decide` for adapters: ``severity`` is one of the six words, ``trace(of)`` is asked only where it counts.

        Raises what comes of a message that is no text and of ``trace``.
        """
        now = self._clock()
        rules = self._rules
        if not rules.start <= now < rules.end:
            rules = self._turn(rules, now)
        if message.isascii():
            size = len(message)
            text = message if size <= MAX_CHARS and "\0" not in message else repair(message)
        else:
            size = len(message.encode("utf-8", "surrogatepass"))
            text = repair(message)
        shape = alike(text.encode().translate(_FOLD))
        pattern, suspect = rules.texts.get(shape) or rules.read(shape, self._words)
        kind = EXCEPTION if exception else ERROR_LIKE if suspect and error_like(text) else PLAIN
        cell = pattern.cells[kind].get(severity) or rules.cell(pattern, severity, kind)
        key = trace_key(trace(of)) if cell.sampled else None
        with self._lock:
            tallies = self._tallies
            if rules.label is not tallies.label or not tallies.start <= now < tallies.end:
                tallies.turn(rules.label, now)
            step = cell.first if cell.limit and tallies.is_first(cell) else cell.then
            rate = step.rate
            if cell.span is not tallies.span:
                cell.span, cell.tally, cell.draw = tallies.span, tallies.of(cell.key), self._draws.of(cell.key)
            if rate >= 1.0:
                kept = True
            elif key is None:
                kept = cell.draw.keeps(rate)
            else:
                kept = keeps(rate, key)
                cell.draw.heed(rate, kept)
            tally = cell.tally
            tally[0] += 1
            tally[2] += size
            if kept:
                tally[1] += 1
                tally[3] += size
        if self._idle:
            self._begin()
        return step.kept if kept else step.dropped

    def failed(self, error: Exception) -> Verdict:
        """The verdict where a decision could not be made: kept, and said once."""
        if not self._failed:
            self._failed = True
            LOGGER.warning("a log could not be decided over, and such logs are kept: %r", error)
        return _FAILED

    def flush(self, timeout: float = END_SECONDS) -> bool:
        """Report the statistics so far; whether all were delivered within so many seconds."""
        if self._worker is None:
            self._begin()
        return self._worker is not None and self._worker.flush(timeout)

    def close(self, timeout: float = END_SECONDS) -> None:
        """Report the last statistics and end the work in the background, within so many seconds.

        The end of the process calls it. Decisions go on being made after it.
        """
        self._closed = True
        worker = self._worker
        if worker is not None:
            worker.stop(timeout)

    def status(self) -> dict[str, Any]:
        """What is in force, and how many logs' statistics were delivered, wait, or were lost."""
        rules, worker = self._rules, self._worker
        outbox = worker.outbox if worker is not None else None
        return {
            "mode": rules.prepared.served.mode,
            "version": rules.prepared.served.version,
            "delivered": outbox.delivered if outbox else 0,
            "waiting": outbox.waiting if outbox else 0,
            "lost": outbox.lost if outbox else 0,
        }

    def install(self, document: served.Served) -> None:
        """Put a checked document in force."""
        rules = Prepared(document).at(self._clock())
        with self._lock:
            self._rules = rules

    def _turn(self, rules: Rules, now: float) -> Rules:
        """The same policy with what is in force of its overlay now; a policy that came meanwhile stays."""
        turned = rules.prepared.at(now)
        with self._lock:
            if self._rules is rules:
                self._rules = turned
        return turned

    def _begin(self) -> None:
        """Start the work in the background, once in a process."""
        with self._lock:
            if self._worker is not None or self._url is None or self._closed:
                return
            worker = Worker(
                self._url,
                self._key,
                self._scope,
                known=self._rules.prepared.served,
                cache=self._cache,
                report_seconds=self._report_seconds,
                timeout=self._timeout,
                install=self.install,
                drain=self._drain,
            )
            self._worker = worker
            self._idle = False
        with contextlib.suppress(RuntimeError):  # the interpreter is ending
            worker.start()
        # Processes of multiprocessing end without atexit.
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(None, _close_all, exitpriority=10)

    def _drain(self) -> tuple[dict[tuple[tuple[str, str], float, Key], list[int]], float, float]:
        with self._lock:
            start, self._since = self._since, self._clock()
            return self._tallies.drain(), start, self._since

    def _cache_file(self, folder: str | os.PathLike[str] | bool | None) -> Path | None:
        if folder is False:
            return None
        if folder is None or folder is True:
            home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
            folder = os.path.join(home, "lipservice")
        name = repr((self._url and self._url.geturl(), sorted(self._scope.items())))
        return Path(folder) / f"policy-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _in_parent(self) -> None:
        self._lock.release()

    def _in_child(self) -> None:
        """A process of its own: what the parent counted is the parent's, and so are its thread and its draws."""
        self._lock = threading.RLock()
        self._tallies = Tallies()
        self._since = self._clock()
        self._worker = None
        self._idle = self._url is not None
        self._draws = Draws(random.Random(None if self._seed is None else f"{self._seed} {os.getpid()}").random)  # noqa: S311


def trace_key(trace_id: TraceId) -> bytes | None:
    """What decides over the logs of a trace: its id as hex digits in lower case, 32 of a number; None for no trace.

    The same id decides alike as text, number, UUID or bytes (the 16 of an id, or its text in ASCII).
    """
    if not trace_id:
        return None
    if isinstance(trace_id, bytes):
        trace_id = trace_id.hex() if len(trace_id) <= _ID_BYTES else trace_id.decode("latin-1")
    text = f"{trace_id:032x}" if isinstance(trace_id, int) else str(trace_id).strip().lower().replace("-", "")
    return text.encode("utf-8", "surrogatepass") if text.strip("0") else None


def _same(trace_id: TraceId) -> TraceId:
    return trace_id


def _close_all() -> None:
    """The end of the process: all samplers report at once, and have `END_SECONDS` between them."""
    until = time.monotonic() + END_SECONDS
    samplers = list(_ALL)
    for sampler in samplers:
        sampler._closed = True
        if sampler._worker is not None:
            sampler._worker.ask_to_stop()
    for sampler in samplers:
        sampler.close(max(until - time.monotonic(), 0.0))


atexit.register(_close_all)


_forking: list[Sampler] = []


def _before_fork() -> None:
    _forking[:] = sorted(_ALL, key=id)
    for sampler in _forking:
        sampler._before_fork()


def _in_parent() -> None:
    for sampler in reversed(_forking):
        sampler._in_parent()
    _forking.clear()


def _in_child() -> None:
    for sampler in _forking:
        sampler._in_child()
    _forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
