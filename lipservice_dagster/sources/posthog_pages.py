"""Logs of a window as pages of ``logs/query/`` in Parquet files, read on where a read was interrupted.

Pages come in the order of (timestamp, uuid) and each begins after the last row of the one before, so rows that arrive
meanwhile move no row from one page to another. They have been observed later than ``as_of``, and are left out by the
question that is asked of the files. That nothing was skipped or doubled is checked by count: the window's logs that
PostHog counts before the first page and after the last are bounds of what the pages hold.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lipservice_dagster.sources.base import LogSourceError
from lipservice_dagster.sources.posthog_api import Api
from lipservice_dagster.sources.posthog_hogql import Window

PAGE_ROWS = 2_000
"""Rows that PostHog answers at most."""

STRUCTURE = (
    "timestamp DateTime64(6, 'UTC'), observed_timestamp DateTime64(6, 'UTC'), body String, severity_text String,"
    " severity_number Int32, service_name String, resource_attributes Map(String, String),"
    " attributes Map(String, String)"
)
"""Of the files, for ClickHouse."""

_MAP = pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))
_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("timestamp", pa.timestamp("us", tz="UTC")),
            ("observed_timestamp", pa.timestamp("us", tz="UTC")),
            ("body", pa.string()),
            ("severity_text", pa.string()),
            ("severity_number", pa.int32()),
            ("service_name", pa.string()),
            ("resource_attributes", _MAP),
            ("attributes", _MAP),
        )
    ]
)
_KEPT = timedelta(hours=40)
"""How long the pages of a read that was interrupted are kept."""
_SHOWN_PAGES = 25


@dataclass(frozen=True)
class _State:
    counted: int
    """Logs that PostHog counted before the first page."""
    rows: int = 0
    parts: int = 0
    after: str | None = None
    done: bool = False


@dataclass(frozen=True)
class Pages:
    """The pages of a window, whole: the folder of their files, below that of the day, and their rows."""

    name: str
    rows: int


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder for one reader at a time; another waits.

    The lock is a file beside the folder, for a folder may be removed by whoever holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        folder.mkdir(exist_ok=True)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _same(path, handle):
                yield path
                return
        finally:
            os.close(handle)  # and where the lock was removed while it was waited for, there is another by now


def _same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def remove(folder: Path) -> None:
    """Remove the folder once nobody reads in it."""
    if folder.exists():
        with _locked(folder) as lock:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink()


def forget_old(folder: Path) -> None:
    """Remove the days below the folder whose read nobody can go on with any more."""
    oldest = time.time() - _KEPT.total_seconds()
    for day in folder.glob("[!.]*"):
        noted = [state.stat().st_mtime for state in day.glob("*/state.json")]
        if max(noted, default=day.stat().st_mtime) < oldest:
            remove(day)


def read(api: Api, window: Window, folder: Path, say: Callable[[str], None]) -> Pages:
    """The window's logs in files below ``folder``, those that are there already not read again.

    They are all that had been observed when this was called. Where logs came after a read that is gone on with had
    begun, it may have passed the place of some by then; the window is read anew.

    Raises LogSourceError where the pages do not hold what PostHog counts; they are removed then.
    """
    of = "" if window.service is None else "-" + sha256(window.service).hexdigest()[:16]
    place = folder / f"{window.first:02}-{window.last:02}{of}"
    state = _stored(place)
    if state is not None:
        if state.parts and not state.done:
            say(f"{api.name}: {window} goes on after {state.rows:,} logs that were read before")
        state, now = _whole(api, window, place, state, say)
        if state.rows == now:
            return Pages(place.name, state.rows)
        say(f"{api.name}: {window} has {now:,} logs by now, not the {state.rows:,} of an earlier read; it is read anew")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    state = _State(_count(api, window, window.end - timedelta(microseconds=1)))
    _write(place, state)
    state, now = _whole(api, window, place, state, say)
    if not state.counted <= state.rows <= now:
        shutil.rmtree(place)
        raise LogSourceError(
            f"{api.name}: the pages of {window} hold {state.rows:,} logs, and PostHog counted {state.counted:,}"
            f" before and {now:,} after: logs left it meanwhile, or pages do not fit together; try again"
        )
    return Pages(place.name, state.rows)


def _whole(api: Api, window: Window, place: Path, state: _State, say: Callable[[str], None]) -> tuple[_State, int]:
    """The read at its end, and the logs that PostHog counts then."""
    while not state.done:
        state = _page(api, window, place, state)
        _write(place, state)
        if state.parts % _SHOWN_PAGES == 0 or state.done:
            say(f"{api.name}: {window}: {state.rows:,} of {state.counted:,} logs in {state.parts:,} pages")
    return state, _count(api, window, window.end)


def _page(api: Api, window: Window, place: Path, state: _State) -> _State:
    """The next page in its file, and where that leaves the read."""
    query = _question(window, window.end) | {"orderBy": "earliest", "limit": PAGE_ROWS}
    answer = api.logs("query", query | ({"after": state.after} if state.after else {}))
    rows, more, after = answer.get("results"), answer.get("hasMore"), answer.get("nextCursor")
    if not isinstance(rows, list) or (more and (not after or after == state.after or not rows)):
        raise LogSourceError(f"{api.name}: a page of {window} does not say where the next begins; try again")
    parts, held = state.parts, 0
    if rows:
        try:
            records = [record for row in rows if (record := _record(row))["timestamp"] < window.end]
            table = pa.Table.from_pylist(records, schema=_SCHEMA)
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise LogSourceError(f"{api.name}: a log of {window} is not as PostHog writes them: {error!r}") from error
        aside = place / ".part"
        pq.write_table(table, aside, compression="zstd")
        aside.rename(place / f"part-{parts:06}.parquet")  # a page that was read but not noted is put there again
        parts, held = parts + 1, len(records)
    return replace(state, rows=state.rows + held, parts=parts, after=after if more else None, done=not more)


def _question(window: Window, end: datetime) -> dict[str, Any]:
    # Whether logs of the very end are included over there differs from question to question. So pages are asked for
    # until the end, what lies on it left out, and the counts are ones that enclose them either way.
    name = window.service.decode("utf-8", "replace") if window.service else ""
    asked = name.encode() == window.service  # an empty name, or one that is no UTF-8, cannot be asked for
    return {
        "dateRange": {"date_from": _text(window.start), "date_to": _text(end)},
        "severityLevels": [],
        "serviceNames": [name] if name and asked else [],
    }


def _count(api: Api, window: Window, end: datetime) -> int:
    answer = api.logs("count", _question(window, end))
    if not isinstance(answer.get("count"), int):
        raise LogSourceError(f"{api.name}: an answer of logs/count/ without a count")
    return int(answer["count"])


def _record(row: dict[str, Any]) -> dict[str, Any]:
    resource = _attributes(row.get("resource_attributes"))
    return {
        "timestamp": _time(row["timestamp"]),
        "observed_timestamp": _time(row["observed_timestamp"]),
        "body": row["body"],
        "severity_text": row.get("severity_text") or "",
        "severity_number": int(row.get("severity_number") or 0),
        # Rows name their service among the attributes of their resource only.
        "service_name": row.get("service_name") or resource.get("service.name", ""),
        "resource_attributes": list(resource.items()),
        "attributes": list(_attributes(row.get("attributes")).items()),
    }


def _attributes(value: Any) -> dict[str, str]:
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in (value or {}).items()}


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _stored(place: Path) -> _State | None:
    """How a read stands that was begun before."""
    try:
        return _State(**json.loads((place / "state.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _write(place: Path, state: _State) -> None:
    aside = place / ".state"
    aside.write_text(json.dumps(asdict(state)))
    aside.rename(place / "state.json")
