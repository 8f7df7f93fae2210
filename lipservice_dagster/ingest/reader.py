"""Making logs of lines: joining traces, placing them in time, counting, and handing them over in batches."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from lipservice_dagster.ingest.inputs import MAX_LINE_BYTES
from lipservice_dagster.ingest.lines import read_line
from lipservice_dagster.ingest.objects import Line
from lipservice_dagster.ingest.octets import json_object, octets
from lipservice_dagster.ingest.otlp import is_otlp, json_records
from lipservice_dagster.ingest.text import DAY_US, SEVERITY_NUMBERS, text_severity
from lipservice_dagster.ingest.traces import Place, goes_on, is_of_trace, place_after, tells
from lipservice_dagster.local.ids import uuids
from lipservice_dagster.local.log_store import ATTRIBUTES, FIRST_DAY, LAST_DAY, LOGS_SCHEMA, TIMESTAMP, LogWriter

BATCH_LINES = 50_000
BATCH_BYTES = 64 << 20
MAX_JOINED_BYTES = 1 << 20
"""A log of several lines that has grown so long goes on in a log of its own."""
EXAMPLES = 3

NO_TIME = "no time in the line, nor in one before it in the file (--day places such lines)"
OUT_OF_RANGE = f"its time is outside {FIRST_DAY} to {LAST_DAY}, which the log store cannot hold"
TOO_LONG = f"longer than {MAX_LINE_BYTES >> 20} MB"

# OTLP's document has one field, so its name stands at the head of the line.
_OTLP_HINT, _HINT_BYTES = re.compile(rb'"resource_?[Ll]ogs"'), 200
_EPOCH = date(1970, 1, 1)
_FIRST_US = (FIRST_DAY - _EPOCH).days * DAY_US
_END_US = ((LAST_DAY - _EPOCH).days + 1) * DAY_US
_NULS = bytes(16)
_LEAP_YEAR = 2000  # with a day given only the time of day counts, and 29 February must be readable


@dataclass(frozen=True)
class Unreadable:
    """How many lines could not be stored for one reason, and the first of them as ``file:line``."""

    lines: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """An input that begins with what was stored before; ``whole``: it holds nothing else."""

    name: str
    before: str  # name of the input that it begins with, and when that was stored
    octets: int
    whole: bool


@dataclass(frozen=True)
class IngestSummary:
    """What became of every line: ``read == stored + joined + blank + Σ unreadable``.

    A record of an OTLP document, or an object of JSON over several lines, counts as a line.
    """

    read: int
    stored: int  # logs
    joined: int  # lines that went on with the log before them
    blank: int
    bytes: int  # octets read, decompressed
    unreadable: dict[str, Unreadable]  # by reason
    without_timestamp: int  # of those stored: placed at the time of the line before
    without_severity: int  # of those stored: taken to be info
    without_year: int  # of those stored: their time names no year
    years: tuple[int, ...]  # the first and the last year that these were given
    unknown_severities: dict[str, int]  # text that is none of PostHog's severities, as stored
    counts: dict[tuple[int, date, str], int]  # stored, by team_id, day and service
    known: tuple[Known, ...] = ()  # inputs that were read before, in whole or in part
    left_out: tuple[str, ...] = ()  # files of folders that hold no text
    waiting: tuple[tuple[str, int], ...] = ()  # files that are still written, and the octets left for the next time

    @property
    def not_stored(self) -> int:
        """Lines that were neither stored nor blank."""
        return sum(found.lines for found in self.unreadable.values())


@dataclass(frozen=True)
class Ending:
    """Where a file ended: what the lines go on with that are written to it afterwards."""

    at: int | None = None  # the last time, in microseconds
    severity: str | None = None  # of the last log, where it is text
    service: str | None = None  # … that it named
    place: int = 0
    partial: bool = False
    text: bool = False


@dataclass
class _Batch:
    """Columns of lines that were read and not yet written."""

    timestamps: list[int] = field(default_factory=list)
    severities: list[str] = field(default_factory=list)
    services: list[bytes] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    octets: int = 0


@dataclass(slots=True)
class _Held:
    """The log that was read last, which the next line may go on with."""

    line: Line
    at: int
    parts: list[bytes]
    octets: int
    place: Place
    partial: bool
    begin: int  # octets of the file before it
    before: int | None  # the last time before it
    placed: bool = False  # it has no time of its own
    rest: bool = False  # its first lines were stored when the file was read before
    lines: int = 1
    error: bool = False  # it has a trace, which its first line, without a level, did not say

    def body(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Reader:
    """Makes logs of lines, counts them, and hands them to a `LogWriter` in batches.

    ``year``: of times that name none; None takes the latest that is not after the file.
    """

    def __init__(
        self,
        team_id: int,
        service: bytes,
        environment: bytes,
        day: date | None,
        year: int | None,
        now: datetime,
        rejects: BinaryIO | None,
    ) -> None:
        self._team_id, self._service, self._environment = team_id, service, environment
        self._given_year, self._rejects = year, rejects
        self._observed = microseconds(now)
        self._day_start = None if day is None else (day - _EPOCH).days * DAY_US
        self._file, self._number = "", 0
        self._of_file = service  # the service of lines of this file that name none
        self._year, self._latest = now.year, self._observed
        self._last: int | None = None
        self._begin = self._end = 0  # octets of the file, as if each line had an end, before and behind the line
        self._held: _Held | None = None
        self._batch = _Batch()
        self._ids = np.random.default_rng(0)
        self._read = self._stored = self._joined = self._blank = 0
        self._without_timestamp = self._without_severity = self._without_year = 0
        self._years: set[int] = set()
        self._unknown: Counter[str] = Counter()
        self._counts: Counter[tuple[int, bytes]] = Counter()
        self._unreadable: dict[str, tuple[int, list[str]]] = {}

    def start(
        self,
        file: str,
        *,
        changed: datetime | None = None,
        service: bytes | None = None,
        untimed: int | None = None,
        after: Ending | None = None,
    ) -> None:
        """Begin a file: what stood in the one before says nothing about its lines.

        ``changed``: its last change. ``service``: of lines that name none, in place of the reader's. ``untimed``: the
        time of lines before the first that has one, in microseconds; without it such lines cannot be stored. ``after``:
        where the file ended when it was read before; what is read now follows that.
        """
        self._file, self._number = file, 0
        self._last = untimed if self._day_start is None else self._day_start
        if after is not None and after.at is not None:
            self._last = after.at
            service_before = None if after.service is None else octets(after.service)
            line = Line(b"", severity=after.severity, service=service_before, text=after.text)
            self._held = _Held(line, after.at, [], 0, Place(after.place), after.partial, 0, after.at, True, True, 0)
        self._of_file = self._service if service is None else service
        self._latest = self._observed if changed is None else min(microseconds(changed), self._observed)
        self._year = _year_of(self._latest) if self._given_year is None else self._given_year
        # uuids depend on what is ingested and when, so that no two runs give the same ones.
        seed = hashlib.sha256(octets(f"{self._team_id}\0{file}\0{self._observed}\0{self._read}")).digest()
        self._ids = np.random.default_rng(int.from_bytes(seed, "big"))

    def read(self, writer: LogWriter, lines: list[bytes], too_long: bool) -> None:
        """Take the next lines of the file."""
        for line in lines:
            self._number += 1
            self._begin = self._end
            self._end += len(line) + 1
            line = line.removesuffix(b"\r")
            if line[:16] == _NULS:  # in front of it, the disk held what was never written
                line = line.lstrip(b"\0")
            if too_long:
                self._put(writer)
                self._refuse(TOO_LONG, line)
            elif not line or line.isspace():
                self._blank += 1
            elif line[:1] == b"{" and _OTLP_HINT.search(line, 0, _HINT_BYTES) and self._records_of(writer, line):
                self._read -= 1  # its records were counted instead
            else:
                self._take(writer, self._understood(line), line)
        self._read += len(lines)

    def records(self, writer: LogWriter, records: Iterable[Line]) -> int:
        """Take records that were no lines of text; how many there were."""
        before = self._read
        for record in records:
            self._number += 1
            self._read += 1
            self._take(writer, record, record.body)
        return self._read - before

    def _records_of(self, writer: LogWriter, line: bytes) -> bool:
        """Take the records of a line that is an OTLP document; whether it was one with any."""
        fields = json_object(line)
        return fields is not None and is_otlp(fields) and self.records(writer, json_records(fields)) > 0

    def _understood(self, line: bytes) -> Line:
        if self._day_start is not None:
            return read_line(line, _LEAP_YEAR)
        found = read_line(line, self._year)
        if found.yearless and found.timestamp is not None:
            if self._given_year is None and found.timestamp > self._latest + DAY_US:
                found = read_line(line, self._year - 1)
            if found.timestamp is not None:
                self._years.add(_year_of(found.timestamp))
        return found

    def _take(self, writer: LogWriter, found: Line, raw: bytes) -> None:
        held = self._held
        if held is not None and self._goes_on(held, found):
            held.parts += [found.body] if held.partial or not held.parts else [b"\n", found.body]
            held.lines += 1
            held.octets += len(found.body)
            if not held.partial:
                held.error = held.error or (held.line.severity is None and _is_trace(found.body, held))
                held.place = place_after(found.body, held.place)
            held.partial = found.partial
            return
        self._put(writer)
        at, before = found.timestamp, self._last
        placed = at is None
        if at is None:
            at = before
            if at is None:
                self._refuse(NO_TIME, raw)
                return
        else:
            if self._day_start is not None:
                at = self._day_start + at % DAY_US
            elif not _FIRST_US <= at < _END_US:
                self._refuse(OUT_OF_RANGE, raw)
                return
            self._last = at
        place = place_after(found.body, Place.OUTSIDE) if found.text else Place.OUTSIDE
        self._held = _Held(found, at, [found.body], len(found.body), place, found.partial, self._begin, before, placed)

    def _goes_on(self, held: _Held, found: Line) -> bool:
        if held.partial:
            return True
        if not found.text or not held.line.text or held.octets + len(found.body) > MAX_JOINED_BYTES:
            return False
        if (found.timed or (found.severity is not None and not is_of_trace(found.body))) and not tells(
            found.body, held.place
        ):
            return False
        return goes_on(found.body, "error" if held.error else held.line.severity, held.place)

    def _put(self, writer: LogWriter) -> None:
        """The held log is complete."""
        held, self._held = self._held, None
        if held is None or not held.parts:
            return
        line = held.line._replace(body=held.body()) if held.rest or len(held.parts) > 1 else held.line
        self._joined += held.lines - 1
        self._without_timestamp += held.placed
        self._without_year += line.yearless
        severity = line.severity
        if severity is None and line.partial:
            severity = text_severity(line.body)
        if severity is None and held.error:
            severity = "error"
        if severity is None:
            severity = "info"
            self._without_severity += 1
        elif severity not in SEVERITY_NUMBERS:
            self._unknown[severity] += 1
        batch = self._batch
        batch.timestamps.append(held.at)
        batch.severities.append(severity)
        batch.services.append(self._of_file if line.service is None else line.service)
        batch.lines.append(line)
        batch.octets += held.octets
        if len(batch.lines) >= BATCH_LINES or batch.octets >= BATCH_BYTES:
            self._write(writer)

    def _refuse(self, reason: str, line: bytes) -> None:
        number, examples = self._unreadable.get(reason, (0, []))
        if len(examples) < EXAMPLES:
            examples.append(f"{self._file}:{self._number}")
        self._unreadable[reason] = (number + 1, examples)
        if self._rejects is not None:
            self._rejects.write(line + b"\n")

    def take_back(self, begun: bytes) -> int:
        """Leave out the last log where it will go on; octets of its lines.

        ``begun`` is what is written already of a line that follows. Nothing is left out of a log whose first lines were
        stored before.
        """
        held = self._held
        if held is None or held.rest or not (held.partial or held.place.is_open or self._begins_with(held, begun)):
            return 0
        self._held, self._last = None, held.before
        self._read -= held.lines
        return self._end - held.begin

    def _begins_with(self, held: _Held, begun: bytes) -> bool:
        return bool(begun) and self._goes_on(held, self._understood(begun))

    def end(self, writer: LogWriter) -> Ending:
        """The file is at its end: its last log is complete as far as can be known."""
        held = self._held
        ending = Ending(self._last)
        if held is not None and held.line.service is not None:
            ending = replace(ending, service=held.line.service.decode("utf-8", "surrogateescape"))
        if held is not None:
            severity = "error" if held.error else held.line.severity
            ending = replace(
                ending, severity=severity, place=held.place.value, partial=held.partial, text=held.line.text
            )
        self._put(writer)
        return ending

    def flush(self, writer: LogWriter) -> None:
        """Hand over what was read so far."""
        self._put(writer)
        self._write(writer)

    def _write(self, writer: LogWriter) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.lines:
            table = self._table(batch)
            writer.add(self._team_id, table)
            self._stored += table.num_rows

    def _table(self, batch: _Batch) -> pa.Table:
        lines, services, rows = batch.lines, batch.services, len(batch.lines)
        stamps = np.array(batch.timestamps, dtype=np.int64)
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
            joined=self._joined,
            blank=self._blank,
            bytes=octets,
            unreadable={
                reason: Unreadable(lines, tuple(examples)) for reason, (lines, examples) in self._unreadable.items()
            },
            without_timestamp=self._without_timestamp,
            without_severity=self._without_severity,
            without_year=self._without_year,
            years=(min(self._years), max(self._years)) if self._years else (),
            unknown_severities=dict(sorted(self._unknown.items())),
            counts=dict(sorted(counts.items())),
        )


def _is_trace(line: bytes, held: _Held) -> bool:
    """Whether a line makes an error of the log it joins; the stacks of Java's dumps of its threads are none."""
    return is_of_trace(line) and not (held.parts and held.parts[0].startswith(b'"'))


def microseconds(moment: datetime) -> int:
    """Since 1970, of a moment with a zone."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _year_of(at: int) -> int:
    return (_EPOCH + timedelta(days=at // DAY_US)).year


def _maps(values: list[dict[bytes, bytes]]) -> pa.Array:
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    keys = pa.array([key for value in values for key in value], pa.binary())
    items = pa.array([item for value in values for item in value.values()], pa.binary())
    return pa.MapArray.from_arrays(pa.array(offsets), keys, items).cast(ATTRIBUTES)
