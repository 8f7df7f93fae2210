"""Which process works on a run: a tag by which another process of the machine can tell whether it is still there."""

from __future__ import annotations

import os
import socket

import dagster as dg
import psutil

PROCESS_TAG = "lipservice/process"


def this_process() -> str:
    """This process as a tag: its id, its start (ids are used again) and its machine."""
    return f"{os.getpid()} {psutil.Process().create_time():.2f} {socket.gethostname()}"


def process_of(run: dg.DagsterRun, instance: dg.DagsterInstance) -> str | None:
    """The process that works on a run; None before it has said so. A run begun again has its parent's tags at first."""
    process = run.tags.get(PROCESS_TAG)
    parent = instance.get_run_by_id(run.parent_run_id) if process and run.parent_run_id else None
    return None if parent is not None and parent.tags.get(PROCESS_TAG) == process else process


def is_here(process: str) -> bool:
    """Whether a process so tagged is, or was, one of this machine."""
    return process.split(" ", 2)[2] == socket.gethostname()


def may_live(process: str) -> bool:
    """Whether a process so tagged may still be there; of another machine's one cannot tell."""
    if not is_here(process):
        return True
    pid, started, _ = process.split(" ", 2)
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.2f}" == started and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
