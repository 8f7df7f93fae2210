"""Reading files, folders or standard input into the embedded log store.

Every line is counted once: read = stored + joined + blank + unreadable. What is stored is published together at the
end; an exception on the way, a full disk or Ctrl-C leave the store as it was.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, TypedDict

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from lipservice_dagster.ingest import ledger
from lipservice_dagster.ingest.inputs import (
    CHUNK_BYTES,
    IngestError,
    Input,
    Source,
    begun,
    opened,
    pieces_of,
    sources_of,
)
from lipservice_dagster.ingest.lines import read_line
from lipservice_dagster.ingest.octets import repaired
from lipservice_dagster.ingest.reader import IngestSummary, Known, Reader, microseconds
from lipservice_dagster.local.log_store import LogStoreError, LogWriter

_ROWS_SHOWN = 40
_FILES_SHOWN = 5


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
    again: bool = False,
    scratch: bool = False,
    progress: Callable[[int], None] | None = None,
    rejects: BinaryIO | None = None,
) -> IngestSummary:
    """Store the logs of `inputs` (files, folders of files, or one stream) in the log store under `store`.

    `service` and `environment` are for lines that name none. With `day`, every log lands on that UTC day at its own
    UTC time of day; a line without a time at that of the line before, the first at 00:00. Without it, a line without a
    time has the time of the line before in its file, or is unreadable. `year` is for times that name none; by default
    it is the latest in which they do not lie after the last change of the file. `now`, with a zone, becomes
    observed_timestamp.

    What the store holds already is not stored `again`: of a file that has grown since, only what follows is read, as if
    it had been read at once. A file that was changed in the last minutes may still be written: a line that is begun at
    its end, and a log of which more must come, are left for the next time.
    A `scratch` store is read by this process and then thrown away: what lines do not say is filled in from their file,
    its name as the service, its first time (or that of its last change) for the lines before it.

    `progress` is called with the octets read of the inputs so far (of compressed ones, as compressed). Unreadable lines
    are written to `rejects`. Raises `IngestError` where an input cannot be read or the stream was stored before, and
    `LogStoreError` where the store cannot be written; nothing is stored then.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone; pass datetime.now(UTC)")
    sources, left_out = sources_of(inputs)
    known = [] if again else ledger.entries(store, team_id)
    met: list[Known] = []
    waiting: list[tuple[str, int]] = []
    reader = Reader(team_id, (service or "").encode(), environment.encode(), day, year, now, rejects)
    octets = done = 0
    before, stored = frozenset(known), list[tuple[Source, ledger.Entry]]()
    with ExitStack() as until_published, LogWriter(store, durable=not scratch) as writer:
        for source in sources:
            met_before = None if again or source.path is None else ledger.begins_with(source, known, day)
            if met_before is not None:
                met.append(_known(source, *met_before))
                if met_before[1]:
                    continue
            written = not scratch and _is_written(source, now)
            limit, half = begun(source.path) if written and source.path is not None else (None, b"")
            with opened(source, limit) as stream:
                head = stream.head()
                reader.start(
                    source.name,
                    changed=_changed(source),
                    after=None if met_before is None else met_before[0].ending,
                    **(_of_file(source, head, service, year, now) if scratch else {}),
                )
                _skip(stream, met_before[0].octets if met_before else 0)
                for piece in pieces_of(stream):
                    if isinstance(piece, list):
                        reader.records(writer, piece)
                    else:
                        reader.read(writer, *piece)
                    if progress is not None:
                        progress(done + stream.position())
                back = reader.take_back(half) if written else 0
                ending = reader.end(writer)
                done += stream.position()
                read = stream.octets - back
                octets += read
                digest = ledger.digest_of(source, read) if back else stream.digest()
                entry = ledger.entry_of(source, at=now, day=day, octets=read, digest=digest, head=head, ending=ending)
                if back or half:
                    waiting.append((source.name, back + len(half)))
            if source.path is None and (twice := [e for e in known if (e.digest, e.day) == (entry.digest, entry.day)]):
                raise IngestError(
                    f"{source.name} was stored before, as {twice[0].name} on {twice[0].at}. Nothing was stored;"
                    " --again stores it once more."
                )
            if read:
                ledger.add(writer, team_id, entry)
                known.append(entry)
                stored.append((source, entry))
        reader.flush(writer)
        if not again and not scratch:
            until_published.enter_context(ledger.publishing(store))
            _nobody_else_stored(stored, [e for e in ledger.entries(store, team_id) if e not in before], day)
    return replace(reader.summary(octets), known=tuple(met), left_out=tuple(left_out), waiting=tuple(waiting))


def _nobody_else_stored(
    stored: Sequence[tuple[Source, ledger.Entry]], since: Sequence[ledger.Entry], day: date | None
) -> None:
    """Raise `IngestError` where an input is, or begins with, one that was published `since`."""
    for source, entry in stored if since else ():
        same = any((e.digest, e.day) == (entry.digest, entry.day) for e in since)
        if same or (source.path is not None and ledger.begins_with(source, since, day) is not None):
            raise IngestError(
                f"{source.name} was stored meanwhile by another ingest. Nothing was stored; run it again for the rest."
            )


def _known(source: Source, entry: ledger.Entry, whole: bool) -> Known:
    return Known(source.name, f"{entry.name} on {entry.at}", entry.octets, whole)


def _skip(stream: Input, octets: int) -> None:
    while octets and (part := stream.read(min(octets, CHUNK_BYTES))):
        octets -= len(part)


