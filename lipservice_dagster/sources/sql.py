"""The questions as ClickHouse SQL over one relation with PostHog's columns.

The same text runs on a server or cluster and in the embedded engine, where the relation is a view over Parquet files.
A filter always names the team, the day's ``time_bucket`` and the ``timestamp``: with PostHog's sorting key (and with
the folders of the embedded store) exactly the team-days asked for are read.

Sums that become part of a result are sums of integers: millionths of a log for weights, whole bytes. Floating sums
would depend on the order in which threads deliver rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from lipservice_dagster.core.frames import REST_ID, REST_MESSAGE, SEVERITIES
from lipservice_dagster.team_day import Bounds, TeamDay, is_product
from lipservice_sampler.clickhouse import fold_sql, mask_sql, repair_sql, string_literal
from lipservice_sampler.decision import SEVERITY_NAMES
from lipservice_sampler.records import LEAST_RATE, MICRO, NUMBER, RATE_KEYS, THRESHOLD
from lipservice_sampler.text import MAX_CHARS

EXAMPLE_CHARACTERS = 500
NAME_CHARACTERS = 200
"""Services and environments are keys of tables, and PostgreSQL's index rows end at 2.7 kB."""
ENVIRONMENT = (
    "multiIf(mapContains(resource_attributes, 'deployment.environment.name'),"
    " resource_attributes['deployment.environment.name'],"
    " mapContains(resource_attributes, 'deployment.environment'), resource_attributes['deployment.environment'],"
    " resource_attributes['environment'])"
)

# Contract: octets of body and attributes as stored; a body alone understates the bill.
BYTES = "length(body)" + "".join(
    f" + arraySum(x -> length(x), {part}({column}))"
    for column in ("attributes", "resource_attributes")
    for part in ("mapKeys", "mapValues")
)


def severity_sql() -> str:
    """The place in `SEVERITIES` of `records.severity`."""
    words = ", ".join(f"'{word}'" for word in SEVERITY_NAMES)
    places = ", ".join(str(SEVERITIES.index(name)) for name in SEVERITY_NAMES.values())
    by_number = f"if(severity_number BETWEEN 1 AND 24, intDiv(severity_number - 1, 4), {SEVERITIES.index('info')})"
    by_text = f"transform(lower(trimBoth(severity_text)), [{words}], [{places}], {len(SEVERITIES)})"
    return f"if(({by_text} AS by_text) < {len(SEVERITIES)}, by_text, {by_number})"


_STAMPED = " OR ".join(f"mapContains(attributes, '{key}')" for key in RATE_KEYS)

# Octets that a sampler added when it stamped what it kept: they are stored, and were not there before sampling.
STAMP_BYTES = (
    f"multiIf(empty(attributes), 0, NOT ({_STAMPED}), 0, "
    + " + ".join(
        f"if(mapContains(attributes, '{key}'), {len(key)} + length(attributes['{key}']), 0)" for key in RATE_KEYS
    )
    + ")"
)


def micro_weight_sql() -> str:
    """`records.micro_weight` of the column ``attributes``."""

    def value(key: str) -> str:
        return f"trim(BOTH '\"' FROM attributes['{key}'])"

    def number(key: str) -> str:
        return f"if(match({value(key)}, {string_literal(f'^{NUMBER}$')}), toFloat64OrZero({value(key)}), 0)"

    own, threshold, vector = RATE_KEYS
    # rightPad to 16 digits and 2⁶⁴ is the same fraction as 14 digits and 2⁵⁶, and fills whole bytes.
    fraction = f"reinterpretAsUInt64(reverse(unhex(rightPad({value(threshold)}, 16, '0')))) / pow(2, 64)"
    weight = (
        f"multiIf(({number(own)} AS own_rate) > 0 AND own_rate <= 1, 1 / greatest(own_rate, {LEAST_RATE}),"
        f" match({value(threshold)}, {string_literal(f'^{THRESHOLD}$')}), 1 / greatest(1 - {fraction}, {LEAST_RATE}),"
        f" ({number(vector)} AS vector_rate) > 1, least(vector_rate, 1 / {LEAST_RATE}),"
        f" vector_rate > 0, 1 / greatest(vector_rate, {LEAST_RATE}), 1)"
    )
    # Branches run on the rows that reach them only: logs without attributes, and without these, cost next to nothing.
    return f"multiIf(empty(attributes), {MICRO}, NOT ({_STAMPED}), {MICRO}, toUInt64(round({MICRO} * {weight})))"


