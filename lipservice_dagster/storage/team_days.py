"""Tables by team-day: written whole partitions at a time or not at all, read as frames.

Two writers of one partition take turns (advisory locks, held to the end of the transaction), so what stays is one of
the two results, whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import TEAM_DAY_TABLES

_LOCKS_A_TRANSACTION = 1_000  # PostgreSQL's lock table has room for some 6,000 in all


class SupersededError(RuntimeError):
    """What was read to make these rows has been made anew meanwhile: read again and make them from that."""


class ForeignRowsError(ValueError):
    """Rows outside the partitions that are being written: writing them would let partitions overwrite each other."""


@dataclass(frozen=True)
class Content:
    """What a write left of one team-day."""

    rows: int
    logs: int | None
    fingerprint: str


@dataclass(frozen=True)
class TeamDayRows:
    """What an asset hands to the IO manager.

    ``frames``: rows by table. ``team_days``: the partitions to replace (those without rows become empty).
    ``problems``: partitions that must keep their old content, and why. ``kept``: those that keep it though nothing is
    wrong, and why. ``as_of`` and ``hours``: until when the source was read and how many whole hours of each day that
    covers, where the asset reads a source. ``made_from``: the tables that the rows were made from; they are written
    only while those still hold what was read.
    """

    frames: Mapping[str, pd.DataFrame]
    team_days: Sequence[TeamDay]
    problems: Mapping[TeamDay, str] = field(default_factory=dict)
    kept: Mapping[TeamDay, str] = field(default_factory=dict)
    as_of: datetime | None = None
    hours: Mapping[TeamDay, int] = field(default_factory=dict)
    made_from: Sequence[TeamDayTables] = ()


@dataclass(frozen=True)
class TeamDayTables:
    """What an asset is handed for an input: the tables of the asset above, for these team-days.

    Nothing is read until asked for, so that a wide run can go through its teams one at a time.
    """

    database: Database
    tables: tuple[str, ...]
    team_days: tuple[TeamDay, ...]
    asset: str = ""
    fingerprints: Mapping[TeamDay, str | None] = field(default_factory=dict)  # when they were handed out

    def read(self, table: str | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of a table (the first by default), sorted by their key; days never written have none."""
        name = table or self.tables[0]
        if name not in self.tables:
            raise KeyError(f"{name} is not among {', '.join(self.tables)}")
        return read(self.database, name, self.team_days, columns)

    def of(self, team_days: Iterable[TeamDay]) -> TeamDayTables:
        """The same for some of the team-days."""
        wanted = set(team_days)
        return replace(self, team_days=tuple(d for d in self.team_days if d in wanted))

    def by_team(self) -> Iterator[tuple[int, TeamDayTables]]:
        """Team by team, ascending."""
        for team_id in sorted({d.team_id for d in self.team_days}):
            yield team_id, self.of(d for d in self.team_days if d.team_id == team_id)


