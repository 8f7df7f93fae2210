"""Dagster's daemon over the stack: the one that runs already, or one of our own for as long as it is needed."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings

_NEEDED = ("BACKFILL", "QUEUED_RUN_COORDINATOR")
_BEATS_SECONDS = 40  # a daemon beats every 30
_MODULE = "lipservice_dagster.definitions"


@contextmanager
def running(
    settings: Settings, instance: dg.DagsterInstance, *, embedded: bool, say: Callable[[str], None]
) -> Iterator[subprocess.Popen[bytes] | None]:
    """A daemon that runs for as long as the block lasts: yields our own process, or None where another one runs.

    ``embedded``: Dagster's home is the stack's own, where whoever runs a daemon holds a lock; elsewhere its beats tell.
    """
    if not embedded and _beats(instance, say):
        yield None
        return
    with (settings.home / stack.LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        log = settings.home / "dagster" / "daemon.log"
        say(f"No Dagster daemon runs: starting one for now (its log is {log})")
        with _process(log) as child:
            yield child


@contextmanager
def _process(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", _MODULE],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=stack.prepare_child,
        )
    try:
        yield child
    finally:
        stack.end_group(child)


def _beats(instance: dg.DagsterInstance, say: Callable[[str], None]) -> bool:
    """Whether a daemon beats: one that ended lately has left its last beat behind, so a young one is waited for."""

    def beats() -> dict[str, float]:
        found = instance.get_daemon_heartbeats()
        return {kind: found[kind].timestamp for kind in _NEEDED if kind in found}

    first = beats()
    if set(first) != set(_NEEDED) or min(first.values()) < time.time() - 2 * _BEATS_SECONDS:
        return False
    say("Looking whether a Dagster daemon runs …")
    deadline = time.monotonic() + _BEATS_SECONDS
    while time.monotonic() < deadline:
        if all(beats()[kind] > at for kind, at in first.items()):
            return True
        time.sleep(1)
    return False
