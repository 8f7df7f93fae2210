"""dbt over LipService's PostgreSQL: its project, its manifest, and one build in a process of its own.

The manifest is made once for each state of the project and kept. The password goes to dbt through the environment, and
dbt hides variables of that name in its logs.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lipservice_dagster.storage.database import Database

_PACKAGE = Path(__file__).resolve().parent.parent
# Inside the package where it was installed from a wheel, beside it in a checkout.
PROJECT = next(p for p in (_PACKAGE / "dbt_models", _PACKAGE.parent / "dbt_models") if p.is_dir())
_SSL = ("sslmode", "sslrootcert")


class DbtError(Exception):
    """dbt could not do what it was asked for; the message holds the end of its output."""


def kept(home: Path, name: str) -> Path:
    """A file that is made of the project once: below it, or below ``home`` where the project may not be written to.

    Where there is none yet, the path that it is to be written to; the folder is there.
    """
    places = [folder / name for folder in (PROJECT / "target", home / "dbt")]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        found = places[0] if os.access(PROJECT, os.W_OK) else places[1]
        found.parent.mkdir(parents=True, exist_ok=True)
    return found


@cache
def fingerprint() -> str:
    """The state of the project and of dbt, as 16 hex digits."""
    digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-postgres')}".encode())
    for path in sorted(p for p in PROJECT.rglob("*") if p.suffix in (".sql", ".yml") and "target" not in p.parts):
        digest.update(f"\n{path.relative_to(PROJECT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def manifest(home: Path) -> dict[str, Any]:
    """The project's manifest; made (some seconds) where none is kept for this state of it."""
    found = kept(home, f"manifest-{fingerprint()}.json")
    if not found.is_file():
        with tempfile.TemporaryDirectory(dir=found.parent, prefix="parsing-") as folder:
            _run("parse", Path(folder), {}, lambda _: None)
            os.replace(Path(folder) / "manifest.json", found)  # whole, also for a process that makes it too
    read: dict[str, Any] = json.loads(found.read_text())
    return read


@dataclass(frozen=True)
class Result:
    """What dbt says of a model or a test."""

    unique_id: str
    status: str
    seconds: float
    message: str
    rows: int | None
    failures: int | None

    @property
    def passed(self) -> bool:
        """Whether the model was built, or the test passed."""
        return self.status in ("success", "pass")


def build(
    database: Database, models: list[str], variables: Mapping[str, Any], schema: str, log: Callable[[str], None]
) -> list[Result]:
    """Build these models in ``schema`` and run their tests; a line of dbt's output at a time goes to ``log``.

    A model or test that fails is a result as any other, and what depends on it is skipped. Raises DbtError where dbt
    itself ends without results.
    """
    arguments = ["--select", *models, "--vars", json.dumps(variables)]
    with tempfile.TemporaryDirectory(prefix="lipservice-dbt-") as folder:
        said = _run("build", Path(folder), environment(database, schema), log, arguments)
        results = Path(folder) / "run_results.json"
        if not results.is_file():
            raise DbtError(f"dbt ended without results:\n{said}")
        return [
            Result(
                r["unique_id"],
                r["status"],
                float(r["execution_time"]),
                r["message"] or "",
                (r["adapter_response"] or {}).get("rows_affected"),
                r["failures"],
            )
            for r in json.loads(results.read_text())["results"]
        ]


def environment(database: Database, schema: str) -> dict[str, str]:
    """The variables of profiles.yml and sources.yml for this database."""
    url = sa.make_url(database.dsn)
    with database.engine.connect() as connection:
        tables = connection.execute(sa.text("SELECT current_schema()")).scalar_one()
    query = {k: v if isinstance(v, str) else v[-1] for k, v in url.query.items()}
    values = {
        "LIPSERVICE_DBT_HOST": url.host or query.get("host"),
        "LIPSERVICE_DBT_PORT": str(url.port or query.get("port") or 5432),
        "LIPSERVICE_DBT_USER": url.username or query.get("user"),
        "DBT_ENV_SECRET_LIPSERVICE_PASSWORD": url.password or query.get("password"),
        "LIPSERVICE_DBT_DATABASE": url.database,
        "LIPSERVICE_DBT_SCHEMA": schema,
        "LIPSERVICE_DBT_TABLES_SCHEMA": tables,
    } | {f"LIPSERVICE_DBT_{name.upper()}": query.get(name) for name in _SSL}
    return {k: str(v) for k, v in values.items() if v}


def _run(
    command: str,
    target: Path,
    variables: Mapping[str, str],
    log: Callable[[str], None],
    arguments: list[str] | None = None,
) -> str:
    """Run dbt; the last lines of what it said. Raises DbtError where it does not know what to do (exit code 2)."""
    # LIPSERVICE_… of the caller's holds DSNs and keys that are none of dbt's business.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LIPSERVICE_", "DBT_"))}
    folders = {
        "DBT_PROJECT_DIR": PROJECT,
        "DBT_PROFILES_DIR": PROJECT,
        "DBT_TARGET_PATH": target,
        "DBT_LOG_PATH": target,
    }
    settings = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DBT_USE_COLORS": "false", "DBT_VERSION_CHECK": "true"}
    last: list[str] = []
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("dbt")), command, *(arguments or [])],
        env=inherited | {k: str(v) for k, v in folders.items()} | settings | dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        try:
            for line in child.stdout or ():
                if text := line.strip():
                    log(text)
                    last = [*last[-30:], text]
        except BaseException:
            child.terminate()  # dbt cancels its queries; the days in work stay as they were
            raise
    said = "\n".join(last)
    # 1: a model or a test failed, which the results tell. 2: nothing was done.
    if child.returncode not in (0, 1) or (command == "parse" and child.returncode):
        raise DbtError(f"`dbt {command}` ended with exit code {child.returncode}:\n{said}")
    return said
