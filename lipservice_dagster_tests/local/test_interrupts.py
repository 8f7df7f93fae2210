"""SIGTERM and SIGINT end the demo cleanly at any moment, and it runs again; a killed one is closed by the next."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lipservice_dagster.local import stack
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import runs
from lipservice_dagster_tests.test_cli import LIPSERVICE, environment, lipservice, ok, processes

SMALL = ("demo", "--teams", "1", "--days", "4", "--logs-per-day", "2000")


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lipservice-tests-"))
    folder.chmod(0o755)
    yield folder
    assert processes(folder) == []
    shutil.rmtree(folder)


def start(home: Path, until: Path, seconds: float) -> subprocess.Popen[str]:
    """The demo, let run until a path is there and some seconds more."""
    demo = subprocess.Popen(
        [str(LIPSERVICE), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(home),
        cwd=home,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not until.exists():
        assert demo.poll() is None, demo.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(seconds)
    return demo


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("until", "seconds"), [("postgres.lease", 0.2), ("log_store/logs", 0.3), ("log_store/logs", 2.5)]
)
def test_a_signal_ends_the_demo_and_leaves_nothing(home: Path, sign: int, until: str, seconds: float) -> None:
    demo = start(home, home / until, seconds)
    demo.send_signal(sign)
    told, _ = demo.communicate(timeout=40)
    assert demo.returncode == 1, told
    assert "Aborted!" in told
    assert "Traceback" not in told
    assert processes(home) == []


@pytest.mark.timeout(300)
def test_after_a_kill_the_next_run_finds_its_way_and_closes_the_dead_one(home: Path) -> None:
    demo = start(home, home / "log_store/logs", 2.5)
    demo.kill()
    demo.communicate(timeout=40)
    ok(lipservice(home, *SMALL))
    with stack.database(Settings(_env_file=None, home=home)) as database:  # type: ignore[call-arg]
        history = runs.history(database, 1, limit=1000)
    assert "succeeded" in set(history["status"])
    assert "running" not in set(history["status"])
