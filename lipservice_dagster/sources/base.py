"""The questions that LipService asks of a store of logs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol

import pandas as pd

from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster.team_day import Bounds, TeamDay


class LogSourceError(Exception):
    """The log store could not be asked or refused; the message says what, where and what to do."""


class LogSourceRefusedError(LogSourceError):
    """The log store refused a question and would again: a wrong password, a table that is not there, no permission."""


class LogSource(Protocol):
    """Where logs come from. Every answer is made of groups and counts, never of rows."""

    def ping(self) -> str:
        """The store's name and version; raises LogSourceError where it does not answer."""
        ...

    def latest_logs(self, since: datetime) -> dict[int, datetime]:
        """The teams that have logged at or after ``since``, each with the start of its latest five minutes."""
        ...

    def day_volumes(self, first: date, last: date) -> dict[TeamDay, int]:
        """Stored logs of each team-day of these days (both included), from the five-minute volumes; without logs none.

        Cheap and not verified: what is made of a team-day is counted by `counts`.
        """
        ...

    def compared_volumes(self, team_ids: Sequence[int], span: Span) -> pd.DataFrame:
        """Logs of a span beside the same hours of the days before, from the five-minute volumes, in one query.

        Columns team_id, service, environment, logs_now, errors_now, logs_before, errors_before (arrays of ``span.days``
        counts, the day before first); sorted by the first three.
        """
        ...

    def counts(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """An independent count: columns team_id, day, logs, bytes; a team-day without logs has no row."""
        ...

    def groups(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """The logs of these team-days as rows of `core.frames.RAW_LOGS`, sorted by their key."""
        ...