def read(
    database: Database, table: str, team_days: Collection[TeamDay], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Rows of these team-days, sorted by the primary key; the table's columns, or those named."""
    definition = TEAM_DAY_TABLES[table]
    names = list(columns or [c.name for c in definition.columns])
    order = ", ".join(c.name for c in definition.primary_key.columns)
    # The range on day lets the planner leave out the other days' children before it joins.
    days = [d.day for d in team_days]
    span = f"day BETWEEN '{min(days)}' AND '{max(days)}'" if days else "false"
    with database.frames() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {span} AND {_among(team_days)} ORDER BY {order}")
        return cursor.fetch_arrow_table().to_pandas(date_as_object=True)


def write(database: Database, asset: str, rows: TeamDayRows, run_id: str) -> dict[TeamDay, Content]:
    """Replace the partitions of the frames' tables by their rows, in one transaction.

    What the tables then hold (and the partitions' problems, if any) is noted in ``materializations`` in the same
    transaction. Returns for each team-day its rows (over all tables), its logs (of the first table that counts them)
    and a fingerprint of the content. Raises ForeignRowsError for rows of other team-days, KeyError for columns that
    are missing or unknown; then nothing has changed.
    """
    team_days = rows.team_days
    for name, frame in rows.frames.items():
        _check(name, frame, team_days)
    for name in rows.frames:
        _ensure_days(database, name, {d.day for d in team_days})
    with database.frames() as connection, connection.cursor() as cursor:
        contents: dict[TeamDay, Content] = {}
        if team_days:
            _lock(cursor, next(iter(rows.frames)), team_days)
            _require_current(cursor, asset, rows)
            for name, frame in rows.frames.items():
                cursor.execute(f"DELETE FROM {name} WHERE {_among(team_days)}")
                _copy(cursor, name, frame)
            contents = _contents(cursor, list(rows.frames), team_days)
        _note(cursor, asset, rows, contents, run_id)
        return contents


def _require_current(cursor: Any, asset: str, rows: TeamDayRows) -> None:
    """Raise SupersededError where an input, or the partition itself, is newer than what these rows were made from.

    The inputs' entries stay locked (shared) to the end of the transaction: they cannot change between check and commit.
    """
    for tables in rows.made_from:
        if not tables.fingerprints:
            continue
        cursor.execute(
            f"SELECT team_id, day, fingerprint FROM materializations WHERE asset = {_literal(tables.asset)}"
            f" AND {_among(tables.fingerprints)} ORDER BY team_id, day FOR SHARE"
        )
        found = {TeamDay(team_id, day): fingerprint for team_id, day, fingerprint in cursor.fetchall()}
        changed = sorted(d for d, read in tables.fingerprints.items() if found.get(d) != read)
        if changed:
            raise SupersededError(f"{tables.asset} of {changed[0]} was made anew while {asset} was made from it")
    if rows.as_of is not None:
        cursor.execute(
            f"SELECT team_id, day FROM materializations WHERE asset = {_literal(asset)} AND {_among(rows.team_days)}"
            f" AND as_of > {_literal(rows.as_of.isoformat())}::timestamptz ORDER BY team_id, day"
        )
        if newer := cursor.fetchall():
            at = TeamDay(*newer[0])
            raise SupersededError(f"{asset} of {at} already holds what was read of its source later than this")


def _check(name: str, frame: pd.DataFrame, team_days: Collection[TeamDay]) -> None:
    expected = [c.name for c in TEAM_DAY_TABLES[name].columns]
    if missing := [c for c in expected if c not in frame.columns]:
        raise KeyError(f"rows for {name} lack the columns {', '.join(missing)}")
    if unknown := [c for c in frame.columns if c not in expected]:
        raise KeyError(f"rows for {name} have columns that the table does not: {', '.join(map(str, unknown))}")
    pairs = frame[["team_id", "day"]].drop_duplicates()
    found = {TeamDay(int(t), d) for t, d in zip(pairs["team_id"], pairs["day"], strict=True)}
    if foreign := sorted(found - set(team_days)):
        raise ForeignRowsError(
            f"rows for {name} lie outside the partitions being written, first {foreign[0]}; nothing was written"
        )


def _ensure_days(database: Database, name: str, days: set[date]) -> None:
    """Make the children of the table for these days.

    ATTACH takes a weaker lock on the parent than CREATE … PARTITION OF, so readers and writers of other days go on.
    """
    children = {day: f"{name}_{day:%Y%m%d}" for day in days}
    with database.engine.connect() as connection:
        found = connection.execute(
            sa.text(
                "SELECT relname FROM pg_class JOIN pg_inherits ON pg_class.oid = inhrelid"
                " WHERE inhparent = CAST(:t AS regclass)"
            ),
            {"t": name},
        ).scalars()
        missing = set(children.values()) - set(found)
    for day, child in sorted(children.items()):
        if child not in missing:
            continue
        with database.engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key("child", child)})
            if connection.execute(sa.text("SELECT to_regclass(:c)"), {"c": child}).scalar() is not None:
                continue  # another writer made it meanwhile
            connection.execute(sa.text(f"CREATE TABLE {child} (LIKE {name} INCLUDING ALL)"))
            connection.execute(
                sa.text(
                    f"ALTER TABLE {name} ATTACH PARTITION {child}"
                    f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
                )
            )


def _lock(cursor: Any, name: str, team_days: Collection[TeamDay]) -> None:
    """Keep other writers of these partitions waiting until this transaction ends.

    Sorted, so that two writers never wait for each other. Very wide writes lock the table as one, which all others
    hold shared.
    """
    wide = len(team_days) > _LOCKS_A_TRANSACTION
    whole = "pg_advisory_xact_lock" if wide else "pg_advisory_xact_lock_shared"
    cursor.execute(f"SELECT {whole}({_key('table', name)})")
    if not wide:
        keys = ", ".join(str(k) for k in sorted(_key(name, str(d)) for d in team_days))
        cursor.execute(f"SELECT pg_advisory_xact_lock(k) FROM unnest(ARRAY[{keys}]::bigint[]) AS k")


