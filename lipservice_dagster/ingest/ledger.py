"""Which inputs a log store holds already, so that a file that is ingested twice is noticed.

An input is known by its unpacked octets: a file that was rotated, renamed or packed meanwhile is the same, and one that
has grown since begins with what is stored. An entry is published together with the logs it is about, so neither is
there without the other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from pathlib import Path

from lipservice_dagster.ingest.inputs import CHUNK_BYTES, Source, opened
from lipservice_dagster.ingest.reader import Ending
from lipservice_dagster.local.log_store import LogStoreError, LogWriter

_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Entry:
    """An input whose logs were stored."""

    name: str
    at: str  # when, as people read it
    day: str | None  # that all its logs were put on
    octets: int
    digest: str  # SHA-256 of its octets, in hex
    head: str  # that of its first `_HEAD_BYTES`
    ending: Ending = field(default_factory=Ending)


def entry_of(
    source: Source, *, at: datetime, day: date | None, octets: int, digest: str, head: bytes, ending: Ending
) -> Entry:
    """The entry of an input of which `octets` were read; ``head`` are its first ones, `_HEAD_BYTES` or more.

    Less than that where fewer were read.
    """
    when, on = f"{at:%Y-%m-%d %H:%M} UTC", None if day is None else day.isoformat()
    return Entry(source.name, when, on, octets, digest, _digest(head[: min(_HEAD_BYTES, octets)]), ending)


def entries(root: Path, team_id: int) -> list[Entry]:
    """The inputs that the store holds of a team. Raises `LogStoreError` for an entry that cannot be read."""
    found = []
    for path in sorted((root / _folder(team_id)).glob("*.json")):
        try:
            fields = json.loads(path.read_text())
            found.append(Entry(**fields | {"ending": Ending(**fields.get("ending", {}))}))
        except (OSError, ValueError, TypeError) as error:
            raise LogStoreError(
                f"Reading {path} failed: {error}. Remove it; a file that was ingested may go unnoticed"
            ) from error
    return found


def add(writer: LogWriter, team_id: int, entry: Entry) -> None:
    """Let the writer publish an entry together with the logs."""
    name = f"{entry.digest}{'' if entry.day is None else f'-{entry.day}'}.json"
    writer.note(f"{_folder(team_id)}/{name}", json.dumps(asdict(entry), indent=1).encode())


@contextmanager
def publishing(root: Path) -> Iterator[None]:
    """Let nobody else publish inputs in the meantime. Raises `LogStoreError` where the store cannot be written."""
    try:
        (root / "ingested").mkdir(parents=True, exist_ok=True)
        handle = os.open(root / "ingested" / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LogStoreError(f"Writing below {root} failed: {error}. Nothing was stored") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def digest_of(source: Source, octets: int) -> str:
    """The digest of the first octets of a file."""
    hashed = hashlib.sha256()
    with opened(source) as stream:
        while octets and (part := stream.read(min(CHUNK_BYTES, octets))):
            hashed.update(part)
            octets -= len(part)
    return hashed.hexdigest()


def begins_with(source: Source, known: Sequence[Entry], day: date | None) -> tuple[Entry, bool] | None:
    """The longest known input that a file begins with, and whether it is all there is in the file.

    Inputs that were put on another day are others. Most files are told apart by their first octets; the rest is read.
    """
    on = None if day is None else day.isoformat()
    with opened(source) as stream:
        head = stream.head()
        candidates = {
            entry.octets: entry
            for entry in known
            if entry.day == on and _digest(head[: min(_HEAD_BYTES, entry.octets)]) == entry.head
        }
        if not candidates:
            return None
        found: Entry | None = None
        hashed, done = hashlib.sha256(), 0
        for end in sorted(candidates):
            while done < end and (part := stream.read(min(CHUNK_BYTES, end - done))):
                hashed.update(part)
                done += len(part)
            if done == end and hashed.hexdigest() == candidates[end].digest:
                found = candidates[end]
        if found is None:
            return None
        return found, found.octets == done and not stream.read(1)


def _folder(team_id: int) -> str:
    return f"ingested/team_id={team_id}"


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
