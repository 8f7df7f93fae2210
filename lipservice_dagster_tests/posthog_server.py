"""A local HTTP server that answers as PostHog does, over logs in the embedded ClickHouse engine.

HogQL is executed for real: only functions that PostHog permits, under PostHog's names, over one project's logs, with
its limits of rows and times in the project's zone. `Faults` are answered before what was asked.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

from lipservice_sampler.clickhouse import string_literal

ZONE = "America/New_York"
KEY = "phx_of_all_scopes"

# Those of the functions that PostHog permits in HogQL which a question about logs may want.
_PERMITTED = """
    and or not in if multiIf count countIf sum sumIf sumMap min max uniq any argMin argMax avg array range has
    length indexOf arrayElement arrayMap arraySum arrayFilter arrayStringConcat mapKeys mapValues mapContains concat
    substring substringUTF8 lower upper trim match replaceAll replaceOne replaceRegexpAll replaceRegexpOne translate
    toValidUTF8 isValidUTF8 rightPad reverse base64Encode base64Decode hex unhex reinterpretAsUInt64 toString
    toTimeZone toDate toDateTime toDateTime64 toUnixTimestamp toStartOfFiveMinutes toStartOfHour toInt toFloatOrZero
    _toInt64 intDiv modulo pow round floor greatest least transform cityHash64
