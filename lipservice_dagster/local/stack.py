"""The embedded stack: PostgreSQL for Dagster and for LipService, Dagster's home, and `lipservice dev` over them.

Where LIPSERVICE_POSTGRES_DSN names a server, that one is used and none is started.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from lipservice_dagster.local import postgres
from lipservice_dagster.local.interrupts import interruptible
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database

_LEAST_FREE_BYTES = 300 * 1024**2
_START_SECONDS = 120
_STOP_SECONDS = 20
HOST = "127.0.0.1"
LOCK = "dev.lock"
"""File in the home that whoever runs a daemon over the stack holds locked."""


class StackError(Exception):
    """The stack could not be started; the message says what to do."""


@contextmanager
def database(settings: Settings) -> Iterator[Database]:
    """LipService's database with its tables up to date, for as long as the block lasts."""
    with _servers(settings) as (ours, _):
        found = Database(ours)
        try:
            found.upgrade()
            yield found
        finally:
            found.dispose()


@contextmanager
def dagster_home(settings: Settings) -> Iterator[tuple[Settings, Database]]:
    """The same with Dagster's storage, in the environment of this process and of those it starts.

    Yields the settings in force (the DSN filled in) and the database. A DAGSTER_HOME that is set is respected.
    """
    with _servers(settings) as (ours, dagsters):
        home = os.environ.get("DAGSTER_HOME") or str(write_dagster_yaml(settings))
        environment = {
            "DAGSTER_HOME": home,
            "LIPSERVICE_DAGSTER_POSTGRES_URL": _dagsters_url(dagsters),
            "LIPSERVICE_POSTGRES_DSN": ours,
            "LIPSERVICE_HOME": str(settings.home),
            "LIPSERVICE_LOGS_DSN": settings.logs_url(),
            # The materialisations of a run over many team-days are written together, not one at a time.
            "DAGSTER_EVENT_BATCH_SIZE": "200",
            # A code location that does not load for a while is no reason to give a backfill up.
            "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",
        }
        found = Database(ours)
        with _environment(environment):
            try:
                found.upgrade()
                yield settings.model_copy(update={"postgres_dsn": SecretStr(ours)}), found
            finally:
                found.dispose()


