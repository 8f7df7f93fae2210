"""An application that logs a day through `SamplingFilter`, as many times as there are seeds; a process of its own.

``python -m … URL KEY FILE FOLDER``: the file says whose logs they are, under which policy and in how many seeds, and
has the messages; the folder gets what each seed kept, and the logs that the first one wrote.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from lipservice_sampler import Sampler, SamplingFilter
from lipservice_sampler.logging_filter import STAMP

LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}


class Clock:
    """The time of the message that is logged."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shipped(logging.Handler):
    """Remembers which logs came through with which stamp; the first one also writes them, as JSON lines."""

    def __init__(self, sampler: Sampler, clock: Clock, lines: IO[str] | None):
        super().__init__()
        self.addFilter(SamplingFilter(sampler))
        self.kept: list[tuple[int, float]] = []
        self._clock, self._lines = clock, lines

    def emit(self, record: logging.LogRecord) -> None:
        # The record goes through other seeds, which are applications of their own: it is theirs as it came.
        rate = record.__dict__.pop(STAMP)
        self.kept.append((record.lineno, rate))
        if self._lines is not None:
            at = datetime.fromtimestamp(self._clock.now, UTC).isoformat()
            line = {"timestamp": at, "level": record.levelname, "message": record.getMessage(), STAMP: rate}
            print(json.dumps(line), file=self._lines)


def main(url: str, key: str, file: str, folder: str) -> None:
    given = json.loads(Path(file).read_bytes())
    clock = Clock()
    clock.now = given["messages"][0][0]
    for name, number in LEVELS.items():
        logging.addLevelName(number, name)
    samplers = [
        Sampler(**given["scope"], url=url, key=key, seed=seed, clock=clock, cache_dir=False)
        for seed in range(given["seeds"])
    ]
    for sampler in samplers:
        sampler.flush(30)  # the thread in the background begins
    until = time.monotonic() + 30
    while any(sampler.status()["version"] != given["version"] for sampler in samplers):
        assert time.monotonic() < until, [sampler.status() for sampler in samplers]
        time.sleep(0.01)
    with (Path(folder) / "logs.jsonl").open("w", encoding="utf-8") as lines:
        handlers = [Shipped(sampler, clock, None if n else lines) for n, sampler in enumerate(samplers)]
        for place, (at, severity, message) in enumerate(given["messages"]):
            clock.now = at
            record = logging.LogRecord("app", LEVELS[severity], "app.py", place, "%s", (message,), None)
            for handler in handlers:
                handler.handle(record)
    for n, (sampler, handler) in enumerate(zip(samplers, handlers, strict=True)):
        assert sampler.flush(60), sampler.status()
        (Path(folder) / f"kept-{n}.json").write_text(json.dumps(handler.kept))


if __name__ == "__main__":
    main(*sys.argv[1:])
