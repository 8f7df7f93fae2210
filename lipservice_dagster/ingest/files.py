"""Reading text or JSON lines, from files or standard input, into the embedded log store.

Every line is counted once: read = stored + blank + unreadable. What is stored is published together at the end; an
exception on the way, a full disk or Ctrl-C leave the store as it was.
"""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from lipservice_dagster.ingest.reader import IngestSummary, Reader, lines_of
from lipservice_dagster.local.log_store import LogStoreError, LogWriter

_ROWS_SHOWN = 40


class IngestError(RuntimeError):
    """The input cannot be read; the text says what, where, and what to do."""


def ingest(
    inputs: Sequence[Path] | BinaryIO,
    *,
    store: Path,
    team_id: int,
    service: str | None,
    day: date | None,
    now: datetime,
    environment: str = "",
    year: int | None = None,
    progress: Callable[[int], None] | None = None,
    rejects: BinaryIO | None = None,
) -> IngestSummary:
    """Store the lines of `inputs` (files, ``.gz`` among them, or one stream) in the log store under `store`.

    `service` and `environment` are for lines that name none. With `day`, every line lands on that UTC day at its own
    UTC time of day; a line without a time at that of the line before, the first at 00:00. Without it, a line without a
    time has the time of the line before in its file, or is unreadable. `year` (else that of `now`) is for times that
    name none. `now`, with a zone, becomes observed_timestamp. `progress` is called with the octets read of the inputs
    so far (of compressed ones, as compressed). Unreadable lines are written to `rejects`.

    Raises `IngestError` where an input cannot be read and `LogStoreError` where the store cannot be written; nothing is
    stored then.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone; pass datetime.now(UTC)")
    sources = [(str(path), path) for path in inputs] if isinstance(inputs, Sequence) else [("<stdin>", inputs)]
    for name, source in sources:
        if isinstance(source, Path) and not source.is_file():
            what = "is a folder; name its files" if source.is_dir() else "is not there; check the path"
            raise IngestError(f"{name} {what}. Nothing was stored.")
    given = now.astimezone(UTC).year if year is None else year
    reader = Reader(team_id, (service or "").encode(), environment.encode(), day, given, now, rejects)
    octets = done = 0
    with LogWriter(store) as writer:
        for name, source in sources:
            with _opened(name, source) as stream:
                reader.start(name)
                for lines, too_long in lines_of(stream):
                    reader.read(writer, lines, too_long)
                    if progress is not None:
                        progress(done + stream.position())
                done += stream.position()
                octets += stream.octets
        reader.flush(writer)
    return reader.summary(octets)


class _Input:
    """An input that counts the octets read of it and says what to do where it cannot be read."""

    def __init__(self, name: str, stream: BinaryIO, raw: BinaryIO | None) -> None:
        self._name, self._stream, self._raw = name, stream, raw
        self.octets = 0

    def read(self, size: int, /) -> bytes:
        """The next octets, decompressed."""
        try:
            octets = self._stream.read(size)
        except (OSError, EOFError, zlib.error) as error:  # gzip says EOFError where a file was cut off
            raise IngestError(
                f"Reading {self._name} failed after {self.octets:,} bytes: {error}. Nothing was stored; mend the file"
                " or leave it out, and run it again."
            ) from error
        self.octets += len(octets)
        return octets

    def position(self) -> int:
        """Octets read of the file itself; standard input cannot be asked."""
        return self.octets if self._raw is None else self._raw.tell()


@contextmanager
def _opened(name: str, source: Path | BinaryIO) -> Iterator[_Input]:
    if not isinstance(source, Path):
        yield _Input(name, source, None)
        return
    try:
        raw = source.open("rb")
    except OSError as error:
        raise IngestError(f"Opening {name} failed: {error}. Nothing was stored; check its permissions.") from error
    with raw:
        packed = source.suffix == ".gz"
        yield _Input(name, cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw, raw)


def run_ingest(
    paths: Sequence[Path],
    *,
    store: Path,
    team_id: int,
    service: str | None,
    day: date | None,
    now: datetime,
    environment: str = "",
    year: int | None = None,
    rejects: Path | None = None,
) -> int:
    """Ingest files, or standard input where `paths` is empty or ``-``; show progress and the summary on a terminal.

    Returns the exit code: 0 if anything was stored, 1 if nothing was or something failed. Progress and errors go to
    standard error, the summary to standard output.
    """
    errors = Console(stderr=True)
    piped = not paths or list(paths) == [Path("-")]
    try:
        with ExitStack() as stack:
            sink = None if rejects is None else stack.enter_context(_rejects_file(rejects, paths))
            report = stack.enter_context(_progress(errors, None if piped else paths))
            summary = ingest(
                sys.stdin.buffer if piped else paths,
                store=store,
                team_id=team_id,
                service=service,
                day=day,
                now=now,
                environment=environment,
                year=year,
                progress=report,
                rejects=sink,
            )
    except (IngestError, LogStoreError) as error:
        _say(errors, f"error: {error}", style="red")
        return 1
    show(summary, Console())
    return 0 if summary.stored else 1


@contextmanager
def _rejects_file(path: Path, inputs: Sequence[Path]) -> Iterator[BinaryIO]:
    if any(path.exists() and source.exists() and os.path.samefile(path, source) for source in inputs):
        raise IngestError(f"{path} is one of the inputs; name another file for the lines that cannot be read.")
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise IngestError(f"Writing {path} failed: {error}. Nothing was stored.") from error


@contextmanager
def _progress(console: Console, paths: Sequence[Path] | None) -> Iterator[Callable[[int], None] | None]:
    if not console.is_terminal:
        yield None
        return
    total = None if paths is None else sum(path.stat().st_size for path in paths if path.is_file())
    columns = (
        TextColumn("Ingesting"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("ingest", total=total)
        yield lambda octets: bars.update(task, completed=octets)


def show(summary: IngestSummary, console: Console) -> None:
    """Print a summary: lines by team, day and service, then what was assumed, then what could not be stored."""
    if summary.counts:
        table = Table("team", "day", "service", title="Stored logs", title_justify="left")
        table.add_column("logs", justify="right")
        for (team_id, day, service), lines in list(summary.counts.items())[:_ROWS_SHOWN]:
            table.add_row(str(team_id), day.isoformat(), service or "(none)", f"{lines:,}")
        if len(summary.counts) > _ROWS_SHOWN:
            rest = list(summary.counts.values())[_ROWS_SHOWN:]
            table.add_row("…", f"{len(rest):,} more", "", f"{sum(rest):,}")
        console.print(table)
    say = partial(_say, console)
    say(
        f"{summary.read:,} lines read ({summary.bytes / 1e6:,.1f} MB): {summary.stored:,} stored,"
        f" {summary.blank:,} blank, {summary.not_stored:,} unreadable"
    )
    if summary.without_timestamp:
        say(f"{summary.without_timestamp:,} without a time of their own have that of the line before")
    if summary.without_year and summary.year is not None:
        say(f"{summary.without_year:,} times without a year were placed in {summary.year} (--year changes it)")
    if summary.without_severity:
        say(f"{summary.without_severity:,} without a severity count as info")
    if summary.unknown_severities:
        known = ", ".join(f"{text} ({lines:,})" for text, lines in list(summary.unknown_severities.items())[:10])
        say(f"Severities that PostHog does not know, kept as they are: {known}")
    for reason, found in summary.unreadable.items():
        say(f"warning: {found.lines:,} not stored: {reason}; first: {', '.join(found.examples)}", style="yellow")
    if not summary.stored:
        say("warning: nothing was stored", style="yellow")


def _say(console: Console, text: str, style: str | None = None) -> None:
    # Names of files and services can hold anything: no markup, and no line breaks of our own.
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
