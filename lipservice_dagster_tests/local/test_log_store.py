import errno
import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import clickhouse_connect
import pyarrow as pa
import pytest

from lipservice_dagster.local import log_store
from lipservice_dagster.local.log_store import LOGS_SCHEMA, LogStoreError, LogWriter, counts, team_days

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def records(rows: list[dict]) -> pa.Table:
    """Rows with the columns a test does not care about filled in."""
    usual = {
        "timestamp": DAY,
        "observed_timestamp": DAY,
        "uuid": "u",
        "trace_id": b"",
        "span_id": b"",
        "body": b"hello",
        "severity_text": "info",
        "severity_number": 9,
        "service_name": b"web",
        "resource_attributes": [],
        "attributes": [],
        "event_name": "",
    }
    return pa.Table.from_pylist([usual | row for row in rows], schema=LOGS_SCHEMA)


def ask(root: Path, select: str, kind: str = "logs") -> list[tuple]:
    client = clickhouse_connect.get_client(interface="chdb")
    folders = {"logs": "team_id=*/day=*", "volumes": "day=*"}[kind]
    found = client.query(select.format(f"file('{root}/{kind}/{folders}/*.parquet', Parquet)"))
    return [tuple(row) for row in found.result_rows]


def leftovers(root: Path) -> list[Path]:
    return [path for path in (root / ".staging").iterdir() if path.is_dir()]


def test_rows_land_in_the_folder_of_their_utc_day_and_clickhouse_reads_them(tmp_path):
    last = DAY - timedelta(microseconds=1)
    with LogWriter(tmp_path) as writer:
        writer.add(4, records([{"timestamp": DAY}, {"timestamp": last}, {"timestamp": DAY}]))
        writer.add(9, records([{"timestamp": DAY}]))
    expected = {(4, date(2026, 2, 28)): 1, (4, date(2026, 3, 1)): 2, (9, date(2026, 3, 1)): 1}
    assert writer.counts == expected
    assert counts(tmp_path) == expected
    assert team_days(tmp_path) == sorted(expected)
    found = ask(
        tmp_path, "SELECT team_id, day, count(), countIf(toDate(timestamp) = day) FROM {} GROUP BY ALL ORDER BY ALL"
    )
    assert found == [(team, day, n, n) for (team, day), n in sorted(expected.items())]


def test_any_octets_and_a_body_of_megabytes_come_back_as_they_were(tmp_path):
    bodies = [bytes(range(256)), b"\xff\x00\xfe", b"", b"x" * 5_000_000, "ż\n\tat Foo".encode()]
    with LogWriter(tmp_path) as writer:
        writer.add(1, records([{"body": body, "attributes": [(b"\xff", b"\x00")]} for body in bodies]))
    found = ask(tmp_path, "SELECT hex(body), hex(attributes[unhex('ff')]) FROM {}")
    assert sorted(found) == sorted((body.hex().upper(), "00") for body in bodies)


def test_columns_are_not_nullable_in_clickhouse(tmp_path):
    with LogWriter(tmp_path) as writer:
        writer.add(1, records([{}]))
    for kind in ("logs", "volumes"):
        types = [row[1] for row in ask(tmp_path, "DESCRIBE {}", kind)]
        assert not [t for t in types if "Nullable" in t]


def test_volumes_count_the_same_logs_and_octets_by_five_minutes_service_environment_and_severity(tmp_path):
    rows = [
        {
            "timestamp": DAY + timedelta(seconds=97 * i),
            "service_name": [b"web", b"api"][i % 2],
            "severity_text": ["INFO", "info", "Error"][i % 3],
            "body": b"b" * i,
            "resource_attributes": [
                [(b"deployment.environment.name", b"prod")],
                [(b"deployment.environment", b"old")],
                [],
            ][i % 3],
            "attributes": [(b"k", b"v" * (i % 5))] * (i % 3),
        }
        for i in range(400)
    ]
    with LogWriter(tmp_path) as writer:
        writer.add(1, records(rows))
    per_row = (
        "length(body) + arraySum(x -> length(x), arrayConcat(mapKeys(attributes), mapValues(attributes),"
        " mapKeys(resource_attributes), mapValues(resource_attributes)))"
    )
    from_logs = ask(
        tmp_path,
        "SELECT toStartOfFiveMinutes(timestamp) AS t, service_name, concat("
        "resource_attributes['deployment.environment.name'], resource_attributes['deployment.environment']) AS e,"
        f" lower(severity_text) AS s, count(), sum({per_row}) FROM {{}} GROUP BY ALL ORDER BY ALL",
    )
    from_volumes = ask(
        tmp_path,
        "SELECT toStartOfFiveMinutes(time_bucket), service_name, environment, severity_text, sum(log_count), sum(bytes)"
        " FROM {} GROUP BY ALL ORDER BY ALL",
        "volumes",
    )
    assert from_logs == from_volumes
    assert {row[2] for row in from_volumes} == {"prod", "old", ""}


