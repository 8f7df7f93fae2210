"""The questions that LipService asks of a store of logs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import pandas as pd

from lipservice_dagster.partitions import Bounds, TeamDay


class LogSourceError(Exception):
    """The log store could not be asked or refused; the message says what, where and what to do."""


class LogSource(Protocol):
    """Where logs come from. Every answer is made of groups and counts, never of rows."""

    def ping(self) -> str:
        """The store's name and version; raises LogSourceError where it does not answer."""
        ...

    def teams(self, since: datetime) -> list[int]:
        """Teams with a log at or after ``since``, ascending."""
        ...

    def volumes(self, team_ids: Sequence[int], start: datetime, end: datetime) -> pd.DataFrame:
        """Logs in five-minute buckets of [start, end).

        Columns team_id, time_bucket (UTC), service, environment, severity, logs; sorted by them.
        """
        ...

    def counts(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """An independent count: columns team_id, day, logs, bytes; a team-day without logs has no row."""
        ...

    def groups(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """The logs of these team-days as rows of `core.frames.RAW_LOGS`, sorted by their key."""
        ...
