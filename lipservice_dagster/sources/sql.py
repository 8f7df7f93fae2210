"""The questions as ClickHouse SQL over one relation with PostHog's columns.

The same text runs on a server or cluster and in the embedded engine, where the relation is a view over Parquet files.
A filter always names the team, the day's ``time_bucket`` and the ``timestamp``: with PostHog's sorting key (and with
the folders of the embedded store) exactly the team-days asked for are read.

Sums that become part of a result are sums of integers: millionths of a log for weights, whole bytes. Floating sums
would depend on the order in which threads deliver rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from lipservice_dagster.core.frames import REST_ID, REST_MESSAGE, SEVERITIES
from lipservice_dagster.partitions import Bounds, TeamDay, is_product
from lipservice_sampler.clickhouse import mask_sql, repair_sql

EXAMPLE_CHARACTERS = 500
NAME_CHARACTERS = 200
"""Services and environments are keys of tables, and PostgreSQL's index rows end at 2.7 kB."""
MICRO = 1_000_000
LEAST_RATE = 1e-6
"""A log that claims a smaller probability is taken to be kept with this one: no sampler goes as low."""

# PostHog's six, the names other emitters use for them, and the first OTLP number of each.
_SEVERITY_WORDS = {
    "trace": ("trace",),
    "debug": ("debug", "fine", "verbose"),
    "info": ("info", "information", "informational", "notice"),
    "warn": ("warn", "warning"),
    "error": ("error", "err", "severe"),
    "fatal": ("fatal", "critical", "crit", "alert", "emerg", "emergency", "panic"),
}

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
    """A severity of `SEVERITIES`: by its text, else by its OTLP number, else ``info``."""
    branches = []
    for severity, words in _SEVERITY_WORDS.items():
        branches.append(f"lower(severity_text) IN ({', '.join(repr(w) for w in words)}), '{severity}'")
    for i, severity in enumerate(SEVERITIES):
        branches.append(f"severity_number BETWEEN {4 * i + 1} AND {4 * i + 4}, '{severity}'")
    return f"multiIf({', '.join(branches)}, 'info')"


def micro_weight_sql() -> str:
    """How many logs a kept one stands for, in millionths: 10⁶ / p, with p as the sampler stamped it.

    ``lipservice.sample_rate`` is p; OTel's ``sampling.threshold`` t means p = 1 − t/2⁵⁶ (t padded right to 14 hex
    digits); Vector's ``sample_rate`` is p up to 1 and "one in N" above. Values that cannot be read weigh 1. Values may
    stand in the quotes of their JSON encoding.
    """

    def number(key: str) -> str:
        return f"toFloat64OrZero(trim(BOTH '\"' FROM attributes['{key}']))"

    threshold = "trim(BOTH '\"' FROM attributes['sampling.threshold'])"
    # rightPad to 16 digits and 2⁶⁴ is the same fraction as 14 digits and 2⁵⁶, and fills whole bytes.
    fraction = f"reinterpretAsUInt64(reverse(unhex(rightPad({threshold}, 16, '0')))) / pow(2, 64)"
    own, vector = number("lipservice.sample_rate"), number("sample_rate")
    weight = (
        f"multiIf({own} > 0 AND {own} <= 1, 1 / greatest({own}, {LEAST_RATE}),"
        f" match({threshold}, '^[0-9a-fA-F]{{1,14}}$'), 1 / greatest(1 - {fraction}, {LEAST_RATE}),"
        f" {vector} > 1, least({vector}, 1 / {LEAST_RATE}), {vector} > 0, 1 / greatest({vector}, {LEAST_RATE}), 1)"
    )
    stamped = " OR ".join(
        f"mapContains(attributes, '{key}')" for key in ("lipservice.sample_rate", "sampling.threshold", "sample_rate")
    )
    return f"if({stamped}, toUInt64(round({MICRO} * {weight})), {MICRO})"


def _day(day: date) -> str:
    return f"'{day.isoformat()}'"


def _instant(at: datetime) -> str:
    return f"toDateTime64('{at.strftime('%Y-%m-%d %H:%M:%S.%f')}', 6, 'UTC')"


def where(team_days: Sequence[TeamDay], bounds: Bounds) -> str:
    """The filter for these team-days (one at least), with the bounds on what has been observed."""
    teams = sorted({d.team_id for d in team_days})
    days = sorted({d.day for d in team_days})
    clauses = [
        f"team_id IN ({', '.join(map(str, teams))})",
        f"toDate(time_bucket, 'UTC') IN ({', '.join(map(_day, days))})",
        f"time_bucket >= toDateTime({_day(days[0])}, 'UTC')",
        f"time_bucket <= toDateTime({_day(days[-1])}, 'UTC')",
        f"timestamp >= toDateTime64({_day(days[0])}, 6, 'UTC')",
        f"timestamp < toDateTime64({_day(days[-1] + timedelta(days=1))}, 6, 'UTC')",
        f"timestamp < {_instant(bounds.open_until)}",
        f"observed_timestamp <= {_instant(bounds.as_of)}",
    ]
    if not is_product(team_days):
        pairs = ", ".join(f"({d.team_id}, {_day(d.day)})" for d in sorted(team_days))
        clauses.append(f"(team_id, toDate(timestamp, 'UTC')) IN ({pairs})")
    return " AND ".join(clauses)