def test_a_second_writer_adds_and_replace_takes_the_place_of_its_team_days_only(tmp_path):
    for _ in range(2):
        with LogWriter(tmp_path) as writer:
            writer.add(1, records([{}, {"timestamp": DAY + timedelta(days=1)}]))
            writer.add(2, records([{}]))
    with LogWriter(tmp_path, replace=True) as writer:
        writer.add(1, records([{}] * 5))
    assert counts(tmp_path) == {(1, DAY.date()): 5, (1, date(2026, 3, 2)): 2, (2, DAY.date()): 2}
    assert ask(tmp_path, "SELECT sum(log_count) FROM {}", "volumes") == [(9,)]
    assert not leftovers(tmp_path)


def test_volumes_of_all_teams_stand_in_few_files_a_day_and_none_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(log_store, "VOLUME_BYTES", 200)  # so that a writer spills, too
    writers = 2 * log_store.VOLUME_PARTS
    for team in range(writers):
        with LogWriter(tmp_path) as writer:
            writer.add(team, records([{}, {"timestamp": DAY + timedelta(days=1)}]))
        for day in ("2026-03-01", "2026-03-02"):
            parts = list((tmp_path / "volumes" / f"day={day}").glob("*.parquet"))
            assert 1 <= len(parts) <= log_store.VOLUME_PARTS
    by_team = ask(tmp_path, "SELECT team_id, sum(log_count) FROM {} GROUP BY ALL ORDER BY ALL", "volumes")
    assert by_team == [(team, 2) for team in range(writers)]


