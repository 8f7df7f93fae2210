"""The embedded log store: a team's logs as Parquet files, written whole or not at all.

Under a root folder stand

- ``logs/team_id=<int>/day=<YYYY-MM-DD>/part-<id>.parquet``: log records, columns as `STORED_SCHEMA`, sorted by service
  and timestamp; the day is the UTC day of ``timestamp``;
- ``volumes/day=<YYYY-MM-DD>/part-<id>.parquet``: the five-minute rollup of the day's logs of all teams, columns as
  `VOLUMES_SCHEMA`. A question about a thousand teams opens a few files a day; parts are merged as they become many;
- ``ingested/…``: notes on what was stored, published together with it (`LogWriter.note`);
- ``.staging/<writer>/``: what a writer has not published yet; no reader's glob sees it.

A writer renames its files into place at the end, and keeps an undo list while it does: if it fails, or dies and the
next writer finds the list, every rename is taken back. So a run that did not end well has stored nothing, and can be
repeated.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lipservice_dagster.core.frames import SEVERITIES
from lipservice_sampler.records import MICRO, RATE_KEYS, micro_weight, severity


def _required(name: str, kind: pa.DataType) -> pa.Field:
    # Required fields reach ClickHouse as plain types; optional ones would become Nullable.
    return pa.field(name, kind, nullable=False)


TIMESTAMP = pa.timestamp("us", tz="UTC")
ATTRIBUTES = pa.map_(pa.binary(), pa.field("value", pa.binary(), nullable=False))

LOGS_SCHEMA = pa.schema(
    [
        _required("timestamp", TIMESTAMP),
        _required("observed_timestamp", TIMESTAMP),
        _required("uuid", pa.string()),
        _required("trace_id", pa.binary()),  # base64 text as PostHog stores it, empty where there is none
        _required("span_id", pa.binary()),
        _required("body", pa.binary()),  # any octets
        _required("severity_text", pa.string()),
        _required("severity_number", pa.int32()),
        _required("service_name", pa.binary()),
        _required("resource_attributes", ATTRIBUTES),
        _required("attributes", ATTRIBUTES),
        _required("event_name", pa.string()),
    ]
)
"""The columns of a log record, under PostHog's names."""

STORED_SCHEMA = pa.schema(
    [
        *LOGS_SCHEMA,
        _required("environment", pa.binary()),
        _required("severity", pa.int8()),  # its place in `frames.SEVERITIES`
        _required("weight", pa.int64()),  # logs it stands for, in millionths
        _required("bytes", pa.int64()),  # octets of body, and of keys and values of both maps
        _required("stamp_bytes", pa.int64()),  # those of them that a sampler's stamp has
    ]
)
"""The columns of a logs file: what every question asks of a record is worked out once, when logs are written."""

VOLUMES_SCHEMA = pa.schema(
    [
        _required("team_id", pa.int32()),
        _required("time_bucket", TIMESTAMP),  # start of five UTC minutes
        _required("service_name", pa.binary()),
        _required("environment", pa.binary()),
        _required("severity_text", pa.string()),  # lower case
        _required("log_count", pa.int64()),
        _required("bytes", pa.int64()),  # octets of body, and of keys and values of both maps
    ]
)
"""The columns of a volumes file."""

# Resource attributes that name the environment; the first that is there counts.
ENVIRONMENT_KEYS = (b"deployment.environment.name", b"deployment.environment", b"environment")

PART_ROWS = 250_000
PART_BYTES = 256 << 20
ROW_GROUP_ROWS = 65_536
VOLUME_PARTS = 16
VOLUME_BYTES = 64 << 20

FIRST_DAY = date(1900, 1, 1)  # what ClickHouse's DateTime64 can hold
LAST_DAY = date(2299, 12, 31)

_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000
_BUCKET_US = 300_000_000
_STAGING = ".staging"
_UNDO = "publishing.json"