def dev(settings: Settings, port: int, say: Callable[[str], None]) -> int:
    """Keep the stack, the Dagster UI and the HTTP API running until Ctrl-C or SIGTERM; the exit code.

    Raises StackError where a port is taken or Dagster does not come up; nothing stays behind.
    """
    _require_free(port, f"make dev PORT={port + 1}")
    with _only_one(settings.home), dagster_home(settings):
        _require_free(settings.api_port, f"LIPSERVICE_API_PORT={settings.api_port + 1}")
        set_pools(settings)
        command = [sys.executable, "-m", "dagster", "dev", "-m", "lipservice_dagster.definitions"]
        child = subprocess.Popen(
            [*command, "--host", HOST, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches us alone; we tell Dagster, wait, and then end what is left of its group.
            start_new_session=True,
            preexec_fn=prepare_child,
        )
        api = subprocess.Popen(
            [sys.executable, "-m", "lipservice_dagster.serving", "--port", str(settings.api_port)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=prepare_child,
        )
        try:
            _wait_for_ui(child, port)
            say(f"\nThe Dagster UI is at http://{HOST}:{port} (Ctrl-C ends it)")
            say(f"The HTTP API is at http://{HOST}:{settings.api_port}, its routes at /docs\n")
            return child.wait()
        except KeyboardInterrupt:
            say("\nStopping …")
            return 0
        finally:
            end_group(api)
            end_group(child)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two Dagster daemons over one storage would both drive it."""
    _require_room(home)
    with (home / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"`lipservice dev` is already running over {home}: use it, end it, or set LIPSERVICE_HOME to another"
                " folder"
            ) from error
        yield


def _require_free(port: int, instead: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise StackError(
                f"Port {port} is taken ({error.strerror}): another `lipservice dev` may be running. End it, or choose"
                f" another port: {instead}"
            ) from error


def _wait_for_ui(child: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StackError(f"Dagster ended with exit code {child.returncode} while it started; its output is above")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/server_info", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise StackError(f"Dagster did not answer on port {port} within {_START_SECONDS} s; its output is above")


def prepare_child() -> None:
    """Hear SIGINT, which a shell's background jobs are born deaf to; on Linux, end when the supervisor is killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ask Dagster to end, then end whatever of its group is left."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                os.killpg(child.pid, sign)
            except ProcessLookupError:
                return
            time.sleep(0.2)


@contextmanager
def _servers(settings: Settings) -> Iterator[tuple[str, str]]:
    """DSNs of LipService's and of Dagster's database."""
    with interruptible():
        if settings.postgres_dsn is not None:
            dsn = settings.postgres_dsn.get_secret_value()
            yield dsn, dsn
            return
        _require_room(settings.home)
        with postgres.running(settings.home) as server:
            for name in ("lipservice", "dagster"):
                _create_database(server.dsn("postgres"), name)
            yield server.dsn("lipservice"), server.dsn("dagster")


def _require_room(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"Could not make {home}: {error.strerror}. Set LIPSERVICE_HOME to a folder of your own"
        ) from error
    free = shutil.disk_usage(home).free
    if free < _LEAST_FREE_BYTES:
        raise StackError(
            f"Only {free / 1024**2:.0f} MB are free where {home} lies; the stack needs"
            f" {_LEAST_FREE_BYTES / 1024**2:.0f}. Free some space, or set LIPSERVICE_HOME to a folder on another disk"
        )


def _create_database(server: str, name: str) -> None:
    engine = sa.create_engine(_psycopg2(server), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": 6_020_000_000_002})
            if connection.execute(sa.text("SELECT 1 FROM pg_database WHERE datname = :n"), {"n": name}).first() is None:
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": 6_020_000_000_002})
    finally:
        engine.dispose()


def _psycopg2(dsn: str) -> str:
    # The plain scheme would make dagster-postgres take another driver, with which its notifications fail.
    return sa.make_url(dsn).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def _dagsters_url(dsn: str) -> str:
    """Of Dagster's storage: that of a DAGSTER_HOME that is set may be another than the one here."""
    own = os.environ.get("LIPSERVICE_DAGSTER_POSTGRES_URL") if os.environ.get("DAGSTER_HOME") else None
    return own or _psycopg2(dsn)


def set_pools(settings: Settings) -> None:
    """Give the pools of our own Dagster their limits, which are kept in its storage and not in its file.

    Within `dagster_home`. Somebody else's DAGSTER_HOME has limits of its own.
    """
    from dagster import DagsterInstance

    if Path(os.environ["DAGSTER_HOME"]) != settings.home / "dagster":
        return
    with DagsterInstance.get() as instance:
        limits = {"llm": settings.llm_concurrent_runs, "log_store": settings.log_store_concurrent_runs}
        for pool, limit in limits.items():
            instance.event_log_storage.set_concurrency_slots(pool, limit)


def write_dagster_yaml(settings: Settings) -> Path:
    """Write Dagster's configuration for these settings; the folder that is its home."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    content = {
        "storage": {
            "custom": {
                "module": "lipservice_dagster.dagster_storage",
                "class": "PooledPostgresStorage",
                "config": {"postgres_url": {"env": "LIPSERVICE_DAGSTER_POSTGRES_URL"}},
            }
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(home / "compute_logs")},
        },
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(home)},
        },
        "concurrency": {
            "runs": {
                "max_concurrent_runs": settings.concurrent_runs,
                # Runs of one team take turns: those that were asked for by sensors and schedules, and those of a
                # partition by hand, which Dagster tags itself.
                "tag_concurrency_limits": [
                    {"key": key, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
                    for key in ("lipservice/team", "dagster/partition/team")
                ],
            },
            "pools": {"default_limit": 1, "granularity": "op"},
        },
        # A worker that died is replaced; a step that failed has been tried again already, where that could help.
        "run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False},
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": 15,
            "start_timeout_seconds": 600,
            "max_runtime_seconds": settings.max_runtime_minutes * 60,
            "free_slots_after_run_end_seconds": 60,
        },
        "run_launcher": {"module": "lipservice_dagster.local.launcher", "class": "WatchedRunLauncher"},
        "code_servers": {"local_startup_timeout": 600},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }
    aside = home / f".dagster.yaml.{os.getpid()}"
    aside.write_text("# Written at each start; settings are LIPSERVICE_… variables.\n" + json.dumps(content, indent=2))
    aside.replace(home / "dagster.yaml")
    return home


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
