"""Placing lines in time, counting them, and handing them to the log store in batches."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from lipservice_dagster.ingest.lines import read_line
from lipservice_dagster.ingest.objects import Line
from lipservice_dagster.ingest.text import DAY_US, SEVERITY_NUMBERS
from lipservice_dagster.local.ids import uuids
from lipservice_dagster.local.log_store import ATTRIBUTES, FIRST_DAY, LAST_DAY, LOGS_SCHEMA, TIMESTAMP, LogWriter

CHUNK_BYTES = 4 << 20
BATCH_LINES = 50_000
BATCH_BYTES = 64 << 20
MAX_LINE_BYTES = 256 << 20
"""A line that is longer cannot be stored: it is counted as unreadable, and only its start is kept as a reject."""
EXAMPLES = 3

NO_TIME = "no time in the line, nor in one before it in the file (--day places such lines)"
OUT_OF_RANGE = f"its time is outside {FIRST_DAY} to {LAST_DAY}, which the log store cannot hold"
TOO_LONG = f"longer than {MAX_LINE_BYTES >> 20} MB"

_EPOCH = date(1970, 1, 1)
_FIRST_US = (FIRST_DAY - _EPOCH).days * DAY_US
_END_US = ((LAST_DAY - _EPOCH).days + 1) * DAY_US
_LEAP_YEAR = 2000  # with a day given only the time of day counts, and 29 February must be readable


@dataclass(frozen=True)
class Unreadable:
    """How many lines could not be stored for one reason, and the first of them as ``file:line``."""

    lines: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class IngestSummary:
    """What became of every line: ``read == stored + blank + Σ unreadable``."""

    read: int
    stored: int
    blank: int
    bytes: int  # octets read, decompressed
    unreadable: dict[str, Unreadable]  # by reason
    without_timestamp: int  # of those stored: placed at the time of the line before
    without_severity: int  # of those stored: taken to be info
    without_year: int  # of those stored: their time names no year
    year: int | None  # the year they were given; None where a day was
    unknown_severities: dict[str, int]  # text that is none of PostHog's severities, as stored
    counts: dict[tuple[int, date, str], int]  # stored, by team_id, day and service

    @property
    def not_stored(self) -> int:
        """Lines that were neither stored nor blank."""
        return sum(found.lines for found in self.unreadable.values())


class Stream(Protocol):
    """What lines are read from."""

    def read(self, size: int, /) -> bytes:
        """The next octets, `size` at most; none at the end."""
        ...


def lines_of(stream: Stream) -> Iterator[tuple[list[bytes], bool]]:
    """Lines without their ``\\n``, many at a time and False; or one that was cut at `MAX_LINE_BYTES`, and True.

    `MAX_LINE_BYTES` is more than a chunk.
    """
    parts: list[bytes] = []  # the line that has begun
    held = 0
    skipping = False  # the rest of a line that was cut
    while chunk := stream.read(CHUNK_BYTES):
        pieces = chunk.split(b"\n")
        if skipping:
            if len(pieces) == 1:
                continue
            del pieces[0]
            skipping = False
        parts.append(pieces[0])
        held += len(pieces[0])
        if len(pieces) > 1:
            pieces[0] = b"".join(parts)
            parts = [pieces.pop()]
            held = len(parts[0])
            # Only the first of them can have begun in an earlier chunk.
            if len(pieces[0]) > MAX_LINE_BYTES:
                yield [pieces[0][:MAX_LINE_BYTES]], True
                del pieces[0]
            yield pieces, False
        elif held > MAX_LINE_BYTES:
            yield [b"".join(parts)[:MAX_LINE_BYTES]], True
            parts, held, skipping = [], 0, True
    rest = b"".join(parts)
    if rest:
        yield [rest], False


@dataclass
class _Batch:
    """Columns of lines that were read and not yet written."""

    timestamps: list[int] = field(default_factory=list)
    severities: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    octets: int = 0


class Reader:
    """Places lines in time, counts them, and hands them to a `LogWriter` in batches."""

    def __init__(
        self,
        team_id: int,
        service: bytes,
        environment: bytes,
        day: date | None,
        year: int,
        now: datetime,
        rejects: BinaryIO | None,
    ) -> None:
        self._team_id, self._service, self._environment = team_id, service, environment
        self._year, self._rejects = year, rejects
        self._observed = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        self._day = day
        self._day_start = None if day is None else (day - _EPOCH).days * DAY_US
        self._file, self._number = "", 0
        self._last: int | None = None
        self._batch = _Batch()
        self._ids = np.random.default_rng(0)
        self._read = self._stored = self._blank = 0
        self._without_timestamp = self._without_severity = self._without_year = 0
        self._unknown: Counter[str] = Counter()
        self._counts: Counter[tuple[int, bytes]] = Counter()
        self._unreadable: dict[str, tuple[int, list[str]]] = {}

    def start(self, file: str) -> None:
        """Begin a file: what stood in the one before says nothing about its lines."""
        self._file, self._number, self._last = file, 0, self._day_start
        # uuids depend on what is ingested and when, so that no two runs give the same ones.
        seed = hashlib.sha256(f"{self._team_id}\0{file}\0{self._observed}\0{self._read}".encode()).digest()
        self._ids = np.random.default_rng(int.from_bytes(seed, "big"))

    def read(self, writer: LogWriter, lines: list[bytes], too_long: bool) -> None:
        """Take the next lines of the file."""
        batch, day_start = self._batch, self._day_start
        year = self._year if day_start is None else _LEAP_YEAR
        for line in lines:
            self._number += 1
            line = line.removesuffix(b"\r")
            if too_long:
                self._refuse(TOO_LONG, line)
                continue
            if not line or line.isspace():
                self._blank += 1
                continue
            found = read_line(line, year)
            at = found.timestamp
            if at is None:
                at = self._last
                if at is None:
                    self._refuse(NO_TIME, line)
                    continue
                self._without_timestamp += 1
            else:
                if day_start is not None:
                    at = day_start + at % DAY_US
                elif not _FIRST_US <= at < _END_US:
                    self._refuse(OUT_OF_RANGE, line)
                    continue
                self._last = at
                self._without_year += found.yearless
            severity = found.severity
            if severity is None:
                severity = "info"
                self._without_severity += 1
            elif severity not in SEVERITY_NUMBERS:
                self._unknown[severity] += 1
            batch.timestamps.append(at)
            batch.severities.append(severity)
            batch.lines.append(found)
            batch.octets += len(line)
            if len(batch.lines) >= BATCH_LINES or batch.octets >= BATCH_BYTES:
                self.flush(writer)
                batch = self._batch
        self._read += len(lines)

    def _refuse(self, reason: str, line: bytes) -> None:
        number, examples = self._unreadable.get(reason, (0, []))
        if len(examples) < EXAMPLES:
            examples.append(f"{self._file}:{self._number}")
        self._unreadable[reason] = (number + 1, examples)
        if self._rejects is not None:
            self._rejects.write(line + b"\n")

    def flush(self, writer: LogWriter) -> None:
        """Hand over what was read so far."""
        batch, self._batch = self._batch, _Batch()
        if batch.lines:
            table = self._table(batch)
            writer.add(self._team_id, table)
            self._stored += table.num_rows

    def _table(self, batch: _Batch) -> pa.Table:
        lines, rows = batch.lines, len(batch.lines)
        stamps = np.array(batch.timestamps, dtype=np.int64)
        services = [self._service if line.service is None else line.service for line in lines]
        self._counts.update(zip((stamps // DAY_US).tolist(), services, strict=True))
        return pa.table(
            [
                pa.array(stamps).cast(TIMESTAMP),
                pa.repeat(pa.scalar(self._observed), rows).cast(TIMESTAMP),
                uuids(self._ids, rows),
                pa.array([line.trace_id for line in lines], pa.binary()),
                pa.array([line.span_id for line in lines], pa.binary()),
                pa.array([line.body for line in lines], pa.binary()),
                pa.array(batch.severities, pa.string()),
                pa.array([SEVERITY_NUMBERS.get(severity, 0) for severity in batch.severities], pa.int32()),
                pa.array(services, pa.binary()),
                self._resources(lines, services),
                _maps([line.attributes for line in lines]),
                pa.array([line.event_name for line in lines], pa.string()),
            ],
            schema=LOGS_SCHEMA,
        )

    def _resources(self, lines: list[Line], services: list[bytes]) -> pa.Array:
        """Resource attributes, with service and environment in them; few differ, so they are made once each."""
        known: dict[tuple[bytes, tuple[tuple[bytes, bytes], ...]], int] = {}
        chosen = [
            known.setdefault((service, tuple(line.resource.items()) if line.resource else ()), len(known))
            for line, service in zip(lines, services, strict=True)
        ]
        pool = []
        for service, items in known:
            given = {b"deployment.environment.name": self._environment} if self._environment else {}
            named = {b"service.name": service} if service else {}
            resource = dict(items)
            if b"deployment.environment" in resource or b"environment" in resource:
                given = {}
            pool.append(given | named | resource)
        return _maps(pool).take(pa.array(chosen))

    def summary(self, octets: int) -> IngestSummary:
        """What became of the lines so far, which were so many octets."""
        counts: Counter[tuple[int, date, str]] = Counter()
        for (days, service), lines in self._counts.items():  # services that differ in invalid octets read the same
            counts[self._team_id, _EPOCH + timedelta(days=days), service.decode("utf-8", "replace")] += lines
        return IngestSummary(
            read=self._read,
            stored=self._stored,
            blank=self._blank,
            bytes=octets,
            unreadable={
                reason: Unreadable(lines, tuple(examples)) for reason, (lines, examples) in self._unreadable.items()
            },
            without_timestamp=self._without_timestamp,
            without_severity=self._without_severity,
            without_year=self._without_year,
            year=self._year if self._day is None else None,
            unknown_severities=dict(sorted(self._unknown.items())),
            counts=dict(sorted(counts.items())),
        )


def _maps(values: list[dict[bytes, bytes]]) -> pa.Array:
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    keys = pa.array([key for value in values for key in value], pa.binary())
    items = pa.array([item for value in values for item in value.values()], pa.binary())
    return pa.MapArray.from_arrays(pa.array(offsets), keys, items).cast(ATTRIBUTES)
