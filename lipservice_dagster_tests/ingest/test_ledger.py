"""What was ingested before is noticed: by what it holds, not by its name."""

from __future__ import annotations

import gzip
import io
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lipservice_dagster.ingest import IngestError, ingest, run_ingest
from lipservice_dagster.local.log_store import counts

NOW = datetime(2026, 9, 12, 8, 30, tzinfo=UTC)
DAY = date(2026, 9, 10)
LINES = b"".join(b"2026-09-10 10:00:00 INFO line %d\n" % i for i in range(400))


def into(root: Path, *paths: Path, **options: Any):
    usual: dict[str, Any] = {"team_id": 1, "service": None, "day": None, "now": NOW}
    return ingest(list(paths), store=root / "store", **usual | options)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(LINES)
    return path


def test_a_file_is_stored_once_also_when_it_was_renamed_or_packed(tmp_path, log):
    assert into(tmp_path, log).stored == 400
    rotated = tmp_path / "app.log.1.gz"
    rotated.write_bytes(gzip.compress(LINES))
    for path in (log, rotated):
        summary = into(tmp_path, path)
        assert (summary.read, summary.stored) == (0, 0)
        (known,) = summary.known
        assert known.whole
        assert known.before == f"{log} on 2026-09-12 08:30 UTC"
    assert counts(tmp_path / "store") == {(1, DAY): 400}
    assert into(tmp_path, log, again=True).stored == 400


def test_of_a_file_that_has_grown_only_what_is_new_is_stored(tmp_path, log):
    into(tmp_path, log)
    with log.open("ab") as file:
        file.write(b"2026-09-10 11:00:00 new\n\n2026-09-10 11:00:01 newer\n")
    summary = into(tmp_path, log)
    assert (summary.read, summary.stored, summary.blank) == (3, 2, 1)
    assert not summary.known[0].whole
    assert into(tmp_path, log).stored == 0
    assert counts(tmp_path / "store") == {(1, DAY): 402}


BEGUN = "2026-09-10 10:00:00 INFO one\n"
TRACE = "2026-09-10 10:00:01 ERROR boom\nTraceback (most recent call last):\n  File x, line 1\n"
PANIC = "thread 'main' panicked at src/main.rs:2:5:\n"
CUT = "2026-09-10T10:00:01.000000000Z stdout P half a \n"
LAST = "2026-09-10 10:00:02 INFO three\n"


def stored_rows(root: Path) -> list[tuple[str, bytes, str]]:
    tables = [pq.read_table(path, partitioning=None) for path in root.glob("store/logs/*/*/*.parquet")]
    found = [row for table in tables for row in table.to_pylist()]
    return sorted((str(row["timestamp"]), row["body"], row["severity_text"]) for row in found)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (BEGUN + "2026-09-10 10:00:01 INFO tw", "o and more\n" + LAST),
        (BEGUN + "2026-09-1", "0 10:00:01 INFO two and more\n" + LAST),
        (BEGUN + TRACE, "ValueError: x\n" + LAST),
        (BEGUN + TRACE + "    f()\nKeyErr", "or: 2026-09-10 10:00:02\n" + LAST),
        (BEGUN + "2026-09-10 10:00:01 INFO two\n\n  and", " more\n" + LAST),
        (BEGUN + PANIC, "out of range\n" + LAST),
        (BEGUN + CUT, CUT.replace(" P ", " F ") + LAST),
        (BEGUN, "no time\n" + LAST),
        (BEGUN[:-9], BEGUN[-9:] + LAST),
    ],
)
@pytest.mark.parametrize("day", [None, DAY])
def test_a_file_that_is_still_written_is_stored_as_if_it_had_been_read_at_once(tmp_path, first, then, day):
    now = datetime.now(UTC)
    log, whole = tmp_path / "app.log", tmp_path / "whole.log"
    log.write_text(first)
    summaries = [into(tmp_path, log, now=now, day=day)]
    with log.open("a") as file:
        file.write(then)
    whole.write_text(first + then)
    summaries += [into(tmp_path, log, now=now, day=day), into(tmp_path, log, now=now, day=day)]
    into(tmp_path / "at once", whole, now=now, day=day)
    assert stored_rows(tmp_path) == stored_rows(tmp_path / "at once")
    assert summaries[1].waiting == ()
    assert (summaries[2].stored, summaries[2].known[0].whole) == (0, True)
    for summary in summaries:
        assert summary.read == summary.stored + summary.joined + summary.blank
        assert sum(summary.counts.values()) == summary.stored


