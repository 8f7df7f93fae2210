"""Small log tables for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from lipservice_dagster.local.log_store import LOGS_SCHEMA, LogWriter

DAY = date(2026, 9, 1)


def at(hour: float, day: date = DAY) -> datetime:
    """An instant of a day, by its hour."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def log(body: bytes | str, **columns: Any) -> dict[str, Any]:
    """A log record; columns that are not given have plain values."""
    timestamp = columns.pop("timestamp", at(10))
    return {
        "timestamp": timestamp,
        "observed_timestamp": columns.pop("observed_timestamp", timestamp),
        "uuid": "",
        "trace_id": b"",
        "span_id": b"",
        "body": body.encode() if isinstance(body, str) else body,
        "severity_text": columns.pop("severity", "info"),
        "severity_number": columns.pop("severity_number", 0),
        "service_name": columns.pop("service", b"shop"),
        "resource_attributes": _map(columns.pop("resource", {})),
        "attributes": _map(columns.pop("attributes", {})),
        "event_name": "",
    } | columns


def store(root: Path, logs: Mapping[int, Sequence[dict[str, Any]]]) -> Path:
    """A log store with these records by team."""
    with LogWriter(root) as writer:
        for team_id, records in logs.items():
            writer.add(team_id, pa.Table.from_pylist(list(records), schema=LOGS_SCHEMA))
    return root


def _map(values: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(k.encode(), v.encode()) for k, v in values.items()]