def _key(*parts: str) -> int:
    digest = hashlib.sha256("|".join(("lipservice", *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _among(team_days: Collection[TeamDay]) -> str:
    ordered = sorted(team_days)
    teams = ", ".join(str(int(d.team_id)) for d in ordered)
    days = ", ".join(f"'{d.day.isoformat()}'" for d in ordered)
    return f"(team_id, day) IN (SELECT * FROM unnest(ARRAY[{teams}]::int[], ARRAY[{days}]::date[]))"


_ARROW = {
    sa.Integer: pa.int32(),
    sa.BigInteger: pa.int64(),
    sa.Double: pa.float64(),
    sa.Boolean: pa.bool_(),
    sa.Text: pa.string(),
    sa.Date: pa.date32(),
    sa.DateTime: pa.timestamp("us", tz="UTC"),
    pg.JSONB: pa.string(),
}


def _arrow(kind: sa.types.TypeEngine) -> pa.DataType:
    if isinstance(kind, pg.ARRAY):
        return pa.list_(_arrow(kind.item_type))
    return _ARROW[type(kind)]


def _copy(cursor: Any, name: str, frame: pd.DataFrame) -> None:
    """Append the rows; JSON goes through a temporary table as text, since COPY from Arrow does not know jsonb."""
    if frame.empty:
        return
    definition = TEAM_DAY_TABLES[name]
    schema = pa.schema([pa.field(c.name, _arrow(c.type), nullable=c.nullable) for c in definition.columns])
    rows = pa.Table.from_pandas(frame[[c.name for c in definition.columns]], schema=schema, preserve_index=False)
    json_columns = {c.name for c in definition.columns if isinstance(c.type, pg.JSONB)}
    if not json_columns:
        cursor.adbc_ingest(name, rows, mode="append")
        return
    staging = f"staged_{name}"
    cursor.adbc_ingest(staging, rows, mode="create", temporary=True)
    columns = ", ".join(c.name for c in definition.columns)
    values = ", ".join(f"{c.name}::jsonb" if c.name in json_columns else c.name for c in definition.columns)
    cursor.execute(f"INSERT INTO {name} ({columns}) SELECT {values} FROM {staging}")
    cursor.execute(f"DROP TABLE {staging}")


def _note(cursor: Any, asset: str, rows: TeamDayRows, contents: Mapping[TeamDay, Content], run_id: str) -> None:
    run, as_of = _literal(run_id), _literal(rows.as_of.isoformat() if rows.as_of else None)
    if contents:
        values = ", ".join(
            f"({_literal(asset)}, {d.team_id}, '{d.day}'::date, {c.rows}, {_literal(c.logs)}::bigint,"
            f" {_literal(c.fingerprint)}, {as_of}::timestamptz, {_literal(rows.hours.get(d))}::bigint,"
            f" {run}, now(), NULL, {run}, now())"
            for d, c in sorted(contents.items())
        )
        cursor.execute(
            f"INSERT INTO materializations VALUES {values} ON CONFLICT (asset, team_id, day) DO UPDATE SET"
            " (rows, logs, fingerprint, as_of, hours, written_by, written_at, problem, checked_by, checked_at, kept) ="
            " (excluded.rows, excluded.logs, excluded.fingerprint, excluded.as_of, excluded.hours,"
            " excluded.written_by, excluded.written_at, NULL, excluded.checked_by, excluded.checked_at, NULL)"
        )
    for d, why in sorted(rows.kept.items()):
        cursor.execute(
            "UPDATE materializations SET (problem, kept, checked_by, checked_at)"
            f" = (NULL, {_literal(why)}, {run}, now())"
            f" WHERE asset = {_literal(asset)} AND team_id = {d.team_id} AND day = '{d.day}'"
        )
    if rows.problems:
        values = ", ".join(
            f"({_literal(asset)}, {d.team_id}, '{d.day}'::date, {_literal(p)}, {run}, now())"
            for d, p in sorted(rows.problems.items())
        )
        cursor.execute(
            f"INSERT INTO materializations (asset, team_id, day, problem, checked_by, checked_at) VALUES {values}"
            " ON CONFLICT (asset, team_id, day) DO UPDATE SET (problem, checked_by, checked_at, kept) ="
            " (excluded.problem, excluded.checked_by, excluded.checked_at, NULL)"
        )


def _literal(value: str | int | None) -> str:
    """A value as an SQL literal (standard_conforming_strings is on)."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _contents(cursor: Any, names: Sequence[str], team_days: Collection[TeamDay]) -> dict[TeamDay, Content]:
    """Rows, logs and fingerprint of each partition as PostgreSQL now holds it.

    The fingerprint is a sum of the rows' hashes: it does not depend on their order, and rows need not leave the server.
    """
    rows = dict.fromkeys(team_days, 0)
    logs: dict[TeamDay, int | None] = dict.fromkeys(team_days, None)
    prints = {d: hashlib.sha256() for d in team_days}
    counted = next((n for n in names if "logs" in TEAM_DAY_TABLES[n].columns), None)
    for name in names:
        total = "coalesce(sum(t.logs), 0)::bigint" if name == counted else "0::bigint"
        cursor.execute(
            f"SELECT team_id, day, count(*), {total}, sum(hashtextextended(t::text, 0)::numeric)::text"
            f" FROM {name} AS t WHERE {_among(team_days)} GROUP BY team_id, day"
        )
        if name == counted:
            logs = dict.fromkeys(team_days, 0)
        for team_id, day, count, sum_logs, digest in cursor.fetchall():
            at = TeamDay(team_id, day)
            rows[at] += count
            prints[at].update(f"{name}:{count}:{digest};".encode())
            if name == counted:
                logs[at] = int(sum_logs)
    return {d: Content(rows[d], logs[d], prints[d].hexdigest()[:16]) for d in team_days}