@pytest.mark.parametrize(
    ("first", "then", "rest"),
    [
        ("2026-09-10 10:00:01 INFO tw", "o and\n", ("o and", "info")),
        (TRACE, "ValueError: x\n", ("ValueError: x", "error")),
        (TRACE + "ValueError: y\n", "\tat a.B.c(D.java:1)\n", ("\tat a.B.c(D.java:1)", "error")),
    ],
)
def test_what_is_written_later_goes_on_with_the_time_and_the_severity_before_it(tmp_path, first, then, rest):
    log = tmp_path / "app.log"
    log.write_text(BEGUN + first)
    os.utime(log, (NOW.timestamp() - 3600,) * 2)
    assert into(tmp_path, log).waiting == ()
    with log.open("a") as file:
        file.write(then + LAST)
    os.utime(log, (NOW.timestamp() - 3600,) * 2)
    summary = into(tmp_path, log)
    assert (summary.read, summary.stored, summary.joined) == (2, 2, 0)
    assert ("2026-09-10 10:00:01+00:00", rest[0].encode(), rest[1]) in stored_rows(tmp_path)
    assert len(stored_rows(tmp_path)) == 4


@pytest.mark.parametrize("grown", [b"", b"2026-09-10 11:00:00 new\n"])
def test_of_two_ingests_of_a_file_at_once_one_stores_it(tmp_path, log, grown):
    def meanwhile(_octets: int) -> None:
        if not counts(tmp_path / "store"):
            with log.open("ab") as file:
                file.write(grown)
            into(tmp_path, log)

    with pytest.raises(IngestError, match=r"app\.log was stored meanwhile by another ingest. Nothing was stored"):
        into(tmp_path, log, progress=meanwhile)
    assert counts(tmp_path / "store") == {(1, DAY): 400 + bool(grown)}
    assert into(tmp_path, log).known[0].whole


def test_a_stream_that_was_put_on_another_day_is_another(tmp_path):
    options: dict[str, Any] = {"store": tmp_path / "store", "team_id": 1, "service": None, "now": NOW}
    for day in (DAY, date(2026, 9, 11)):
        assert ingest(io.BytesIO(LINES), day=day, **options).stored == 400
    with pytest.raises(IngestError, match="stored before"):
        ingest(io.BytesIO(LINES), day=DAY, **options)


def test_what_is_left_for_the_next_time_is_told_and_json_that_is_whole_is_not_left(tmp_path, capsys):
    log = tmp_path / "app.log"
    options: dict[str, Any] = {"team_id": 1, "service": None, "day": None, "now": datetime.now(UTC)}
    log.write_text("2026-09-10 10:00:01 INFO tw")
    assert run_ingest([log], store=tmp_path / "store", **options) == 0
    assert f"{log} was changed a moment ago, and its last 27 bytes are no whole log" in capsys.readouterr().out
    for content in ('{"time": 1700000000, "msg": "m"}', '[{"time": 1700000000,\n "msg": "m"}]'):
        log.write_text(content)
        summary = into(tmp_path, log, now=options["now"])
        assert (summary.stored, summary.waiting) == (1, ())


def test_what_differs_from_the_first_octet_on_or_behind_them_is_another_file(tmp_path, log):
    into(tmp_path, log)
    other = tmp_path / "other.log"
    for content in (b"2" + LINES[1:-2] + b"x\n", LINES[:-40] + b"\n", LINES[1:]):
        other.write_bytes(content)
        assert into(tmp_path, other).known == ()


def test_teams_and_days_have_their_own_and_a_copy_in_the_same_run_is_noticed(tmp_path, log):
    copy = tmp_path / "copy.log"
    copy.write_bytes(LINES)
    assert into(tmp_path, log, copy).stored == 400
    assert into(tmp_path, log, team_id=2).stored == 400
    assert into(tmp_path, log, day=date(2026, 9, 11)).stored == 400
    assert into(tmp_path, log, day=date(2026, 9, 11)).stored == 0
    assert counts(tmp_path / "store") == {(1, DAY): 400, (1, date(2026, 9, 11)): 400, (2, DAY): 400}


def test_an_ingest_that_failed_is_no_reason_to_leave_a_file_out(tmp_path, log):
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(LINES * 9)[:-9])
    with pytest.raises(IngestError):
        into(tmp_path, log, cut)
    assert into(tmp_path, log).stored == 400


def test_a_stream_that_was_stored_before_stores_nothing_and_is_told(tmp_path, log, monkeypatch, capsys):
    into(tmp_path, log)
    options: dict[str, Any] = {"store": tmp_path / "store", "team_id": 1, "service": None, "day": None, "now": NOW}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    assert run_ingest([], **options) == 1
    assert "was stored before" in capsys.readouterr().err
    assert counts(tmp_path / "store") == {(1, DAY): 400}
    assert run_ingest([log], **options) == 0
    printed = capsys.readouterr().out
    assert f"{log} was stored before ({log} on 2026-09-12 08:30 UTC): left out" in printed
    assert "--again" in printed