_ZONE = "'UTC'"


def _day(day: date) -> str:
    return f"'{day.isoformat()}'"


def instant(at: datetime) -> str:
    """An instant as SQL."""
    return f"toDateTime64('{at.strftime('%Y-%m-%d %H:%M:%S.%f')}', 6, 'UTC')"


def where(team_days: Sequence[TeamDay], bounds: Bounds) -> str:
    """The filter for these team-days (one at least), with the bounds on what has been observed."""
    teams = sorted({d.team_id for d in team_days})
    days = sorted({d.day for d in team_days})
    end = min(datetime.combine(days[-1] + timedelta(days=1), time(), UTC), bounds.open_until)
    clauses = [
        f"team_id IN ({', '.join(map(str, teams))})",
        f"time_bucket IN ({', '.join(f'toDateTime({_day(d)}, {_ZONE})' for d in days)})",
        f"timestamp >= toDateTime64({_day(days[0])}, 6, 'UTC')",
        f"timestamp < {instant(end)}",
        f"observed_timestamp <= {instant(bounds.as_of)}",
    ]
    if not is_product(team_days):
        pairs = ", ".join(f"({d.team_id}, {_day(d.day)})" for d in sorted(team_days))
        clauses.append(f"(team_id, toDate(timestamp, 'UTC')) IN ({pairs})")
    return " AND ".join(clauses)


@dataclass(frozen=True)
class Records:
    """What stands behind FROM, and ``computed``, a WITH clause of what is read off its columns.

    The columns that are asked for are PostHog's and environment, severity (a place in `SEVERITIES`), weight (millionths
    of a log), bytes and stamp_bytes (those that a sampler's stamp has). They are no subquery: over a Distributed table,
    what is grouped and filtered in the same SELECT is so on the shards, while the rows of a subquery would all travel.
    """

    table: str
    computed: str = ""


def records(table: str) -> Records:
    """The logs of a table with PostHog's columns."""
    return Records(
        table,
        f"WITH {ENVIRONMENT} AS environment, {severity_sql()} AS severity, {micro_weight_sql()} AS weight,"
        f" {BYTES} AS bytes, {STAMP_BYTES} AS stamp_bytes ",
    )


def counts(logs: Records, team_days: Sequence[TeamDay], bounds: Bounds) -> str:
    """Logs and bytes of each team-day, counted on their own."""
    return counted(logs, where(team_days, bounds))


def counted(logs: Records, condition: str) -> str:
    """Logs and bytes of each team-day under a condition."""
    return (
        f"{logs.computed}SELECT team_id, toDate(timestamp, 'UTC') AS day, toInt64(count()) AS logs_,"
        f" toInt64(sum(bytes)) AS bytes_ FROM {logs.table} WHERE {condition}"
        " GROUP BY team_id, day ORDER BY team_id, day"
    )


# Team, day since 1970 and severity in one number: each further key of a GROUP BY costs as much as a pass of its own.
_SEVERITY_BITS, _DAY_BITS = 3, 29
_HOUR = "intDiv(toUnixTimestamp64Micro(timestamp), 3600000000)"
_PACKED = (
    f"bitOr(bitShiftLeft(toUInt64(team_id), {_SEVERITY_BITS + _DAY_BITS}),"
    f" bitOr(bitShiftLeft(toUInt64(intDiv(({_HOUR} AS hour_), 24)), {_SEVERITY_BITS}), toUInt64(severity)))"
)
_TEAM_DAY = f"bitShiftRight(packed, {_SEVERITY_BITS})"


def groups(logs: Records, team_days: Sequence[TeamDay], bounds: Bounds, max_messages: int) -> str:
    """The rows of raw_logs of these team-days, over logs as `records` says them."""
    return rows_of(masked(logs, where(team_days, bounds)), max_messages)


