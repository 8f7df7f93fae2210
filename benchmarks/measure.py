"""Run a piece of work in a process of its own: its seconds and its peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The work is a function `module:name`; it may answer with its own seconds (without imports and preparation).
_CHILD = """
import importlib, json, resource, sys
module, name = sys.argv[1].split(":")
answer = getattr(importlib.import_module(module), name)(*json.loads(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"answer": answer, "peak": peak}))
"""


@dataclass(frozen=True)
class Measured:
    """Seconds of the whole process, its peak resident memory in bytes, and what the work answered."""

    seconds: float
    peak: int
    answer: Any


def work(function: str, *arguments: object) -> Measured:
    """Call ``module:function`` with these (JSON) arguments in a new process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, function, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
    )
    seconds = time.perf_counter() - start
    told = json.loads(done.stdout.splitlines()[-1])
    return Measured(seconds, told["peak"], told["answer"])


def command(arguments: list[str], stdin: Path, stdout: Path) -> float:
    """Seconds of a command as a whole process."""
    start = time.perf_counter()
    with stdin.open("rb") as source, stdout.open("wb") as target:
        subprocess.run(arguments, stdin=source, stdout=target, check=True, timeout=1800)
    return time.perf_counter() - start


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
