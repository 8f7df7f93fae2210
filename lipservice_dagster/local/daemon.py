"""Dagster's daemon over the stack: the one that runs already, or one of our own for as long as it is needed."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import dagster as dg

from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings

_NEEDED = ("BACKFILL", "QUEUED_RUN_COORDINATOR")
_BEATS_SECONDS = 40  # a daemon beats every 30
_MODULE = "lipservice_dagster.definitions"
_START_SECONDS = 120


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
        say(f"No Dagster daemon runs: starting one for as long as this takes (its log is {log})")
        with _process(log) as child:
            yield child


def runs(settings: Settings, instance: dg.DagsterInstance, *, embedded: bool) -> bool:
    """Whether a daemon runs over the stack, by its lock or, where it is not our own stack's, by its latest beats."""
    if not embedded and min(_beats_of(instance).values(), default=0.0) > time.time() - 2 * _BEATS_SECONDS:
        return True
    with (settings.home / stack.LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _process(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon over one code server, as `dagster dev` has it: alone, a daemon starts a new one every minute."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # A socket's path may have some hundred characters: not one below a home that may lie deep.
    with log.open("ab") as output, tempfile.TemporaryDirectory(prefix="lipservice-") as folder:
        socket, workspace = f"{folder}/code", Path(folder) / "workspace.yaml"
        served = {"grpc_server": {"socket": socket, "location_name": _MODULE}}
        workspace.write_text(json.dumps({"load_from": [served]}))
        code = _start(output, "dagster", "api", "grpc", "--lazy-load-user-code", "--socket", socket, "-m", _MODULE)
        try:
            _wait_for(Path(socket), code, log)
            child = _start(output, "dagster._daemon", "run", "-w", str(workspace))
            try:
                yield child
            finally:
                stack.end_group(child)
        finally:
            stack.end_group(code)


def _start(output: BinaryIO, module: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=stack.prepare_child,
    )


def _wait_for(socket: Path, code: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not socket.exists():
        if code.poll() is not None or time.monotonic() > deadline:
            raise stack.StackError(f"Dagster's code server did not start; its log is {log}")
        time.sleep(0.05)


def _beats(instance: dg.DagsterInstance, say: Callable[[str], None]) -> bool:
    """Whether a daemon beats: one that ended lately has left its last beat behind, so a young one is waited for."""
    first = _beats_of(instance)
    if set(first) != set(_NEEDED) or min(first.values()) < time.time() - 2 * _BEATS_SECONDS:
        return False
    say("Looking whether a Dagster daemon runs …")
    deadline = time.monotonic() + _BEATS_SECONDS
    while time.monotonic() < deadline:
        if all(_beats_of(instance)[kind] > at for kind, at in first.items()):
            return True
        time.sleep(1)
    return False


def _beats_of(instance: dg.DagsterInstance) -> dict[str, float]:
    """The latest beat of each daemon that backfills need, in seconds since 1970."""
    found = instance.get_daemon_heartbeats()
    return {kind: found[kind].timestamp for kind in _NEEDED if kind in found}
