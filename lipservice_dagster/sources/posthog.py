"""Logs in PostHog, read over its HTTP API: HogQL, so that its ClickHouse groups and groups come back.

A day is one question. Where PostHog gives it up or its answer would have more rows than it sends, the day is halved
down to the hour, the hour is taken service by service, and what is still too much is read as pages of logs, which the
embedded engine groups by the same SQL. Where PostHog does not take the HogQL, days are read as pages at once.
"""

from __future__ import annotations

import shutil
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lipservice_dagster.core import frames
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources import posthog_hogql as hogql
from lipservice_dagster.sources import posthog_pages as pages
from lipservice_dagster.sources import sql, volumes_sql
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.sources.clickhouse import ClickHouseSource
from lipservice_dagster.sources.limits import QueryLimits
from lipservice_dagster.sources.posthog_api import Api, HogQLRefusedError, TooLargeError
from lipservice_dagster.sources.posthog_hogql import Window
from lipservice_dagster.sources.volumes_sql import Span
from lipservice_sampler.clickhouse import string_literal

_EPOCH = date(1970, 1, 1)
_PARTS = {
    "packed": (pa.uint64(), "UInt64"),
    "service": (pa.string(), "String"),
    "environment": (pa.string(), "String"),
    "text_of": (pa.string(), "String"),
    "logs_of": (pa.uint64(), "UInt64"),
    "bytes_of": (pa.uint64(), "UInt64"),
    "weighted_bytes_of": (pa.uint64(), "UInt64"),
    "hours_of": (pa.list_(pa.field("item", pa.uint64(), nullable=False)), "Array(UInt64)"),
    "first_of": (pa.timestamp("us", tz="UTC"), "DateTime64(6, 'UTC')"),
    "last_of": (pa.timestamp("us", tz="UTC"), "DateTime64(6, 'UTC')"),
    "example_of": (pa.binary(), "String"),
}
_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, (kind, _) in _PARTS.items()])
_STRUCTURE = ", ".join(f"{name} {kind}" for name, (_, kind) in _PARTS.items())