"""
_THEIR_NAME = {"toFloatOrZero": "toFloat64OrZero", "_toInt64": "toInt64"}
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'", re.S)
_CALL = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_WORDS = {"AND", "OR", "NOT", "IN", "FROM", "AS", "WHERE", "SELECT", "BY"}
_ROW = (
    "uuid, trace_id, span_id, body, attributes, toString(timestamp) AS timestamp_, toString(observed_timestamp) AS"
    " observed_, severity_text, severity_number, resource_attributes, event_name"
)


@dataclass
class Fault:
    """What is answered instead: a status with a body, or nothing at all."""

    status: int = 0
    detail: str = ""
    code: str = "error"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """The answer stops in its middle."""
    silent: float = 0
    """Seconds in which nothing comes."""
    drip: float = 0
    """Seconds between an octet and the next."""
    plain: bool = False
    """The detail alone, as what stands before PostHog answers."""


class RefusalError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, code: str, detail: str):
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


@dataclass
class PostHog:
    """The server's state: its keys, its limits, what it was asked, and what it answers instead."""

    table: str
    url: str = ""
    keys: dict[str, tuple[set[int], set[str]]] = field(default_factory=dict)
    """Projects and scopes by key."""
    projects: set[int] = field(default_factory=lambda: {1, 2, 7})
    most_rows: int = 50_000
    page_rows: int = 2_000
    refused: set[str] = field(default_factory=set)
    """Permitted functions that this version does not permit."""
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ahead: float = 0
    """Seconds by which its clock is ahead."""
    last_instant: str = "<"
    """How a question's end bounds its logs; pages and counts need not agree."""
    after_page: Callable[[int], None] = lambda number: None
    engine: Any = field(default_factory=lambda: clickhouse_connect.get_client(interface="chdb"))
    """Holds the engine, which ends with its last client."""
    local: threading.local = field(default_factory=threading.local)

    @property
    def queries(self) -> int:
        """HogQL queries that were asked."""
        return sum(path == "query/" for path, _ in self.asked)

    @property
    def pages(self) -> int:
        """Pages of logs that were asked for."""
        return sum(path == "logs/query/" for path, _ in self.asked)

    def run(self, query: str) -> dict[str, Any]:
        """What ClickHouse answers, as its JSON."""
        if not hasattr(self.local, "client"):
            self.local.client = clickhouse_connect.get_client(interface="chdb", settings={"session_timezone": ZONE})
        settings = {"output_format_json_quote_64bit_integers": 0, "session_timezone": ZONE}
        found: dict[str, Any] = json.loads(self.local.client.raw_query(query, fmt="JSONCompact", settings=settings))
        return found

    def insert(self, team: int, root: Path) -> None:
        """The logs of a team in a log store become logs of a project."""
        self.run_command(
            f"INSERT INTO {self.table} SELECT team_id, toDateTime(toStartOfDay(timestamp, 'UTC'), 'UTC'), timestamp,"
            " observed_timestamp, lower(hex(SHA256(concat(body, toString(generateUUIDv4()))))),"
            " trace_id, span_id, body, severity_text, severity_number, service_name, resource_attributes, attributes,"
            f" event_name FROM file('{root}/logs/team_id={team}/day=*/*.parquet', 'Parquet')"
        )

    def run_command(self, statement: str) -> None:
        """A statement without an answer."""
        self.engine.command(statement)

    def answer(self, project: int, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a request to a path of a project is answered."""
        if key not in self.keys:
            raise RefusalError(401, "authentication_failed", "Invalid personal API key.")
        projects, scopes = self.keys[key]
        if project not in self.projects:
            raise RefusalError(404, "not_found", "Project not found.")
        if project not in projects:
            raise RefusalError(403, "permission_denied", "You don't have access to the project.")
        scope = "query:read" if path == "query/" else "logs:read"
        if scope not in scopes:
            raise RefusalError(403, "permission_denied", f"API key missing required scope '{scope}'")
        if path == "query/":
            return self._hogql(project, body["query"]["query"])
        asked = body["query"]
        if "dateRange" not in asked:
            raise RefusalError(400, "invalid_input", "dateRange is required")
        condition = self._condition(project, asked)
        if path == "logs/count/":
            return {"count": self.run(f"SELECT count() FROM {self.table} WHERE {condition}")["data"][0][0]}
        return self._page(asked, self._condition(project, asked, self.last_instant))

    def _hogql(self, project: int, query: str) -> dict[str, Any]:
        literals: list[str] = []

        def keep(found: re.Match[str]) -> str:
            literals.append(found[0])
            return f"\x01{len(literals) - 1}\x02"

        bare = _LITERAL.sub(keep, query)
        for name in sorted(set(_CALL.findall(bare)) - _WORDS):
            if name not in _PERMITTED.split() or name in self.refused:
                raise RefusalError(
                    400, "validation_error", f"Unsupported function call '{name}(...)'. Perhaps you meant other"
                )
        if re.search(r"\b(team_id|SETTINGS|FORMAT)\b", bare):
            raise RefusalError(400, "validation_error", "mismatched input")
        bare = _CALL.sub(lambda m: f"{_THEIR_NAME.get(m[1], m[1])}(", bare)
        times = ", ".join(
            f"toTimeZone({c}, '{ZONE}') AS {c}" for c in ("time_bucket", "timestamp", "observed_timestamp")
        )
        others = "uuid, body, severity_text, severity_number, service_name, resource_attributes, attributes, event_name"
        of_team = f"(SELECT {times}, {others} FROM {self.table} AS l WHERE team_id = {project})"
        bare = re.sub(r"\bFROM logs\b", f"FROM {of_team}", bare)
        limit = re.search(r"\bLIMIT (\d+)\s*$", bare)
        most = min(int(limit[1]) if limit else 100, self.most_rows)
        bare = (bare[: limit.start()] if limit else bare) + f" LIMIT {most + 1}"
        try:
            found = self.run(re.sub("\x01(\\d+)\x02", lambda m: literals[int(m[1])], bare))
        except DatabaseError as error:
            raise RefusalError(400, "CHQueryError", str(error)) from error
        rows = found["data"]
        meta = found["meta"]
        columns, types = [c["name"] for c in meta], [[c["name"], c["type"]] for c in meta]
        return {"results": rows[:most], "columns": columns, "types": types, "hasMore": len(rows) > most}

    def _condition(self, project: int, asked: dict[str, Any], until: str = "<=") -> str:
        between = [f"parseDateTime64BestEffort('{asked['dateRange'][e]}', 6, 'UTC')" for e in ("date_from", "date_to")]
        condition = f"team_id = {project} AND timestamp >= {between[0]} AND timestamp {until} {between[1]}"
        if asked.get("serviceNames"):
            condition += f" AND service_name IN ({', '.join(map(string_literal, asked['serviceNames']))})"
        return condition

    def _page(self, asked: dict[str, Any], condition: str) -> dict[str, Any]:
        if asked.get("after"):
            after = json.loads(base64.b64decode(asked["after"]))
            at = f"parseDateTime64BestEffort('{after['timestamp']}', 6, 'UTC')"
            condition += f" AND (timestamp, uuid) > ({at}, '{after['uuid']}')"
        limit = min(asked.get("limit", 100), self.page_rows)
        order = "ASC" if asked.get("orderBy") == "earliest" else "DESC"
        found = self.run(
            f"SELECT {_ROW} FROM (SELECT * REPLACE (toTimeZone(timestamp, 'UTC') AS timestamp,"
            f" toTimeZone(observed_timestamp, 'UTC') AS observed_timestamp) FROM {self.table} WHERE {condition}"
            f" ORDER BY timestamp {order}, uuid {order} LIMIT {limit + 1})"
        )
        names = [c["name"] for c in found["meta"]]
        rows = [dict(zip(names, row, strict=True)) for row in found["data"][:limit]]
        for row in rows:
            for name in ("timestamp", "observed"):
                text = row.pop(f"{name}_")
                row["timestamp" if name == "timestamp" else "observed_timestamp"] = f"{text.replace(' ', 'T')}Z"
        more = len(found["data"]) > limit
        last = {"timestamp": rows[-1]["timestamp"], "uuid": rows[-1]["uuid"]} if rows else None
        self.after_page(self.pages)
        cursor = base64.b64encode(json.dumps(last).encode()).decode() if more else None
        return {"results": rows, "hasMore": more, "nextCursor": cursor, "columns": names, "maxExportableLogs": 50_000}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    posthog: PostHog


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        posthog = self.server.posthog
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.fullmatch(r"/api/projects/(\d+)/(.*)", self.path)
        path = found[2] if found else ""
        posthog.asked.append((path, body))
        fault = posthog.faults.pop(0) if posthog.faults else None
        if fault and fault.silent:
            threading.Event().wait(fault.silent)
        if fault and (fault.status or fault.silent):
            told = {"type": "error", "code": fault.code, "detail": fault.detail}
            self._send(fault.status or 500, fault.detail if fault.plain else told, fault.headers)
            return
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            answer = posthog.answer(int(found[1]) if found else 0, path, key, body)
            self._send(200, answer, cut=bool(fault and fault.cut), drip=fault.drip if fault else 0)
        except RefusalError as refusal:
            self._send(refusal.status, {"type": "error", "code": refusal.code, "detail": refusal.detail})

    def _send(
        self, status: int, answer: Any, headers: dict[str, str] | None = None, cut: bool = False, drip: float = 0
    ) -> None:
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # whoever asked has gone
            for octet in data if drip else b"":
                self.wfile.write(bytes([octet]))
                time.sleep(drip)
            if not drip:
                self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The Date of an answer."""
        return super().date_time_string(time.time() + self.server.posthog.ahead)

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def posthog_server() -> Iterator[PostHog]:
    """A PostHog without logs, with a key of all scopes for its projects."""
    posthog = PostHog(f"posthog_{uuid.uuid4().hex}")
    posthog.keys[KEY] = ({1, 2, 7}, {"logs:read", "query:read"})
    posthog.run_command(
        f"CREATE TABLE {posthog.table} (team_id Int32, time_bucket DateTime('UTC'), timestamp DateTime64(6, 'UTC'),"
        " observed_timestamp DateTime64(6, 'UTC'), uuid String, trace_id String, span_id String, body String,"
        " severity_text LowCardinality(String), severity_number Int32, service_name LowCardinality(String),"
        " resource_attributes Map(LowCardinality(String), String), attributes Map(String, String), event_name String)"
        " ENGINE = MergeTree ORDER BY (team_id, time_bucket, timestamp)"
    )
    server = _Server(("127.0.0.1", 0), _Handler)
    server.posthog = posthog
    posthog.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield posthog
    finally:
        server.shutdown()
        server.server_close()
        posthog.run_command(f"DROP TABLE {posthog.table}")
