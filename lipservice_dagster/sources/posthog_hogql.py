"""The questions in HogQL, PostHog's SQL, over its table ``logs`` of one project.

HogQL is ClickHouse's SQL with a list of permitted functions, types of its own and the project's time zone put around
each time. So these texts use only functions that are on that list, read maps by their keys and values, write instants
with their zone, and bring times back as text and octets as base64: JSON carries neither microseconds nor any octets.
HogQL adds the team's filter itself; without LIMIT it answers a hundred rows.

What comes back is what `sql.masked` makes, a part for each window of the day; `sql.rows_of` makes rows of all of them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from lipservice_dagster.core.frames import SEVERITIES
from lipservice_dagster.sources.sql import NAME_CHARACTERS
from lipservice_dagster.sources.volumes_sql import BUCKET, Span, ranges
from lipservice_sampler.clickhouse import fold_sql, mask_sql, repair_sql, string_literal
from lipservice_sampler.decision import SEVERITY_NAMES
from lipservice_sampler.records import LEAST_RATE, MICRO, NUMBER, RATE_KEYS, THRESHOLD
from lipservice_sampler.text import MAX_CHARS

LIMIT = 50_000
"""Rows that PostHog answers at most."""

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """Hours of a UTC day, [first, last) of 0 to 24, of all services or of one (its name as stored)."""

    day: date
    first: int
    last: int
    service: bytes | None = None

    def halves(self) -> list[Window]:
        """The two halves; of a single hour, itself."""
        middle = (self.first + self.last) // 2
        parts = [(self.first, middle), (middle, self.last)] if middle > self.first else [(self.first, self.last)]
        return [replace(self, first=first, last=last) for first, last in parts]

    @property
    def start(self) -> datetime:
        """Its first instant."""
        return _midnight(self.day) + timedelta(hours=self.first)

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return _midnight(self.day) + timedelta(hours=self.last)

    def __str__(self) -> str:
        name = "" if self.service is None else f" of {self.service.decode('utf-8', 'replace') or '(no service)'}"
        return f"{self.day}, {self.first:02}:00 to {self.last:02}:00{name}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _instant(at: datetime) -> str:
    return f"toDateTime64('{at.strftime('%Y-%m-%d %H:%M:%S.%f')}', 6, 'UTC')"


def _of_days(days: Sequence[date]) -> str:
    # IN takes no instants of microseconds for a column of seconds.
    return "(" + " OR ".join(f"time_bucket = {_instant(_midnight(d))}" for d in days) + ")"


def _value(column: str, key: str) -> str:
    return f"arrayElement(mapValues({column}), indexOf(mapKeys({column}), '{key}'))"


def _has(column: str, key: str) -> str:
    return f"has(mapKeys({column}), '{key}')"


_ENVIRONMENT_KEYS = ("deployment.environment.name", "deployment.environment")
_ENVIRONMENT = (
    "multiIf("
    + "".join(f"{_has('resource_attributes', k)}, {_value('resource_attributes', k)}, " for k in _ENVIRONMENT_KEYS)
    + f"{_value('resource_attributes', 'environment')})"
)
_BYTES = "length(body)" + "".join(
    f" + arraySum(x -> length(x), {part}({column}))"
    for column in ("attributes", "resource_attributes")
    for part in ("mapKeys", "mapValues")
)
_STAMPED = " OR ".join(_has("attributes", key) for key in RATE_KEYS)
_STAMP_BYTES = (
    f"if(NOT ({_STAMPED}), 0, "
    + " + ".join(
        f"if({_has('attributes', key)}, {len(key)} + length({_value('attributes', key)}), 0)" for key in RATE_KEYS
    )
    + ")"
)
_SECONDS = "toUnixTimestamp(timestamp)"
_HOUR = f"modulo(intDiv({_SECONDS}, 3600), 24)"


def _severity() -> str:
    words = ", ".join(f"'{word}'" for word in SEVERITY_NAMES)
    places = ", ".join(str(SEVERITIES.index(name)) for name in SEVERITY_NAMES.values())
    unknown = len(SEVERITIES)
    by_text = f"transform(lower(trim(severity_text)), [{words}], [{places}], {unknown})"
    by_number = (
        f"if(severity_number >= 1 AND severity_number <= 24, intDiv(severity_number - 1, 4),"
        f" {SEVERITIES.index('info')})"
    )
    return f"if({by_text} < {unknown}, {by_text}, {by_number})"


def _micro_weight() -> str:
    def value(key: str) -> str:
        quotes = string_literal('^"+|"+$')
        return f"replaceRegexpAll({_value('attributes', key)}, {quotes}, '')"

    def number(key: str) -> str:
        return f"if(match({value(key)}, {string_literal(f'^{NUMBER}$')}), toFloatOrZero({value(key)}), 0)"

    own, threshold, vector = RATE_KEYS
    fraction = f"reinterpretAsUInt64(reverse(unhex(rightPad({value(threshold)}, 16, '0')))) / pow(2, 64)"
    weight = (
        f"multiIf({number(own)} > 0 AND {number(own)} <= 1, 1 / greatest({number(own)}, {LEAST_RATE}),"
        f" match({value(threshold)}, {string_literal(f'^{THRESHOLD}$')}), 1 / greatest(1 - {fraction}, {LEAST_RATE}),"
        f" {number(vector)} > 1, least({number(vector)}, 1 / {LEAST_RATE}),"
        f" {number(vector)} > 0, 1 / greatest({number(vector)}, {LEAST_RATE}), 1)"
    )
    return f"if(NOT ({_STAMPED}), {MICRO}, _toInt64(round({MICRO} * {weight})))"


def where(window: Window, as_of: datetime) -> str:
    """The filter for a window of a day, of what has been observed until ``as_of``."""
    clauses = [
        f"time_bucket = {_instant(_midnight(window.day))}",
        f"timestamp >= {_instant(window.start)}",
        f"timestamp < {_instant(window.end)}",
        f"observed_timestamp <= {_instant(as_of)}",
    ]
    if window.service is not None:
        clauses.append(f"service_name = base64Decode('{b64encode(window.service).decode()}')")
    return " AND ".join(clauses)


def groups(window: Window, as_of: datetime) -> str:
    """Groups of a window as `sql.masked` makes them.

    Columns: place of the severity, service, environment, masked message, logs, bytes, weighted bytes, hours (an array
    of hours and one of their weights), first and last time as UTC text, least body as base64.
    """
    beginning = f"if(length(body) <= {4 * MAX_CHARS}, body, {repair_sql('body')})"
    folded = f"""
        SELECT {_severity()} AS severity_, service_name AS service_, {_ENVIRONMENT} AS environment_,
            {fold_sql(beginning)} AS folded, count() AS logs_, sum({_BYTES}) AS bytes_,
            sumMap([{_HOUR}], [{_micro_weight()}]) AS hours_,
            sum(_toInt64(round(({_BYTES} - ({_STAMP_BYTES})) * ({_micro_weight()} / {MICRO})))) AS weighted_bytes_,
            min(timestamp) AS first_, max(timestamp) AS last_, min({beginning}) AS example_
        FROM logs WHERE {where(window, as_of)}
        GROUP BY severity_, service_, environment_, folded"""
    return f"""
        SELECT severity_ AS severity, substringUTF8({repair_sql("service_")}, 1, {NAME_CHARACTERS}) AS service,
            substringUTF8({repair_sql("environment_")}, 1, {NAME_CHARACTERS}) AS environment,
            {mask_sql(repair_sql("folded"))} AS text_of, sum(logs_) AS logs_of, sum(bytes_) AS bytes_of,
            sum(weighted_bytes_) AS weighted_bytes_of, sumMap(hours_) AS hours_of,
            toString(toTimeZone(min(first_), 'UTC')) AS first_of, toString(toTimeZone(max(last_), 'UTC')) AS last_of,
            base64Encode(min(example_)) AS example_of
        FROM ({folded})
        GROUP BY severity, service, environment, text_of
        LIMIT {LIMIT}"""


def counts(days: Sequence[date], open_until: datetime, as_of: datetime) -> str:
    """Days since 1970, logs and bytes of each of these days (one at least)."""
    first, last = min(days), max(days)
    end = min(_midnight(last) + _DAY, open_until)
    return (
        f"SELECT intDiv({_SECONDS}, 86400) AS day_, count() AS logs_, sum({_BYTES}) AS bytes_ FROM logs"
        f" WHERE {_of_days(sorted(set(days)))}"
        f" AND timestamp >= {_instant(_midnight(first))} AND timestamp < {_instant(end)}"
        f" AND observed_timestamp <= {_instant(as_of)} GROUP BY day_ ORDER BY day_ LIMIT {LIMIT}"
    )


def count(window: Window, as_of: datetime) -> str:
    """Logs and bytes of a window."""
    return f"SELECT count() AS logs_, sum({_BYTES}) AS bytes_ FROM logs WHERE {where(window, as_of)} LIMIT 1"


def services(window: Window, as_of: datetime) -> str:
    """The services of a window, names as base64, with their logs."""
    return (
        f"SELECT base64Encode(service_name) AS service_, count() AS logs_ FROM logs WHERE {where(window, as_of)}"
        f" GROUP BY service_ ORDER BY logs_ DESC, service_ LIMIT {LIMIT}"
    )


def latest(since: datetime) -> str:
    """Logs from the five minutes of ``since`` on, and the second of the latest."""
    length = int(BUCKET.total_seconds())
    seconds = -(-int((since - BUCKET).timestamp() + 1) // length) * length  # the first bucket after since - BUCKET
    start = datetime.fromtimestamp(seconds, UTC)
    return (
        f"SELECT count() AS logs_, max({_SECONDS}) AS latest_ FROM logs"
        f" WHERE time_bucket >= {_instant(_midnight(start.date()))} AND timestamp >= {_instant(start)} LIMIT 1"
    )


def by_day(first: date, last: date) -> str:
    """Days since 1970 and logs of each day, ``first`` to ``last`` both included."""
    return (
        f"SELECT intDiv({_SECONDS}, 86400) AS day_, count() AS logs_ FROM logs"
        f" WHERE time_bucket >= {_instant(_midnight(first))} AND time_bucket <= {_instant(_midnight(last))}"
        f" AND timestamp >= {_instant(_midnight(first))} AND timestamp < {_instant(_midnight(last) + _DAY)}"
        f" GROUP BY day_ ORDER BY day_ LIMIT {LIMIT}"
    )


def compared(span: Span) -> str:
    """Service and environment (base64), days back, logs and errors; see `volumes_sql.compared`."""
    days, hours = ranges(span)
    latest_end = int((span.end + span.margin).timestamp())
    between = " OR ".join(f"(timestamp >= {_instant(start)} AND timestamp < {_instant(end)})" for start, end in hours)
    error = "lower(severity_text) IN ('error', 'fatal')"
    return (
        f"SELECT base64Encode(service_name) AS service_, base64Encode({_ENVIRONMENT}) AS environment_,"
        f" intDiv({latest_end} - 1 - {_SECONDS}, 86400) AS back_, count() AS logs_, countIf({error}) AS errors_"
        f" FROM logs WHERE {_of_days(days)} AND ({between})"
        f" GROUP BY service_, environment_, back_ ORDER BY service_, environment_, back_ LIMIT {LIMIT}"
    )
