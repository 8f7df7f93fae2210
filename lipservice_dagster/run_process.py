"""Which process works on a run: a tag by which another process of the machine can tell whether it is still there."""

from __future__ import annotations

import os
import socket

import psutil

PROCESS_TAG = "lipservice/process"


def this_process() -> str:
    """This process as a tag: its id, its start (ids are used again) and its machine."""
    return f"{os.getpid()} {psutil.Process().create_time():.2f} {socket.gethostname()}"


def may_live(process: str) -> bool:
    """Whether a process so tagged may still be there; of another machine's one cannot tell."""
    pid, started, host = process.split(" ", 2)
    if host != socket.gethostname():
        return True
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.2f}" == started and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