class LogStoreError(RuntimeError):
    """The store could not be read or written; the text says what failed, where, and what to do."""


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: sorted or nearly sorted timestamps as differences, which take half the room and are read
    in half the time; everything else by dictionary where values repeat.
    """
    times = [f.name for f in schema if pa.types.is_timestamp(f.type)]
    paths = [
        path
        for f in schema
        if f.name not in times
        for path in ([f"{f.name}.key_value.{p}" for p in ("key", "value")] if pa.types.is_map(f.type) else [f.name])
    ]
    return {
        "compression": "zstd",
        "use_dictionary": paths,
        "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED"),
    }


@contextmanager
def _explained(doing: str, where: Path) -> Iterator[None]:
    """Turn an OSError into a `LogStoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "The disk is full: free some space, or put the log store on another disk, and run it again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "This user may not write there: change the folder's owner or permissions, or choose another folder"
        else:
            remedy = "Look at the folder and its disk, then run it again"
        reason = error.strerror or str(error)
        place = error.filename or where
        raise LogStoreError(f"{doing} failed at {place}: {reason}. {remedy}; nothing was published.") from error


@contextmanager
def _held(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with _held(path, os.O_RDWR | os.O_CREAT) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sync_folder(path: Path) -> None:
    with _held(path, os.O_RDONLY) as handle:
        os.fsync(handle)


def partition(team_id: int, day: date) -> str:
    """The folder of a team-day, below ``logs/``."""
    return f"team_id={team_id}/day={day.isoformat()}"


@dataclass
class _Buffer:
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    octets: int = 0


class LogWriter:
    """Adds logs to the store under `root`; what was added is published together when the context ends well.

    With ``replace=True`` every team-day that was added to takes the place of what the store held of it before.
    Without ``durable`` nothing waits for the disk: for a store that no one reads after its writer's process.
    ``counts`` holds the rows added by (team_id, day). Memory is bounded by about `PART_BYTES` and one added table.
    Raises `LogStoreError`, with nothing published, where the disk refuses; `ValueError` for a table that is not of
    `LOGS_SCHEMA` or a time outside `FIRST_DAY` to `LAST_DAY`.
    """

    def __init__(self, root: Path, *, replace: bool = False, durable: bool = True) -> None:
        self.root = Path(root)
        self.replace, self.durable = replace, durable
        self.counts: dict[tuple[int, date], int] = {}
        self._buffers: dict[tuple[int, date], _Buffer] = {}
        self._volumes: dict[date, _Buffer] = {}
        self._parts: list[tuple[int, date]] = []
        self._notes: list[str] = []
        self._staging: Path | None = None
        self._lock = -1

    def __enter__(self) -> Self:
        area = self.root / _STAGING
        with _explained("Opening the log store for writing", self.root):
            area.mkdir(parents=True, exist_ok=True)
            # The area's lock is held only while staging folders come and go, and while files are published.
            with _locked(area / "lock"):
                _remove_stale(self.root)
                staging = area / f"{os.getpid()}-{uuid.uuid4().hex}"
                staging.mkdir()
                self._lock = os.open(staging / "alive", os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._staging = staging
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        staging, self._staging = self._open_staging(), None
        try:
            if kind is None:
                for key in list(self._buffers):
                    self._flush(staging, key)
                for day in list(self._volumes):
                    self._flush_volumes(staging, day)
                if self._parts:
                    self._publish(staging)
        finally:
            self._buffers.clear()
            self._volumes.clear()
            try:
                self._leave(staging)
            finally:
                os.close(self._lock)

    def _leave(self, staging: Path) -> None:
        # A folder whose undo failed stays, and so does one that cannot be removed now: the next writer goes on with it.
        with suppress(OSError), _locked(self.root / _STAGING / "lock"):
            if not (staging / _UNDO).exists():
                shutil.rmtree(staging, ignore_errors=True)

    def add(self, team_id: int, table: pa.Table) -> None:
        """Add rows of any days; `table` has the columns of `LOGS_SCHEMA`, in any order and castable to it."""
        staging = self._open_staging()
        if not 0 <= team_id < 2**31:
            raise ValueError(f"team_id {team_id} is not a PostHog team id; it must lie in 0 to 2147483647")
        missing = [name for name in LOGS_SCHEMA.names if name not in table.column_names]
        if missing:
            raise ValueError(f"the table lacks the columns {', '.join(missing)} of LOGS_SCHEMA")
        table = table.select(LOGS_SCHEMA.names)
        empty = [name for name, column in zip(table.column_names, table.columns, strict=True) if column.null_count]
        if empty:
            raise ValueError(f"the columns {', '.join(empty)} have nulls; use empty values")
        for piece in _pieces(table.cast(LOGS_SCHEMA)):
            for day, rows in _by_day(piece):
                self._keep(staging, (team_id, day), rows)

    def note(self, place: str, content: bytes) -> None:
        """Publish a small file at a place below the root together with the logs, in place of one that is there.

        Where no logs are added, it is not published.
        """
        path = self._open_staging() / place
        with _explained("Writing a note", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if place not in self._notes:
            self._notes.append(place)

    def _open_staging(self) -> Path:
        if self._staging is None:
            raise ValueError("the LogWriter is not open; use it as `with LogWriter(root) as writer`")
        return self._staging

    def _keep(self, staging: Path, key: tuple[int, date], rows: pa.Table) -> None:
        buffer = self._buffers.setdefault(key, _Buffer())
        if buffer.rows and buffer.rows + rows.num_rows > PART_ROWS:
            self._flush(staging, key)
            buffer = self._buffers.setdefault(key, _Buffer())
        buffer.tables.append(rows)
        buffer.rows += rows.num_rows
        buffer.octets += rows.nbytes
        self.counts[key] = self.counts.get(key, 0) + rows.num_rows
        # The largest goes first, so that few and full parts come of it.
        while sum(b.octets for b in self._buffers.values()) > PART_BYTES:
            self._flush(staging, max(self._buffers, key=lambda k: self._buffers[k].octets))

    def _flush(self, staging: Path, key: tuple[int, date]) -> None:
        buffer = self._buffers.pop(key)
        table = stored(_ordered(pa.concat_tables(buffer.tables)))
        _write(staging / "logs" / partition(*key), table, durable=self.durable)
        self._parts.append(key)
        team_id, day = key
        of_day, rows = self._volumes.setdefault(day, _Buffer()), volumes(team_id, table)
        of_day.tables.append(rows)
        of_day.octets += rows.nbytes
        while sum(b.octets for b in self._volumes.values()) > VOLUME_BYTES:
            self._flush_volumes(staging, max(self._volumes, key=lambda d: self._volumes[d].octets))

    def _flush_volumes(self, staging: Path, day: date) -> None:
        _write(staging / _volumes_folder(day), _summed(self._volumes.pop(day).tables), durable=self.durable)

    def _publish(self, staging: Path) -> None:
        with _explained("Publishing logs", self.root), _locked(self.root / _STAGING / "lock"):
            logs = sorted({f"logs/{partition(*key)}" for key in self._parts})
            days = sorted({day for _, day in self._parts})
            merged = [_volumes_folder(day) for day in days if self._merge(staging, day)]
            folders = logs + [_volumes_folder(day) for day in days]
            for folder in folders:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            moves = self._moves(staging, folders, replaced={*(logs if self.replace else []), *merged})
            for place in self._notes:
                (self.root / place).parent.mkdir(parents=True, exist_ok=True)
                moves.append((f"{staging.relative_to(self.root).as_posix()}/{place}", place))
            _write_undo(staging, moves)
            try:
                for source, target in moves:
                    os.replace(self.root / source, self.root / target)
                for folder in folders if self.durable else []:
                    _sync_folder(self.root / folder)
            except BaseException:
                _undo(self.root, staging)
                raise
            (staging / _UNDO).unlink()  # from here on the files are published
            _sync_folder(staging)

    def _merge(self, staging: Path, day: date) -> bool:
        """Put a day's volumes into one staged file with those there are, where that is called for; whether it was."""
        folder = _volumes_folder(day)
        there, new = (sorted((base / folder).glob("*.parquet")) for base in (self.root, staging))
        if not there or (not self.replace and len(there) + len(new) <= VOLUME_PARTS):
            return False
        kept = [_read_volumes(path) for path in there]
        if self.replace:
            teams = pa.array([team for team, on in self._parts if on == day], pa.int32())
            kept = [rows.filter(pc.invert(pc.is_in(rows["team_id"], teams))) for rows in kept]
        _write(staging / folder, _summed([*kept, *map(_read_volumes, new)]), durable=self.durable)
        for path in new:
            path.unlink()
        return True

    def _moves(self, staging: Path, folders: list[str], replaced: set[str]) -> list[tuple[str, str]]:
        """The renames that publish, below the root and in order: by folder, old files out, then new ones in."""
        aside = staging.relative_to(self.root).as_posix()
        moves: list[tuple[str, str]] = []
        for folder in folders:
            if folder in replaced:
                (staging / "replaced" / folder).mkdir(parents=True)
                old = sorted(path.name for path in (self.root / folder).glob("*.parquet"))
                moves += [(f"{folder}/{name}", f"{aside}/replaced/{folder}/{name}") for name in old]
            new = sorted(path.name for path in (staging / folder).glob("*.parquet"))
            moves += [(f"{aside}/{folder}/{name}", f"{folder}/{name}") for name in new]
        return moves


def _write(folder: Path, table: pa.Table, *, durable: bool) -> None:
    """Write a table as a part of a staged folder, where durable on the disk before anything refers to it."""
    path = folder / f"part-{uuid.uuid4().hex}.parquet"
    with _explained("Writing logs", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            pq.write_table(table, file, row_group_size=ROW_GROUP_ROWS, **_encoding(table.schema))
            file.flush()
            if durable:
                os.fsync(file.fileno())


def _read_volumes(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=VOLUMES_SCHEMA, partitioning=None)
    except (pa.ArrowException, ValueError) as error:
        raise LogStoreError(
            f"Reading volumes failed at {path}: {error}. Remove the file; only volumes are lost"
        ) from error


def _volumes_folder(day: date) -> str:
    return f"volumes/day={day.isoformat()}"


def _write_undo(staging: Path, moves: list[tuple[str, str]]) -> None:
    aside = staging / f"{_UNDO}.new"
    with aside.open("w") as file:
        json.dump(moves, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, staging / _UNDO)
    _sync_folder(staging)


def _undo(root: Path, staging: Path) -> None:
    """Take back the renames of an unfinished publication; safe to repeat."""
    try:
        for source, target in reversed(json.loads((staging / _UNDO).read_text())):
            if (root / target).exists() and not (root / source).exists():
                os.replace(root / target, root / source)
        (staging / _UNDO).unlink()
    except OSError as error:
        raise LogStoreError(
            f"Taking back an unfinished publication failed: {error}. Some of its files may show under {root}; "
            "mend the cause, and the next writer takes them back."
        ) from error


def _remove_stale(root: Path) -> None:
    """Remove the staging folders whose writer is dead; the caller holds the area's lock."""
    for staging in sorted(path for path in (root / _STAGING).iterdir() if path.is_dir()):
        if _alive(staging):
            continue
        if (staging / _UNDO).exists():
            _undo(root, staging)
        with suppress(FileNotFoundError):  # somebody else removed it
            shutil.rmtree(staging)


def _alive(staging: Path) -> bool:
    """Whether the writer of a staging folder lives; the caller holds the area's lock."""
    try:
        with _held(staging / "alive", os.O_RDWR) as handle:
            # The kernel drops the lock when its process ends, however it ends.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # folders come and go under the area's lock: a writer died while this one did
        return False
    return False


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Slices small enough to be gathered: an Arrow array of binaries holds no more than 2 GB."""
    if table.num_rows == 0:
        return
    if table.num_rows > 1 and (table.num_rows > PART_ROWS or table.nbytes > PART_BYTES):
        half = min(PART_ROWS, (table.num_rows + 1) // 2)
        yield from _pieces(table.slice(0, half))
        yield from _pieces(table.slice(half))
    else:
        yield table


def _ordered(table: pa.Table) -> pa.Table:
    """The rows by service and timestamp; what arrived in this order is not copied."""
    order = pc.sort_indices(table, [("service_name", "ascending"), ("timestamp", "ascending")])
    return table if np.array_equal(order.to_numpy(), np.arange(table.num_rows)) else table.take(order)


def _by_day(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    days = _microseconds(table["timestamp"]) // _DAY_US
    low, high = int(days.min()), int(days.max())
    if low < (FIRST_DAY - _EPOCH).days or high > (LAST_DAY - _EPOCH).days:
        raise ValueError(f"a timestamp lies outside {FIRST_DAY} to {LAST_DAY}, which the log store cannot hold")
    if low == high:
        yield _EPOCH + timedelta(days=low), table
        return
    order = np.argsort(days, kind="stable")
    table, days = table.take(pa.array(order)), days[order]
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    for start, end in zip(starts, [*starts[1:], len(days)], strict=True):
        yield _EPOCH + timedelta(days=int(days[start])), table.slice(start, end - start)


def _microseconds(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.int64()).to_numpy()


def stored(table: pa.Table) -> pa.Table:
    """`table` (`LOGS_SCHEMA`) with the columns that `STORED_SCHEMA` adds."""
    found = [pc.map_lookup(table["resource_attributes"], key, "first") for key in map(pa.scalar, ENVIRONMENT_KEYS)]
    octets = (
        pc.binary_length(table["body"]).cast(pa.int64()).to_numpy()
        + _map_octets(table["resource_attributes"])
        + _map_octets(table["attributes"])
    )
    environment = pc.coalesce(*found, pa.scalar(b""))
    texts, numbers = (table[name].to_pylist() for name in ("severity_text", "severity_number"))
    severity = list(map(_place_of_severity, texts, numbers))
    weights, stamp_octets = _stamps(table["attributes"])
    worked_out = [environment, pa.array(severity, pa.int8()), weights, pa.array(octets), stamp_octets]
    return pa.table([*table.columns, *worked_out], names=STORED_SCHEMA.names).cast(STORED_SCHEMA)


@lru_cache(maxsize=4096)
def _place_of_severity(text: str, number: int) -> int:
    return SEVERITIES.index(severity(text, number))


def _stamps(attributes: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """`records.micro_weight` of each log, and the octets that the stamps take, keys included."""
    stamps = [pc.map_lookup(attributes, pa.scalar(key.encode()), "first") for key in RATE_KEYS]
    if all(column.null_count == len(column) for column in stamps):
        weight, none = (pa.repeat(pa.scalar(value, pa.int64()), len(attributes)) for value in (MICRO, 0))
        return weight, none
    rows = list(zip(*(column.to_pylist() for column in stamps), strict=True))
    octets = [sum(len(k) + len(v) for k, v in zip(RATE_KEYS, row, strict=True) if v is not None) for row in rows]
    weights = [_weight(*(value or b"" for value in row)) for row in rows]
    return pa.array(weights, pa.int64()), pa.array(octets, pa.int64())


@lru_cache(maxsize=4096)
def _weight(*stamp: bytes) -> int:
    own, threshold, vector = (text.decode("utf-8", "replace") for text in stamp)
    return micro_weight(own, threshold, vector)


def volumes(team_id: int, table: pa.Table) -> pa.Table:
    """The five-minute rollup of a team's `table` (`STORED_SCHEMA`), as `VOLUMES_SCHEMA`, sorted by all its keys."""
    stamps = _microseconds(table["timestamp"])
    rows = pa.table(
        {
            "team_id": pa.repeat(pa.scalar(team_id, pa.int32()), table.num_rows),
            "time_bucket": pa.array(stamps // _BUCKET_US * _BUCKET_US).cast(TIMESTAMP),
            "service_name": table["service_name"],
            "environment": table["environment"],
            "severity_text": pc.utf8_lower(table["severity_text"]),
            "log_count": pa.repeat(pa.scalar(1, pa.int64()), table.num_rows),
            "bytes": table["bytes"],
        }
    )
    return _summed([rows])


# By time first: a question is about a few hours of all teams, and reads the row groups of these hours only.
_VOLUME_KEYS = ["time_bucket", "team_id", "service_name", "environment", "severity_text"]


def _summed(tables: list[pa.Table]) -> pa.Table:
    """Rows of `VOLUMES_SCHEMA`, one a key."""
    grouped = pa.concat_tables(tables).group_by(_VOLUME_KEYS).aggregate([("log_count", "sum"), ("bytes", "sum")])
    named = grouped.rename_columns({"log_count_sum": "log_count", "bytes_sum": "bytes"}).select(VOLUMES_SCHEMA.names)
    return named.sort_by([(key, "ascending") for key in _VOLUME_KEYS]).cast(VOLUMES_SCHEMA)


def _map_octets(column: pa.ChunkedArray) -> np.ndarray:
    """Octets of all keys and values of each map."""
    sums = [np.zeros(0, dtype=np.int64)]
    for chunk in column.chunks:
        lengths = pc.add(pc.binary_length(chunk.keys), pc.binary_length(chunk.items))
        upto = np.concatenate([[0], np.cumsum(lengths.to_numpy(), dtype=np.int64)])
        sums.append(np.diff(upto[chunk.offsets.to_numpy()]))
    return np.concatenate(sums)


def team_days(root: Path) -> list[tuple[int, date]]:
    """The (team_id, day) that have logs in the store under `root`, sorted; empty where there is no store."""
    return sorted(counts(root))


def counts(root: Path) -> dict[tuple[int, date], int]:
    """Rows by (team_id, day), from the footers of the logs files. Raises `LogStoreError` for a file that is not one."""
    found: dict[tuple[int, date], int] = {}
    for path in sorted(Path(root).glob("logs/team_id=*/day=*/*.parquet")):
        try:
            day = date.fromisoformat(path.parent.name.removeprefix("day="))
            key = (int(path.parent.parent.name.removeprefix("team_id=")), day)
            found[key] = found.get(key, 0) + pq.read_metadata(path).num_rows
        except (OSError, ValueError, pa.ArrowException) as error:
            raise LogStoreError(
                f"Reading the log store failed at {path}: {error}. Remove the file, or put it back as it was."
            ) from error
    return found