class PostHogSource:
    """A `LogSource` over the API of some projects; a project is a team, under its number.

    ``folder`` keeps the pages of reads that were interrupted. Progress goes to ``say``.
    """

    def __init__(
        self,
        apis: Mapping[int, Api],
        folder: Path,
        limits: QueryLimits | None = None,
        say: Callable[[str], None] = lambda _: None,
    ):
        self.apis, self._folder, self._say = dict(apis), folder, say
        self._limits = limits or QueryLimits()
        self._engine = ClickHouseSource({"interface": "chdb"}, sql.Records(""), sql.Records(""), name="the engine")
        self._refused: dict[int, str] = {}
        self._counted: dict[TeamDay, tuple[int, int]] = {}

    def of(self, *projects: int) -> PostHogSource:
        """The same of these projects alone."""
        return PostHogSource({p: self.apis[p] for p in projects}, self._folder, self._limits, self._say)

    def try_groups(self, now: datetime) -> None:
        """Ask for the groups of an hour before logs were; raises HogQLRefusedError where PostHog does not take that."""
        for api in self.apis.values():
            api.hogql(hogql.groups(Window(_EPOCH, 0, 1), now), patient=False)

    def ping(self) -> str:
        """The projects, each of which answers a question."""
        for api in self.apis.values():
            api.hogql("SELECT 1", patient=False)
        return ", ".join(api.name for api in self.apis.values())

    def latest_logs(self, since: datetime) -> dict[int, datetime]:
        """The projects that have logged at or after ``since``, each with the start of its latest five minutes."""
        length = int(volumes_sql.BUCKET.total_seconds())
        found = {}
        for project, api in self.apis.items():
            ((logs, latest),) = api.hogql(hogql.latest(since), patient=False)
            if logs:
                found[project] = datetime.fromtimestamp(int(latest) // length * length, UTC)
        return found

    def day_volumes(self, first: date, last: date) -> dict[TeamDay, int]:
        """Stored logs of each team-day of these days."""
        return {
            TeamDay(project, _EPOCH + timedelta(days=int(day))): int(logs)
            for project, api in sorted(self.apis.items())
            for day, logs in api.hogql(hogql.by_day(first, last), patient=False)
        }

    def compared_volumes(self, team_ids: Sequence[int], span: Span) -> pd.DataFrame:
        """Logs of a span beside the same hours of the days before."""
        counts: dict[tuple[int, str, str], np.ndarray] = {}
        for team in sorted(set(team_ids) & set(self.apis)):  # teams of another store have no logs here
            for service, environment, back, logs, errors in self._api(team).hogql(hogql.compared(span), patient=False):
                key = (team, _text(service), _text(environment))
                of = counts.setdefault(key, np.zeros((2, span.days + 1), dtype=np.uint64))
                of[:, int(back)] += np.array([logs, errors], dtype=np.uint64)
        rows = [
            (*key, int(logs[0]), int(errors[0]), logs[1:], errors[1:]) for key, (logs, errors) in sorted(counts.items())
        ]
        if not rows:
            return frames.empty(volumes_sql.COMPARED)
        return pd.DataFrame(rows, columns=list(volumes_sql.COMPARED)).astype({"team_id": "int32"})

    def counts(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """Logs and bytes of each team-day, counted on their own, in one question a project.

        Where PostHog does not take that either, the count is that of the logs in the pages of `groups`, which lies
        between what PostHog counted before they were read and after.
        """
        rows = []
        for team, days in _by_team(team_days):
            if team not in self._refused:
                try:
                    rows += self._counts(self._api(team), days, bounds)
                    continue
                except HogQLRefusedError as error:
                    self._refused[team] = str(error)
            for day in days:
                counted = self._counted.get(TeamDay(team, day))
                if counted is None:
                    raise LogSourceRefusedError(
                        f"{self._refused[team]}; the logs of {day} were not read as pages, so they cannot be counted"
                    )
                rows += [(team, day, *counted)] if counted[0] else []
        types = {"team_id": "int32", "logs": "int64", "bytes": "int64"}
        return pd.DataFrame(rows, columns=["team_id", "day", "logs", "bytes"]).astype(types)

    def _counts(self, api: Api, days: list[date], bounds: Bounds) -> list[tuple[int, date, int, int]]:
        """Project, day, logs and bytes of the days that have logs; in smaller questions where one is given up."""
        try:
            answer = api.hogql(hogql.counts(days, bounds.open_until, bounds.as_of))
            found = [(_EPOCH + timedelta(days=int(day)), int(logs), int(size)) for day, logs, size in answer]
        except TooLargeError as error:
            self._say(f"{error}; counting in smaller parts")
            found = [(d, *self._count(api, Window(d, 0, bounds.hours(d)), bounds)) for d in days if bounds.hours(d)]
        return [(api.project, day, logs, size) for day, logs, size in found if day in days and logs]

    def _count(self, api: Api, window: Window, bounds: Bounds) -> tuple[int, int]:
        try:
            ((logs, size),) = api.hogql(hogql.count(window, bounds.as_of))
            return int(logs), int(size or 0)
        except TooLargeError:
            if window.last - window.first == 1:
                raise
            parts = [self._count(api, part, bounds) for part in window.halves()]
            return sum(logs for logs, _ in parts), sum(size for _, size in parts)

    def groups(self, team_days: Sequence[TeamDay], bounds: Bounds) -> pd.DataFrame:
        """The rows of raw_logs of these team-days."""
        if not team_days:
            return frames.empty(frames.RAW_LOGS)
        with tempfile.TemporaryDirectory(prefix="lipservice-") as scratch:
            number = 0
            done = []
            for at in sorted(set(team_days)):
                api = self._api(at.team_id)
                before, hours = api.requests, bounds.hours(at.day)
                self._counted.pop(at, None)
                for part in self._parts(api, at, Window(at.day, 0, hours), bounds) if hours else ():
                    pq.write_table(part, f"{scratch}/{number:06}.parquet")
                    number += 1
                self._say(f"{api.name}: {at.day} read in {api.requests - before} requests")
                done.append(self._pages_of(api, at.day))
            files = string_literal(f"{scratch}/*.parquet")
            parts = f"SELECT * FROM file({files}, 'Parquet', {string_literal(_STRUCTURE)})"
            table = self._engine.query(sql.rows_of(parts, self._limits.max_messages))
            for folder in done:
                pages.remove(folder)
        return table.select(list(frames.RAW_LOGS)).to_pandas()

    def _parts(self, api: Api, at: TeamDay, window: Window, bounds: Bounds) -> Iterator[pa.Table]:
        """Groups of a window, in as few questions as PostHog answers."""
        if at.team_id in self._refused:
            yield self._paged(api, at, window, bounds)
            return
        try:
            answer = api.hogql(hogql.groups(window, bounds.as_of))
            if len(answer) < hogql.LIMIT:
                yield _part(at, answer)
                return
            why = f"more than {hogql.LIMIT:,} groups"
        except HogQLRefusedError as error:
            self._refused[at.team_id] = str(error)
            self._say(f"{error}; logs are read as pages instead")
            yield self._paged(api, at, window, bounds)
            return
        except TooLargeError as error:
            why = str(error).removeprefix(f"{api.name} ")
        smaller = self._smaller(api, window, bounds)
        self._say(f"{api.name}: {window}: {why}; going on in {f'{len(smaller)} parts' if smaller else 'pages'}")
        if not smaller:
            yield self._paged(api, at, window, bounds)
        for part in smaller:
            yield from self._parts(api, at, part, bounds)

    def _smaller(self, api: Api, window: Window, bounds: Bounds) -> list[Window]:
        """The window in parts; none where it is an hour of one service already."""
        if window.last - window.first > 1:
            return window.halves()
        if window.service is not None:
            return []
        try:
            found = api.hogql(hogql.services(window, bounds.as_of))
        except TooLargeError:
            return []
        return [Window(window.day, window.first, window.last, b64decode(name)) for name, _ in found]

    def _paged(self, api: Api, at: TeamDay, window: Window, bounds: Bounds) -> pa.Table:
        """Groups of a window, of its pages hour by hour, by the SQL that a ClickHouse of one's own is asked."""
        folder = self._pages_of(api, at.day)
        pages.forget_old(folder.parent)
        hours = [replace(window, first=hour, last=hour + 1) for hour in range(window.first, window.last)]
        with pages.held(folder):
            found = [pages.read(api, hour, folder, self._say) for hour in hours]
            files = string_literal(f"{folder}/{{{','.join(p.name for p in found)}}}/part-*.parquet")
            logs = sql.records(
                f"(SELECT *, toInt32({at.team_id}) AS team_id FROM"
                f" file({files}, 'Parquet', {string_literal(pages.STRUCTURE)}))"
            )
            (held,) = self._engine.query(f"SELECT count() AS logs_ FROM {logs.table}").to_pylist()
            if held["logs_"] != (rows := sum(p.rows for p in found)):
                shutil.rmtree(folder)
                raise LogSourceError(
                    f"{api.name}: the files of the pages of {window} hold {held['logs_']:,} logs, and {rows:,} were"
                    f" read: somebody else changed {folder}, which is removed now; try again"
                )
            condition = (
                f"timestamp >= {sql.instant(window.start)} AND timestamp < {sql.instant(window.end)}"
                f" AND observed_timestamp <= {sql.instant(bounds.as_of)}"
            )
            if window.service is not None:
                condition += f" AND service_name = unhex('{window.service.hex()}')"
            counted = self._engine.query(sql.counted(logs, condition)).to_pylist()
            logs_so_far, bytes_so_far = self._counted.get(at, (0, 0))
            self._counted[at] = (
                logs_so_far + sum(r["logs_"] for r in counted),
                bytes_so_far + sum(r["bytes_"] for r in counted),
            )
            return self._engine.query(sql.masked(logs, condition)).select(list(_PARTS)).cast(_SCHEMA)

    def _pages_of(self, api: Api, day: date) -> Path:
        return self._folder / f"{api.host.replace(':', '_').replace('/', '_')}-{api.project}" / day.isoformat()

    def _api(self, team: int) -> Api:
        if team not in self.apis:
            known = ", ".join(map(str, sorted(self.apis)))
            raise LogSourceRefusedError(
                f"team {team} is none of the PostHog projects in LIPSERVICE_LOGS_DSN ({known}): add it, and its key"
            )
        return self.apis[team]


def _by_team(team_days: Sequence[TeamDay]) -> list[tuple[int, list[date]]]:
    return [
        (team, sorted({d.day for d in team_days if d.team_id == team}))
        for team in sorted({d.team_id for d in team_days})
    ]


def _part(at: TeamDay, answer: list[list[Any]]) -> pa.Table:
    """A HogQL answer of `posthog_hogql.groups` as groups of `sql.masked`."""
    columns = list(zip(*answer, strict=True)) or [()] * 11
    severity, service, environment, text, logs, size, weighted, hours, first, last, example = columns

    def of_day(summed: Any) -> list[int]:
        weights = [0] * frames.HOURS
        for hour, weight in zip(*summed, strict=True):
            weights[int(hour)] = int(weight)
        return weights

    return pa.Table.from_arrays(
        [
            pa.array([sql.packed(at.team_id, at.day, int(s)) for s in severity], pa.uint64()),
            pa.array(service, pa.string()),
            pa.array(environment, pa.string()),
            pa.array(text, pa.string()),
            *(pa.array([int(v) for v in column], pa.uint64()) for column in (logs, size, weighted)),
            pa.array([of_day(h) for h in hours], _PARTS["hours_of"][0]),
            *(pa.array([_instant(v) for v in column], pa.timestamp("us", tz="UTC")) for column in (first, last)),
            pa.array([b64decode(v) for v in example], pa.binary()),
        ],
        schema=_SCHEMA,
    )


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _text(encoded: str) -> str:
    return b64decode(encoded).decode("utf-8", "replace")
