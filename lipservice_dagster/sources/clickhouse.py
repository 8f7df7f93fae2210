"""Logs in ClickHouse: a server or cluster over HTTP, or Parquet files through the embedded engine. One SQL for both."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd
import pyarrow as pa

from lipservice_dagster.core import frames
from lipservice_dagster.sources import sql, volumes_sql
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.sources.limits import QueryLimits
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_dagster.team_day import Bounds, TeamDay
from lipservice_sampler.clickhouse import string_literal

# The structure is spelled out so that an empty store is an empty answer and nothing comes back nullable.
_RECORD_STRUCTURE = (
    "team_id Int32, day Date, timestamp DateTime64(6, 'UTC'), observed_timestamp DateTime64(6, 'UTC'), uuid String,"
    " trace_id String, span_id String, body String, severity_text String, severity_number Int32,"
    " service_name String, resource_attributes Map(String, String), attributes Map(String, String), event_name String"
)
_LOGS_STRUCTURE = (
    f"{_RECORD_STRUCTURE}, environment String, severity Int8, weight Int64, bytes Int64, stamp_bytes Int64"
)
_VOLUMES_STRUCTURE = (
    "team_id Int32, day Date, time_bucket DateTime64(6, 'UTC'), service_name LowCardinality(String),"
    " environment LowCardinality(String), severity_text LowCardinality(String), log_count Int64, bytes Int64"
)

_CODE = re.compile(r"Code: (\d+)\b")
# ClickHouse's errors that another try meets again: unknown identifiers, tables, databases and users, syntax, types,
# wrong passwords, missing rights.
_REFUSALS = {16, 43, 46, 47, 53, 60, 62, 81, 164, 192, 193, 194, 497, 516}

# A server answers once it has all, so that an error on the way is told and is no answer that breaks off.
_TRANSPORT = {"wait_end_of_query": 1}


class ClickHouseSource:
    """A `LogSource` over PostHog's tables (or ones with their columns) in ClickHouse.

    ``logs`` and ``counted`` (what the independent count reads; by default ``logs``) are relations of logs, ``volumes``
    is one of five-minute volumes (`volumes_sql`), or a function that looks first. The connection is made at the first
    question, so that building the object needs no store.
    """

    def __init__(
        self,
        connection: dict[str, Any],
        logs: sql.Records,
        volumes: sql.Records | Callable[[ClickHouseSource], sql.Records],
        *,
        name: str,
        counted: sql.Records | None = None,
        limits: QueryLimits | None = None,
    ):
        self._connection, self._logs, self._name = connection, logs, name
        self._volumes_behind = volumes
        self._counted = counted or logs
        self._limits = limits or QueryLimits()
        self._local = threading.local()

    def ping(self) -> str:
        """The store's name and the engine's version."""
        table = self.query("SELECT version() AS version")
        return f"{self._name}, ClickHouse {table.column('version')[0].as_py()}"

    def latest_logs(self, since: datetime) -> dict[int, datetime]:
        """The teams that have logged at or after ``since``, each with the start of its latest five minutes."""
        table = self.query(volumes_sql.latest(self._volumes(), since))
        latest = (t if isinstance(t, datetime) else datetime.fromtimestamp(t, UTC) for t in table["latest"].to_pylist())
        return dict(zip(table["team_id"].to_pylist(), latest, strict=True))

    def day_volumes(self, first: date, last: date) -> dict[TeamDay, int]:
        """Stored logs of each team-day of these days, from the five-minute volumes."""
        rows = self.query(volumes_sql.by_day(self._volumes(), first, last)).to_pandas()
        return {TeamDay(int(r.team_id), r.day): int(r.stored) for r in rows.itertuples(index=False)}

    def compared_volumes(self, team_ids: Sequence[int], span: Span) -> pd.DataFrame:
        """Logs of a span beside the same hours of the days before."""
        if not team_ids:
            return frames.empty(volumes_sql.COMPARED)
        return self.query(volumes_sql.compared(self._volumes(), team_ids, span)).to_pandas()

    def counts(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """Logs and bytes of each team-day, counted on their own."""
        if not team_days:
            return frames.empty(("team_id", "day", "logs", "bytes"))
        counted = self.query(sql.counts(self._counted, team_days, bounds)).to_pandas()
        return counted.rename(columns={"logs_": "logs", "bytes_": "bytes"})

    def groups(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """The rows of raw_logs of these team-days."""
        if not team_days:
            return frames.empty(frames.RAW_LOGS)
        table = self.query(sql.groups(self._logs, team_days, bounds, self._limits.max_messages))
        return table.select(list(frames.RAW_LOGS)).to_pandas()

    def has_table(self, name: str) -> bool:
        """Whether the server has a table or view of this name."""
        return bool(self.query(f"EXISTS TABLE {name}").column(0)[0].as_py())

    def _volumes(self) -> sql.Records:
        if callable(self._volumes_behind):
            self._volumes_behind = self._volumes_behind(self)
        return self._volumes_behind

    def _client(self) -> Any:
        # A client for each thread: neither the HTTP session nor the embedded engine's cursor is meant to be shared.
        import clickhouse_connect  # here and below, as the code location loads faster without

        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = clickhouse_connect.get_client(**self._connection)
        return client

    def query(self, text: str) -> pa.Table:
        """What the store answers to this SQL; LogSourceError where it does not, with its reason."""
        from clickhouse_connect.driver.exceptions import Error as ClickHouseError

        try:
            return self._client().query_arrow(text, settings=self._limits.clickhouse_settings() | _TRANSPORT)
        except pa.ArrowException as error:
            raise LogSourceError(f"{self._name} did not answer: its answer broke off ({error})") from error
        except (ClickHouseError, OSError) as error:
            message = str(error)
            if password := self._connection.get("password"):
                message = message.replace(password, "***")
            refused = _CODE.search(message)
            if refused and int(refused[1]) in _REFUSALS:
                raise LogSourceRefusedError(f"{self._name} refused: {message.strip()[:2000]}") from error
            raise LogSourceError(f"{self._name} did not answer: {message.strip()[:2000]}") from error


def connect(dsn: str, limits: QueryLimits | None = None) -> ClickHouseSource:
    """The source behind a DSN.

    ``clickhouse://user:password@host:8123/database?table=logs&volumes_table=logs_volume_buckets`` (``clickhouses://``
    over TLS), or ``parquet:///folder`` for the embedded log store. Raises LogSourceError for anything else.
    """
    parts = urlsplit(dsn)
    if parts.scheme == "parquet":
        return embedded(Path(unquote(parts.path)), limits)
    if parts.scheme not in ("clickhouse", "clickhouses"):
        raise LogSourceError(
            f"LIPSERVICE_LOGS_DSN starts with {parts.scheme or 'nothing'}://; clickhouse://, clickhouses:// and"
            " parquet:// are known (and posthog+https://)"
        )
    secure = parts.scheme == "clickhouses"
    options = {k: v[-1] for k, v in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - {"table", "volumes_table"}):
        raise LogSourceError(
            f"LIPSERVICE_LOGS_DSN has the unknown option {unknown[0]!r}; table and volumes_table are known"
        )
    limits = limits or QueryLimits()
    connection = {
        "host": parts.hostname or "localhost",
        "port": parts.port or (8443 if secure else 8123),
        "secure": secure,
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/") or "default",
        "send_receive_timeout": limits.timeout_seconds,
        "connect_timeout": min(limits.timeout_seconds, 30),
        "autogenerate_session_id": False,  # queries of several threads must not wait for one session
    }
    logs, volumes = options.get("table", "logs"), options.get("volumes_table", "logs_volume_buckets")

    def relation(source: ClickHouseSource) -> sql.Records:
        if "volumes_table" in options or source.has_table(volumes):
            return volumes_sql.rollup(volumes)
        return volumes_sql.from_logs(logs)

    return ClickHouseSource(
        connection,
        sql.records(logs),
        relation,
        name=f"ClickHouse at {connection['host']}:{connection['port']}",
        limits=limits,
    )


def embedded(root: Path, limits: QueryLimits | None = None) -> ClickHouseSource:
    """The embedded log store below ``root``; an engine in this process reads its files."""

    def files(part: str, structure: str) -> str:
        glob = string_literal(f"{root}/{part}/*.parquet")
        return f"file({glob}, 'Parquet', {string_literal(structure)})"

    # time_bucket is the folder's day, so that a filter on it prunes files.
    logs, records = (
        f"(SELECT *, toDateTime(day, 'UTC') AS time_bucket FROM {files('logs/team_id=*/day=*', structure)})"
        for structure in (_LOGS_STRUCTURE, _RECORD_STRUCTURE)
    )
    volumes = (
        "(SELECT team_id, day, time_bucket AS bucket, service_name AS service, environment, severity_text AS severity,"
        f" log_count AS logs FROM {files('volumes/day=*', _VOLUMES_STRUCTURE)})"
    )
    return ClickHouseSource(
        {"interface": "chdb"},
        sql.Records(logs),
        sql.Records(volumes),
        name=f"the log store in {root}",
        # The independent count works bytes out of each record and does not trust what was worked out at writing.
        counted=sql.records(records),
        limits=limits,
    )