def counts(relation: str, team_days: Sequence[TeamDay], bounds: Bounds) -> str:
    """Logs and bytes of each team-day, counted on their own."""
    return (
        f"SELECT team_id, toDate(timestamp, 'UTC') AS day, toInt64(count()) AS logs, toInt64(sum({BYTES})) AS bytes"
        f" FROM {relation} WHERE {where(team_days, bounds)} GROUP BY team_id, day ORDER BY team_id, day"
    )


def groups(relation: str, team_days: Sequence[TeamDay], bounds: Bounds, max_messages: int) -> str:
    """The rows of raw_logs of these team-days.

    Two levels: an exact, cheap key first (the body with its digits folded, which no mask can tell apart), then the
    masks on one member of each group. The messages of a team-day beyond ``max_messages`` (those with the fewest logs)
    become one rest-row a (service, environment, severity), with exact counts.
    """
    body = repair_sql("body")
    folded = f"""
        SELECT team_id, toDate(timestamp, 'UTC') AS day,
            substringUTF8({repair_sql("service_name")}, 1, {NAME_CHARACTERS}) AS service,
            substringUTF8({repair_sql(ENVIRONMENT)}, 1, {NAME_CHARACTERS}) AS environment,
            {severity_sql()} AS severity, toHour(timestamp, 'UTC') AS hour,
            translate({body}, '123456789', '000000000') AS folded,
            count() AS logs_, sum({BYTES}) AS bytes_, sum({micro_weight_sql()}) AS micro_,
            sum(toUInt64(round(({BYTES}) * ({micro_weight_sql()} / {MICRO})))) AS weighted_bytes_,
            min(timestamp) AS first_, max(timestamp) AS last_,
            min(substringUTF8({body}, 1, {EXAMPLE_CHARACTERS})) AS example_
        FROM {relation} WHERE {where(team_days, bounds)}
        GROUP BY team_id, day, service, environment, severity, hour, folded"""
    masked = f"""
        SELECT team_id, day, service, environment, severity, {mask_sql("folded")} AS message,
            sum(logs_) AS logs_of, sum(bytes_) AS bytes_of, sum(micro_) AS micro_of,
            sum(weighted_bytes_) AS weighted_bytes_of,
            sumForEach(arrayMap(h -> if(h = hour, micro_, 0), range(24))) AS hours_of,
            min(first_) AS first_of, max(last_) AS last_of, min(example_) AS example_of
        FROM ({folded}) GROUP BY team_id, day, service, environment, severity, message"""
    # Messages are ranked by their logs over all services and severities of the team-day, ties by text.
    ranked = f"""
        SELECT * EXCEPT (message), message AS text_of,
            dense_rank() OVER (PARTITION BY team_id, day ORDER BY message_logs DESC, message) > {max_messages} AS rest
        FROM (SELECT *, sum(logs_of) OVER (PARTITION BY team_id, day, message) AS message_logs FROM ({masked}))"""
    return f"""
        SELECT team_id, day, service, environment, severity,
            if(rest, '{REST_ID}', lower(hex(substring(SHA256(text_of), 1, 8)))) AS message_id,
            if(rest, '{REST_MESSAGE}', text_of) AS message,
            toInt64(sum(logs_of)) AS logs, toInt64(sum(bytes_of)) AS bytes, sum(micro_of) / {MICRO} AS weighted_logs,
            toFloat64(sum(weighted_bytes_of)) AS weighted_bytes,
            arrayMap(x -> x / {MICRO}, sumForEach(hours_of)) AS hours,
            min(first_of) AS first_seen, max(last_of) AS last_seen, min(example_of) AS example
        FROM ({ranked})
        GROUP BY team_id, day, service, environment, severity, message_id, message
        ORDER BY team_id, day, service, environment, severity, message_id"""


def teams(relation: str, since: datetime) -> str:
    """Teams with a log since then."""
    return (
        f"SELECT DISTINCT team_id FROM {relation} WHERE time_bucket >= toDateTime({_day(since.date())}, 'UTC')"
        f" AND timestamp >= {_instant(since)} ORDER BY team_id"
    )


def volumes(relation: str, team_ids: Sequence[int], start: datetime, end: datetime) -> str:
    """Five-minute buckets out of a relation with the columns of PostHog's logs_volume_buckets."""
    return (
        "SELECT team_id, time_bucket, service_name AS service, environment, lower(severity_text) AS severity,"
        f" toInt64(sum(log_count)) AS logs FROM {relation}"
        f" WHERE team_id IN ({', '.join(map(str, sorted(team_ids)))})"
        f" AND time_bucket >= {_instant(start)} AND time_bucket < {_instant(end)}"
        " GROUP BY team_id, time_bucket, service, environment, severity"
        " ORDER BY team_id, time_bucket, service, environment, severity"
    )