def test_an_exception_publishes_nothing_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(log_store, "PART_ROWS", 10)  # so that parts are on disk when it happens

    def fail() -> None:
        with LogWriter(tmp_path, replace=True) as writer:
            writer.add(1, records([{}] * 35))
            raise RuntimeError("reader broke")

    with pytest.raises(RuntimeError, match="reader broke"):
        fail()
    assert counts(tmp_path) == {}
    assert not leftovers(tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


def test_parts_are_bounded_and_sorted_and_no_row_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(log_store, "PART_ROWS", 100)
    monkeypatch.setattr(log_store, "PART_BYTES", 20_000)
    rows = [
        {"timestamp": DAY + timedelta(hours=i % 48, seconds=-i), "body": b"%d" % i, "service_name": b"s%d" % (i % 3)}
        for i in range(1000)
    ]
    with LogWriter(tmp_path) as writer:
        writer.add(1, records(rows[:700]))
        writer.add(1, records(rows[700:]))
    files = list((tmp_path / "logs").rglob("*.parquet"))
    tables = [pa.parquet.read_table(path, partitioning=None) for path in files]
    assert max(t.num_rows for t in tables) <= 100
    for table in tables:
        keys = list(zip(table["service_name"].to_pylist(), table["timestamp"].to_pylist(), strict=True))
        assert keys == sorted(keys)
    bodies = sorted(body for t in tables for body in t["body"].to_pylist())
    assert bodies == sorted(b"%d" % i for i in range(1000))


def test_a_rename_that_fails_is_taken_back_and_the_old_files_stay(tmp_path, monkeypatch):
    with LogWriter(tmp_path) as writer:
        writer.add(1, records([{}] * 3))
        writer.add(2, records([{}] * 4))
    before = sorted(path for path in tmp_path.rglob("*.parquet"))
    real = os.replace
    seen: list[Path] = []

    def full(source, target):
        if str(source).endswith(".parquet") and len(seen) < 100:
            seen.append(source)
            if len(seen) == 6:
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(log_store.os, "replace", full)
    writer = LogWriter(tmp_path, replace=True).__enter__()
    writer.add(1, records([{}] * 7))
    writer.add(2, records([{}] * 7))
    with pytest.raises(LogStoreError, match=r"No space left.*free some space.*nothing was published"):
        writer.__exit__(None, None, None)
    assert len(seen) > 6  # renames had been made, and were taken back
    assert sorted(path for path in tmp_path.rglob("*.parquet")) == before
    assert not leftovers(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from lipservice_dagster.local import log_store
from lipservice_dagster.local.demo_logs import generate
from datetime import date
at, seen, real = int(sys.argv[2]), [], os.replace
def replace(source, target):
    if str(source).endswith(".parquet"):
        seen.append(source)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
with log_store.LogWriter(Path(sys.argv[1]), replace=True) as writer:
    day = date(2026, 3, 1)
    for team in (1, 2):
        writer.add(team, generate(team, day, until=day, days=1, logs_per_day=200))
"""


@pytest.mark.parametrize("at", [1, 4])
def test_what_a_killed_writer_left_is_taken_back_by_the_next_one(tmp_path, at):
    with LogWriter(tmp_path) as writer:
        writer.add(1, records([{}] * 3))
    dead = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at)], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert leftovers(tmp_path)
    with LogWriter(tmp_path) as writer:
        writer.add(3, records([{}]))
    assert counts(tmp_path) == {(1, DAY.date()): 3, (3, DAY.date()): 1}
    assert len(list(tmp_path.rglob("*.parquet"))) == 4
    assert not leftovers(tmp_path)


def test_a_living_writer_is_left_alone_by_others(tmp_path):
    with LogWriter(tmp_path) as outer:
        outer.add(1, records([{}]))
        with LogWriter(tmp_path) as inner:
            inner.add(2, records([{}]))
        assert len(leftovers(tmp_path)) == 1
        assert counts(tmp_path) == {(2, DAY.date()): 1}
    assert sorted(team for team, _ in counts(tmp_path)) == [1, 2]


def test_writers_at_once_lose_nothing(tmp_path):
    def write(team: int) -> None:
        for i in range(150):
            with LogWriter(tmp_path) as writer:
                if i % 30 == 0:  # those that add nothing come and go the fastest
                    writer.add(team, records([{}] * 10))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, (1, 1, 2, 2)))
    assert counts(tmp_path) == {(1, DAY.date()): 100, (2, DAY.date()): 100}
    assert not leftovers(tmp_path)


def test_a_staging_folder_goes_only_while_nobody_else_holds_the_area(tmp_path):
    writer = LogWriter(tmp_path).__enter__()
    with (tmp_path / ".staging" / "lock").open("r+") as area, ThreadPoolExecutor(1) as pool:
        fcntl.flock(area, fcntl.LOCK_EX)
        leaving = pool.submit(writer.__exit__, None, None, None)
        done, _ = wait([leaving], timeout=0.3)
        stayed = len(leftovers(tmp_path))
        fcntl.flock(area, fcntl.LOCK_UN)
        leaving.result()
    assert (done, stayed) == (set(), 1)
    assert not leftovers(tmp_path)


def test_a_folder_whose_writer_died_before_it_could_say_that_it_lives_is_removed(tmp_path):
    (tmp_path / ".staging" / "1-dead" / "logs").mkdir(parents=True)
    with LogWriter(tmp_path) as writer:
        writer.add(1, records([{}]))
    assert not leftovers(tmp_path)
    assert counts(tmp_path) == {(1, DAY.date()): 1}


LIMITED = """
import resource, sys
from datetime import date
from pathlib import Path
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogStoreError, LogWriter
day = date(2026, 3, 1)
table = generate(1, day, until=day, days=1, logs_per_day=2000)
try:
    with LogWriter(Path(sys.argv[1])) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        writer.add(1, table)
except LogStoreError as error:
    print(error)
"""


def test_a_file_that_cannot_be_written_whole_is_said_and_nothing_is_published(tmp_path):
    run = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"Writing logs failed at {tmp_path}")
    assert "File too large" in run.stdout
    assert "nothing was published" in run.stdout
    assert counts(tmp_path) == {}
    assert not leftovers(tmp_path)


def test_a_root_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogStoreError, match=r"Opening the log store.*file"):
        LogWriter(tmp_path / "file").__enter__()


def test_what_is_not_a_table_of_logs_is_refused(tmp_path):
    with LogWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match=r"lacks the columns body"):
            writer.add(1, records([{}]).drop_columns(["body"]))
        with pytest.raises(ValueError, match=r"1900-01-01 to 2299-12-31"):
            writer.add(1, records([{"timestamp": datetime(1700, 1, 1, tzinfo=UTC)}]))
        with pytest.raises(ValueError, match="not a PostHog team id"):
            writer.add(-1, records([{}]))
        nulls = records([{}]).set_column(5, "body", pa.array([None], pa.binary()))
        with pytest.raises(ValueError, match="body have nulls"):
            writer.add(1, nulls)
    assert counts(tmp_path) == {}


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    folder = tmp_path / "logs" / "team_id=1" / "day=2026-03-01"
    folder.mkdir(parents=True)
    (folder / "part-x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(LogStoreError, match=r"part-x\.parquet"):
        counts(tmp_path)
