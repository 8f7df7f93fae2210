"""Partitions are replaced whole or not at all, and two writers do not interleave."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import (
    ForeignRowsError,
    SupersededError,
    TeamDayRows,
    TeamDayTables,
    read,
    write,
)

D1, D2 = TeamDay(7, date(2026, 9, 1)), TeamDay(7, date(2026, 9, 2))
OTHER = TeamDay(8, date(2026, 9, 1))
AT = datetime(2026, 9, 1, 12, tzinfo=UTC)


def raw(at: TeamDay, messages: int, *, logs: int = 1, service: str = "shop") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "team_id": at.team_id,
            "day": at.day,
            "service": service,
            "environment": "",
            "severity": "info",
            "message_id": [f"{i:016x}" for i in range(messages)],
            "message": [f"message {i} ünïcode '\\ \n" for i in range(messages)],
            "logs": logs,
            "bytes": 10,
            "weighted_logs": float(logs) + 0.1,
            "weighted_bytes": 10.5,
            "hours": [np.arange(24) / 3 for _ in range(messages)],
            "first_seen": AT,
            "last_seen": AT,
            "example": "message",
        }
    )


def rows(frame: pd.DataFrame, *team_days: TeamDay, **more: Any) -> TeamDayRows:
    return TeamDayRows({"raw_logs": frame}, team_days, **more)


def test_rows_come_back_as_they_were_written(database: Database) -> None:
    frame = raw(D1, 3)
    write(database, "raw_logs", rows(frame, D1), "run")
    back = read(database, "raw_logs", [D1])
    assert back["message"].tolist() == frame["message"].tolist()
    assert back["day"].tolist() == [D1.day] * 3
    assert np.array_equal(np.stack(back["hours"].to_list()), np.stack(frame["hours"].to_list()))
    assert back["weighted_logs"].tolist() == frame["weighted_logs"].tolist()
    assert list(back["first_seen"]) == [AT] * 3


def test_writing_a_partition_replaces_it_and_leaves_the_others(database: Database) -> None:
    write(database, "raw_logs", rows(pd.concat([raw(D1, 5), raw(D2, 4), raw(OTHER, 3)]), D1, D2, OTHER), "run")
    write(database, "raw_logs", rows(raw(D1, 2), D1), "run")
    assert [len(read(database, "raw_logs", [d])) for d in (D1, D2, OTHER)] == [2, 4, 3]


def test_a_partition_without_rows_becomes_empty(database: Database) -> None:
    write(database, "raw_logs", rows(raw(D1, 5), D1), "run")
    contents = write(database, "raw_logs", rows(raw(D1, 5).iloc[:0], D1), "run")
    assert contents[D1].rows == 0
    assert contents[D1].logs == 0
    assert read(database, "raw_logs", [D1]).empty


def test_rows_outside_the_partitions_are_an_error_and_nothing_changes(database: Database) -> None:
    write(database, "raw_logs", rows(raw(D1, 5), D1), "run")
    with pytest.raises(ForeignRowsError, match=r"2026-09-02\|7"):
        write(database, "raw_logs", rows(pd.concat([raw(D1, 1), raw(D2, 1)]), D1), "run")
    assert len(read(database, "raw_logs", [D1])) == 5


def test_a_failing_write_leaves_the_old_content(database: Database) -> None:
    write(database, "raw_logs", rows(raw(D1, 5), D1), "run")
    twice = pd.concat([raw(D1, 1), raw(D1, 1)])
    with pytest.raises(Exception, match="duplicate key"):
        write(database, "raw_logs", rows(twice, D1), "run")
    assert len(read(database, "raw_logs", [D1])) == 5


def test_missing_and_unknown_columns_are_named(database: Database) -> None:
    with pytest.raises(KeyError, match="weighted_bytes"):
        write(database, "raw_logs", rows(raw(D1, 1).drop(columns="weighted_bytes"), D1), "run")
    with pytest.raises(KeyError, match="surprise"):
        write(database, "raw_logs", rows(raw(D1, 1).assign(surprise=1), D1), "run")


def test_the_fingerprint_is_of_the_content_alone(database: Database) -> None:
    first = write(database, "raw_logs", rows(raw(D1, 5), D1), "one")[D1]
    shuffled = write(database, "raw_logs", rows(raw(D1, 5).sample(frac=1, random_state=3), D1), "two")[D1]
    changed = write(database, "raw_logs", rows(raw(D1, 5, logs=2), D1), "three")[D1]
    assert first == shuffled
    assert first.fingerprint != changed.fingerprint
    assert changed.logs == 10


def test_a_problem_keeps_content_and_is_noted(database: Database) -> None:
    write(database, "raw_logs", rows(raw(D1, 5), D1, as_of=AT, hours={D1: 24}), "one")
    write(database, "raw_logs", rows(raw(D2, 2), D2, problems={D1: "counts differ"}), "two")
    found = materializations.of(database, "raw_logs", [D1, D2, OTHER])
    assert found[D1].problem == "counts differ"
    assert (found[D1].rows, found[D1].logs, found[D1].hours, found[D1].as_of) == (5, 5, 24, AT)
    assert found[D2].problem is None
    assert OTHER not in found
    write(database, "raw_logs", rows(raw(D1, 6), D1), "three")
    assert materializations.of(database, "raw_logs", [D1])[D1].problem is None


def test_json_documents_go_through(database: Database) -> None:
    document = '{"a": [1, 2.5, "ü\'\\""]}'
    frame = pd.DataFrame(
        [
            {
                "team_id": 7, "day": D1.day, "service": "s", "environment": "", "version": "v", "document": document,
                "logs": 1.0, "bytes": 1.0, "kept_logs": 1.0, "kept_bytes": 1.0, "generated_by": "rules",
                    "budget": "", "goals_fingerprint": "", "window_fingerprint": "",
            }
        ]
    )  # fmt: skip
    write(database, "policies", TeamDayRows({"policies": frame}, [D1]), "run")
    assert read(database, "policies", [D1])["document"].tolist() == [document]


def test_tables_are_read_team_by_team(database: Database) -> None:
    write(database, "raw_logs", rows(pd.concat([raw(D1, 5), raw(OTHER, 3)]), D1, OTHER), "run")
    tables = TeamDayTables(database, ("raw_logs",), (OTHER, D2, D1))
    assert [(team, len(part.read())) for team, part in tables.by_team()] == [(7, 5), (8, 3)]
    with pytest.raises(KeyError, match="policies"):
        tables.read("policies")


def _writer(dsn: str, logs: int, times: int, start: Any) -> None:
    database = Database(dsn)
    start.wait()
    for _ in range(times):
        write(database, "raw_logs", rows(pd.concat([raw(d, 300, logs=logs) for d in (D1, D2)]), D1, D2), f"run {logs}")
    database.dispose()


def test_two_processes_writing_one_partition_leave_one_result_whole(database: Database, dsn: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    writers = [spawn.Process(target=_writer, args=(dsn, logs, 6, start)) for logs in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        with database.engine.connect() as connection:
            found = connection.execute(
                sa.text("SELECT count(*), min(logs), max(logs) FROM raw_logs WHERE day = :d"), {"d": D1.day}
            ).one()
        seen.add(tuple(found))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    last = read(database, "raw_logs", [D1, D2])
    assert len(last) == 600
    assert last["logs"].nunique() == 1
    assert seen <= {(0, None, None), (300, 1, 1), (300, 2, 2)}


def handed_out(database: Database, *team_days: TeamDay) -> TeamDayTables:
    """The tables of raw_logs as an input of an asset."""
    entries = materializations.of(database, "raw_logs", team_days)
    prints = {d: entries[d].fingerprint if d in entries else None for d in team_days}
    return TeamDayTables(database, ("raw_logs",), team_days, "raw_logs", prints)


def members(at: TeamDay) -> pd.DataFrame:
    return pd.DataFrame([{"team_id": at.team_id, "day": at.day, "service": "s", "message_id": "m", "signature": "x"}])


def test_rows_made_from_what_has_changed_meanwhile_are_refused(database: Database) -> None:
    write(database, "raw_logs", rows(raw(D1, 5), D1), "one")
    tables = handed_out(database, D1, D2)
    made = TeamDayRows({"signature_members": members(D1)}, [D1], made_from=[tables])
    write(database, "signatures", made, "two")
    write(database, "raw_logs", rows(raw(D1, 5), D1), "three")
    write(database, "signatures", made, "the same content made again is no change")
    write(database, "raw_logs", rows(raw(D1, 6), D1), "four")
    with pytest.raises(SupersededError, match=r"raw_logs of 2026-09-01\|7"):
        write(database, "signatures", made, "five")
    write(database, "raw_logs", rows(raw(D1, 5), D1), "six")
    write(database, "raw_logs", rows(raw(D2, 1), D2), "a day that was not there when it was read")
    with pytest.raises(SupersededError, match=r"raw_logs of 2026-09-02\|7"):
        write(database, "signatures", made, "seven")


def test_an_older_reading_of_the_source_does_not_replace_a_newer_one(database: Database) -> None:
    write(database, "raw_logs", rows(raw(D1, 6), D1, as_of=AT), "newer")
    with pytest.raises(SupersededError, match="later than this"):
        write(database, "raw_logs", rows(raw(D1, 5), D1, as_of=AT - timedelta(seconds=1)), "older")
    assert len(read(database, "raw_logs", [D1])) == 6