def masked(logs: Records, condition: str) -> str:
    """The logs under a condition as groups by packed team, day and severity, service, environment and masked message.

    An exact, cheap key first (the body with its digits folded, which no mask can tell apart), then repair and masks on
    one member of each group; repair and folding commute. Hours are no key but 24 sums of a group: as a key they would
    make many times the groups.
    """
    # Of a very long body only its beginning is masked, and it is cut before it becomes a key.
    key = f"(if(length(body) <= {4 * MAX_CHARS}, body, {repair_sql('body')}) AS beginning)"
    folded = f"""
        {logs.computed}SELECT {_PACKED} AS packed, service_name AS service_,
            environment AS environment_, {fold_sql(key)} AS folded,
            count() AS logs_, sum(bytes) AS bytes_,
            sumResample(0, 24, 1)(weight, toUInt8(hour_ % 24)) AS hours_,
            sum(toUInt64(round((bytes - stamp_bytes) * (weight / {MICRO})))) AS weighted_bytes_,
            min(timestamp) AS first_, max(timestamp) AS last_,
            min(beginning) AS example_
        FROM {logs.table} WHERE {condition}
        GROUP BY packed, service_, environment_, folded"""
    return f"""
        SELECT packed, substringUTF8({repair_sql("service_")}, 1, {NAME_CHARACTERS}) AS service,
            substringUTF8({repair_sql("environment_")}, 1, {NAME_CHARACTERS}) AS environment,
            {mask_sql(repair_sql("folded"))} AS text_of,
            sum(logs_) AS logs_of, sum(bytes_) AS bytes_of, sum(weighted_bytes_) AS weighted_bytes_of,
            sumForEach(hours_) AS hours_of, min(first_) AS first_of, max(last_) AS last_of, min(example_) AS example_of
        FROM ({folded}) GROUP BY packed, service, environment, text_of"""


def packed(team_id: int, day: date, severity: int) -> int:
    """What `masked` calls so, of a team, a day and the place of a severity in `SEVERITIES`."""
    days = (day - date(1970, 1, 1)).days
    return team_id << (_SEVERITY_BITS + _DAY_BITS) | days << _SEVERITY_BITS | severity


def rows_of(masked: str, max_messages: int) -> str:
    """The rows of raw_logs of groups as `masked` says them, of which several may be parts of one.

    The messages of a team-day beyond ``max_messages`` (those with the fewest logs) become one rest-row a (service,
    environment, severity), with exact counts.
    """
    names = ", ".join(f"'{s}'" for s in SEVERITIES)
    # Messages are ranked by their logs over all services and severities of the team-day, ties by text.
    ranked = f"""
        SELECT *, dense_rank() OVER (PARTITION BY team_day ORDER BY message_logs DESC, text_of) > {max_messages} AS rest
        FROM (
            SELECT *, {_TEAM_DAY} AS team_day, sum(logs_of) OVER (PARTITION BY team_day, text_of) AS message_logs
            FROM ({masked}))"""
    return f"""
        SELECT toInt32(bitShiftRight(packed, {_SEVERITY_BITS + _DAY_BITS})) AS team_id,
            toDate(bitAnd({_TEAM_DAY}, {2**_DAY_BITS - 1})) AS day, service, environment,
            [{names}][bitAnd(packed, {2**_SEVERITY_BITS - 1}) + 1] AS severity,
            if(rest, '{REST_ID}', lower(hex(substring(SHA256(text_of), 1, 8)))) AS message_id,
            if(rest, '{REST_MESSAGE}', text_of) AS message,
            toInt64(sum(logs_of)) AS logs, toInt64(sum(bytes_of)) AS bytes,
            sum(arraySum(hours_of)) / {MICRO} AS weighted_logs, toFloat64(sum(weighted_bytes_of)) AS weighted_bytes,
            arrayMap(x -> x / {MICRO}, sumForEach(hours_of)) AS hours,
            min(first_of) AS first_seen, max(last_of) AS last_seen,
            substringUTF8({repair_sql("min(example_of)")}, 1, {EXAMPLE_CHARACTERS}) AS example
        FROM ({ranked})
        GROUP BY packed, service, environment, message_id, message
        ORDER BY team_id, day, service, environment, severity, message_id"""
