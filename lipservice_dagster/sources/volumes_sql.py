"""Questions about volumes as ClickHouse SQL: five-minute buckets by team, never a log.

They are asked of a relation with the columns team_id, day, bucket (start of five UTC minutes), service, environment,
severity and logs: PostHog's ``logs_volume_buckets``, the rollup of the embedded store, or, where a server has no
rollup, the logs themselves. A filter always names days, so that files or granules of other days are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lipservice_dagster.sources.sql import ENVIRONMENT, Records

BUCKET = timedelta(minutes=5)
DAY = timedelta(days=1)
COMPARED = ("team_id", "service", "environment", "logs_now", "errors_now", "logs_before", "errors_before")


@dataclass(frozen=True)
class Span:
    """Recent buckets, [start, end) UTC, and the same hours of the ``days`` before.

    The same hours are [start - margin, end + margin), so that what comes a little earlier or later each day is known.
    """

    start: datetime
    end: datetime
    days: int
    margin: timedelta = timedelta(hours=1)

    @classmethod
    def until(cls, now: datetime, minutes: int, delay: timedelta, days: int) -> Span:
        """The last ``minutes`` that are whole buckets and over since ``delay`` (what is still on its way arrives)."""
        seconds = int((now - delay).timestamp())
        end = datetime.fromtimestamp(seconds - seconds % int(BUCKET.total_seconds()), UTC)
        return cls(end - timedelta(minutes=minutes), end, days)

    @property
    def share(self) -> float:
        """The span's length as a share of what is compared of each day."""
        return (self.end - self.start) / (self.end - self.start + 2 * self.margin)


def rollup(table: str) -> Records:
    """The relation over a table with the columns of PostHog's ``logs_volume_buckets``."""
    return Records(
        table,
        "WITH toDate(time_bucket, 'UTC') AS day, time_bucket AS bucket, service_name AS service,"
        " severity_text AS severity, log_count AS logs ",
    )


def from_logs(table: str) -> Records:
    """The relation over PostHog's table of logs, where there is no rollup: slower, and the same answers."""
    return Records(
        table,
        "WITH toDate(time_bucket, 'UTC') AS day, toStartOfFiveMinutes(timestamp, 'UTC') AS bucket,"
        f" service_name AS service, {ENVIRONMENT} AS environment, severity_text AS severity, toUInt64(1) AS logs ",
    )


def latest(relation: Records, since: datetime) -> str:
    """team_id and latest bucket of the teams that have logged since."""
    return (
        f"{relation.computed}SELECT team_id, toDateTime(max(bucket), 'UTC') AS latest FROM {relation.table}"
        f" WHERE day >= {_day(since.date())} AND bucket > {_instant(since - BUCKET)}"
        " GROUP BY team_id ORDER BY team_id"
    )


def by_day(relation: Records, first: date, last: date) -> str:
    """Logs of each team and day, ``first`` to ``last`` both included."""
    return (
        f"{relation.computed}SELECT team_id, day, toInt64(sum(logs)) AS stored FROM {relation.table}"
        f" WHERE day BETWEEN {_day(first)} AND {_day(last)} GROUP BY team_id, day ORDER BY team_id, day"
    )


def ranges(span: Span) -> tuple[list[date], list[tuple[datetime, datetime]]]:
    """The days that a comparison reads, and the hours of each: a range for each, so that those between are not read."""
    latest_end = span.end + span.margin
    width = span.end - span.start + 2 * span.margin
    found = [(span.start, span.end)] + [
        (latest_end - width - back * DAY, latest_end - back * DAY) for back in range(1, span.days + 1)
    ]
    return sorted({edge.date() for start, end in found for edge in (start, end - BUCKET)}), found


def compared(relation: Records, team_ids: Sequence[int], span: Span) -> str:
    """Logs (and of those, errors) in the span, and in the same hours of each of the days before, the nearest first."""
    latest_end = span.end + span.margin
    days, asked = ranges(span)
    hours = " OR ".join(f"bucket >= {_instant(start)} AND bucket < {_instant(end)}" for start, end in asked)
    age = f"(toUnixTimestamp({_instant(latest_end)}) - 1 - toUnixTimestamp(bucket))"
    error = "lower(severity) IN ('error', 'fatal')"
    before = f"sumResample(1, {span.days + 1}, 1)"
    return f"""
        SELECT team_id, service, environment,
            toInt64(sumIf(logs, back = 0)) AS logs_now, toInt64(sumIf(logs, back = 0 AND {error})) AS errors_now,
            {before}(toUInt64(logs), back) AS logs_before,
            {before}(if({error}, toUInt64(logs), 0), back) AS errors_before
        FROM (
            {relation.computed}SELECT team_id, service, environment, severity, logs,
                toUInt8(intDiv({age}, 86400)) AS back
            FROM {relation.table}
            WHERE team_id IN ({", ".join(map(str, sorted(team_ids)))}) AND day IN ({", ".join(map(_day, days))})
                AND ({hours}))
        GROUP BY team_id, service, environment
        ORDER BY team_id, service, environment"""


def _day(day: date) -> str:
    return f"toDate('{day.isoformat()}')"


def _instant(at: datetime) -> str:
    return f"toDateTime('{at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S')}', 'UTC')"