def _changed(source: Source) -> datetime | None:
    return None if source.path is None else datetime.fromtimestamp(source.path.stat().st_mtime, UTC)


_IS_WRITTEN = timedelta(minutes=10)
"""A file that was changed so short a time ago may still be written."""


def _is_written(source: Source, now: datetime) -> bool:
    changed = _changed(source)
    return changed is not None and now - changed < _IS_WRITTEN


class _OfFile(TypedDict, total=False):
    """What a file says of lines that do not say it."""

    service: bytes
    untimed: int


def _of_file(source: Source, head: bytes, service: str | None, year: int | None, now: datetime) -> _OfFile:
    changed = min(_changed(source) or now, now)
    times = (read_line(line, year or changed.year).timestamp for line in head.split(b"\n"))
    at = next((time for time in times if time is not None), None)
    found: _OfFile = {"untimed": microseconds(changed) if at is None else min(at, microseconds(changed))}
    if source.path is not None and service is None:
        found["service"] = os.fsencode(service_name(source.path))
    return found


# What rotation and packing add to the name of a log file: app.log.1.gz, app-20260910.log, app.2026-09-10.log.
_ADDED = re.compile(r"(?:[.\-_](?:log|txt|out|json|jsonl|ndjson|gz|zst|xz|bz2|\d{1,10}|\d{4}-\d\d-\d\d|old))+$", re.I)


def service_name(path: Path) -> str:
    """The service that a file's name speaks of."""
    return _ADDED.sub("", path.name) or path.name


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
    again: bool = False,
    rejects: Path | None = None,
) -> int:
    """Ingest files and folders, or standard input where `paths` is empty or ``-``; show progress and the summary.

    Returns the exit code: 0 if anything was stored, or was before; 1 if nothing was or something failed. Progress and
    errors go to standard error, the summary to standard output.
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
                again=again,
                progress=report,
                rejects=sink,
            )
    except (IngestError, LogStoreError) as error:
        _say(errors, f"error: {error}", style="red")
        return 1
    show(summary, Console())
    return 0 if summary.stored or summary.waiting or any(known.whole for known in summary.known) else 1


@contextmanager
def _rejects_file(path: Path, inputs: Sequence[Path]) -> Iterator[BinaryIO]:
    if any(_holds(source, path) for source in inputs):
        raise IngestError(f"{path} is one of the inputs; name another file for the lines that cannot be read.")
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise IngestError(f"Writing {path} failed: {error}. Nothing was stored.") from error


def _holds(source: Path, path: Path) -> bool:
    """Whether a file is an input, or lies in a folder that is one."""
    if source.is_dir():
        return path.resolve().is_relative_to(source.resolve())
    return path.exists() and source.exists() and os.path.samefile(path, source)


@contextmanager
def _progress(console: Console, paths: Sequence[Path] | None) -> Iterator[Callable[[int], None] | None]:
    if not console.is_terminal:
        yield None
        return
    known = paths is not None and all(path.is_file() for path in paths)
    total = sum(path.stat().st_size for path in paths or ()) if known else None
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
    for text, style in notes(summary):
        _say(console, text, style=style)
    if any(known.whole for known in summary.known):
        _say(console, "--again stores once more what was stored before")
    if not summary.stored:
        _say(console, "warning: nothing was stored", style="yellow")


def notes(summary: IngestSummary) -> list[tuple[str, str | None]]:
    """What became of the lines and what was assumed, a sentence each with its style."""
    said: list[tuple[str, str | None]] = []

    def say(text: str, style: str | None = None) -> None:
        said.append((shown(text), style))

    say(
        f"{summary.read:,} lines read ({summary.bytes / 1e6:,.1f} MB): {summary.stored:,} stored,"
        + f" {summary.joined:,} joined to the log before them," * bool(summary.joined)
        + f" {summary.blank:,} blank, {summary.not_stored:,} unreadable"
    )
    for known in summary.known:
        what = "left out" if known.whole else "only what follows was read"
        begins = "was" if known.whole else "begins with what was"
        say(f"warning: {known.name} {begins} stored before ({known.before}): {what}", "yellow")
    for name, octets in summary.waiting:
        say(
            f"{name} was changed a moment ago, and its last {octets:,} bytes are no whole log: they are read when it is"
            " ingested again",
            "yellow",
        )
    if summary.left_out:
        names = ", ".join(summary.left_out[:_FILES_SHOWN]) + " …" * (len(summary.left_out) > _FILES_SHOWN)
        say(f"Left out: {names}")
    if summary.without_timestamp:
        say(f"{summary.without_timestamp:,} without a time of their own have that of what is around them")
    if summary.without_year and summary.years:
        years = " and ".join(str(year) for year in sorted(set(summary.years)))
        say(f"{summary.without_year:,} times without a year were placed in {years} (--year changes it)")
    if summary.without_severity:
        say(f"{summary.without_severity:,} without a severity count as info")
    if summary.unknown_severities:
        known_as = ", ".join(f"{text} ({lines:,})" for text, lines in list(summary.unknown_severities.items())[:10])
        say(f"Severities that PostHog does not know, kept as they are: {known_as}")
    for reason, found in summary.unreadable.items():
        say(f"warning: {found.lines:,} not stored: {reason}; first: {', '.join(found.examples)}", "yellow")
    return said


def shown(text: str) -> str:
    """A text that people can be shown, whatever octets the names of files in it have."""
    return repaired(text)


def _say(console: Console, text: str, style: str | None = None) -> None:
    # Names of files and services can hold anything: no markup, and no line breaks of our own.
    console.print(shown(text), style=style, markup=False, highlight=False, soft_wrap=True)
