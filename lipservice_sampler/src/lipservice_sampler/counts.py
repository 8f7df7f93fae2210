"""What was seen and kept: tallies by pattern, severity and hour, and the batches they are reported in.

Memory is bounded everywhere: beyond so many rows, further patterns are counted together in a rest; beyond so many
batches that could not be delivered, the oldest is given up, and how many logs it spoke of is told.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .rules import Cell

HOUR = 3600.0
MOST_ROWS = 20_000
MOST_UNKNOWN = 20_000
ROWS_A_BATCH = 500
MOST_BATCHES = 120
REST = "(rest: messages beyond the cap)"
"""The message that stands for all those beyond `MOST_ROWS`."""

_BUCKETS = 4096

Key = tuple[str | None, str | None, str]
"""Signature, or the masked message where the policy lists none; severity."""


class Tallies:
    """Logs and octets by pattern, severity and hour under one label (version and mode of a policy).

    Not safe for threads: who counts holds a lock.
    """

    def __init__(self) -> None:
        self.label: tuple[str, str] | None = None
        self.start, self.end = 0.0, 0.0
        self.span = object()
        """Another as soon as what `of` gave is no longer counted in."""
        self._hour: dict[Key, list[int]] = {}
        self._closed: dict[tuple[tuple[str, str], float, Key], list[int]] = {}
        self._first: dict[tuple[str, int], int] = {}
        self._unknown_hour = -1.0

    def turn(self, label: tuple[str, str], now: float) -> None:
        """Count under this label and in the hour of this time from here on."""
        self._close()
        self.label = label
        self.start = now // HOUR * HOUR
        self.end = self.start + HOUR
        if self.start != self._unknown_hour:
            self._unknown_hour = self.start
            self._first.clear()

    def of(self, key: Key) -> list[int]:
        """Logs seen, logs kept, octets seen, octets kept, to be added to."""
        tally = self._hour.get(key)
        if tally is None:
            if len(self._hour) + len(self._closed) >= MOST_ROWS:
                key = (None, REST, key[2])
            tally = self._hour.setdefault(key, [0, 0, 0, 0])
        return tally

    def is_first(self, cell: Cell) -> bool:
        """Whether a log is among the first of its unknown pattern in this hour; it is counted then."""
        key = cell.counted
        seen = self._first.get(key)
        if seen is None:
            if len(self._first) >= MOST_UNKNOWN:
                key = ("", key[1] % _BUCKETS)
            seen = self._first.get(key, 0)
        if seen >= cell.limit:
            return False
        self._first[key] = seen + 1
        return True

    def drain(self) -> dict[tuple[tuple[str, str], float, Key], list[int]]:
        """All tallies by label, start of the hour and key; counting begins anew."""
        self._close()
        closed, self._closed = self._closed, {}
        return closed

    def _close(self) -> None:
        hour, self._hour = self._hour, {}
        self.span = object()
        for key, tally in hour.items():
            if self.label is not None:
                known = self._closed.setdefault((self.label, self.start, key), [0, 0, 0, 0])
                known[:] = [a + b for a, b in zip(known, tally, strict=True)]


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Batch:
    """One report; ``body`` is its JSON, which holds its id, so that sending it twice counts once."""

    id: str
    logs: int
    body: bytes


@dataclass
class Outbox:
    """Batches on their way, oldest first, and how many logs were counted in those delivered and given up."""

    batches: deque[Batch] = field(default_factory=deque)
    delivered: int = 0
    lost: int = 0

    def add(
        self,
        tallies: Mapping[tuple[tuple[str, str], float, Key], list[int]],
        scope: Mapping[str, Any],
        start: float,
        end: float,
    ) -> int:
        """Put tallies into batches; returns the logs of older batches given up for them."""
        by_label: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for (label, hour, (signature, message, severity)), (seen, kept, octets, octets_kept) in tallies.items():
            row = {
                "signature": signature,
                "message": message,
                "severity": severity,
                "hour": moment(hour).replace(".000Z", "Z"),
                "seen": seen,
                "kept": kept,
                "bytes_seen": octets,
                "bytes_kept": octets_kept,
            }
            by_label.setdefault(label, []).append(row)
        for (version, mode), rows in by_label.items():
            for i in range(0, len(rows), ROWS_A_BATCH):
                part = rows[i : i + ROWS_A_BATCH]
                name = str(uuid.uuid4())
                body = {
                    "batch_id": name,
                    **scope,
                    "policy_version": version,
                    "mode": mode,
                    "from": moment(start),
                    "to": moment(end),
                    "patterns": part,
                }
                self.batches.append(Batch(name, sum(row["seen"] for row in part), json.dumps(body).encode()))
        given_up = 0
        while len(self.batches) > MOST_BATCHES:
            given_up += self.batches.popleft().logs
        self.lost += given_up
        return given_up

    @property
    def waiting(self) -> int:
        """Logs whose counts are not delivered yet."""
        return sum(batch.logs for batch in list(self.batches))
