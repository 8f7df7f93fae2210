"""The command line on a stack of its own: whole commands in processes, as a person runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from lipservice_dagster.cli import cli
from lipservice_dagster.commands import policy as of_policy
from lipservice_dagster.core import frames
from lipservice_dagster.core.policy import keep_all, to_json
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import overrides
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.services import register
from lipservice_dagster.storage.team_days import TeamDayRows, write

LIPSERVICE = Path(sys.executable).with_name("lipservice")
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home for the module's stack; nothing of it may run at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lipservice-tests-"))
    folder.chmod(0o755)
    yield folder
    assert processes(folder) == []
    shutil.rmtree(folder)


def processes(home: Path) -> list[str]:
    """Command lines of the processes that name this home, in their arguments or environment."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            text = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
        except OSError:
            continue
        if str(home).encode() in text and int(proc.name) != os.getpid():
            found.append(text.split(b"\0", 1)[0].decode(errors="replace"))
    return found


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIPSERVICE_", "DAGSTER_"))}
    # A key in the environment shall not make a test call a paid API.
    return kept | {"LIPSERVICE_HOME": str(home), "LIPSERVICE_ADVISOR": "rules"} | dict(extra or {})


def lipservice(
    home: Path, *arguments: str, stdin: str | None = None, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LIPSERVICE), *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env=environment(home, extra),
        cwd=home,
        timeout=280,
        check=False,
    )


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.timeout(600)
def test_the_demo_prints_what_it_found_leaves_no_process_and_runs_again(home: Path) -> None:
    first = ok(lipservice(home, "demo", "--days", "5", "--logs-per-day", "3000"))
    assert processes(home) == []
    for word in ("Harbour Store", "patterns", "anomalies", "would save", "pass the gate", "make dev", "rate_spike"):
        assert word in first
    second = ok(lipservice(home, "demo", "--days", "5", "--logs-per-day", "3000"))
    findings = [line for line in first.splitlines() if "patterns in" in line]
    assert findings
    assert findings == [line for line in second.splitlines() if "patterns in" in line]
    listed = ok(lipservice(home, "policy", "list", "--team", "1"))
    assert "shadow" in listed
    refused = lipservice(home, "ingest", "--team", "1", "--service", "x", stdin="a\n")
    assert refused.returncode == 1
    assert "belongs to the demo" in refused.stderr


@pytest.mark.timeout(600)
def test_lines_become_a_policy_that_a_person_releases(home: Path) -> None:
    lines = "".join(f"{YESTERDAY}T10:00:{i % 60:02}Z INFO request {i} served in {i % 7} ms\n" for i in range(3000))
    ingested = ok(lipservice(home, "ingest", "--team", "7", "--service", "shop", stdin=lines))
    assert "3,000 stored" in ingested
    found = ok(lipservice(home, "run", "--team", "7", "--day", "yesterday"))
    assert "3,000 logs" in found
    assert "shop" in ok(lipservice(home, "services", "--team", "7"))
    seven = next(line for line in ok(lipservice(home, "teams")).splitlines() if "team 7" in line)
    assert "logging" in seven
    assert str(YESTERDAY) in seven
    assert "denied" in ok(lipservice(home, "teams", extra={"LIPSERVICE_TEAMS_DENIED": "[7]"}))
    document = json.loads(ok(lipservice(home, "policy", "show", "--team", "7", "--service", "shop", "--json")))
    exported = ok(lipservice(home, "policy", "export", "--team", "7", "--service", "shop", "--format", "vector"))
    assert "In shadow: everything is kept" in exported
    assert document["expected"]["logs"] == 3000
    shadow = ok(lipservice(home, "policy", "list", "--team", "7"))
    assert "shadow" in shadow
    assert "live" not in shadow
    shop = ("--team", "7", "--service", "shop", "--by", "ada", "--reason", "fine")
    early = lipservice(home, "policy", "release", *shop)
    assert early.returncode == 1
    assert "Only 0 of the 3 days" in early.stderr
    ok(lipservice(home, "policy", "release", *shop, "--unproven"))
    assert "is pinned" in ok(lipservice(home, "policy", "rollback", *shop, "--day", str(YESTERDAY)))
    history = ok(lipservice(home, "policy", "history", "--team", "7", "--service", "shop"))
    assert history.index("pinned") < history.index("live") < history.index("shadow")
    assert "ada" in history
    changes = ok(lipservice(home, "policy", "diff", str(YESTERDAY), "in-force", "--team", "7", "--service", "shop"))
    assert "nothing changes" in changes
    over_a_pin = lipservice(home, "policy", "release", *shop, "--unproven")
    assert over_a_pin.returncode == 1
    assert "Unpin it first, lipservice policy unpin" in over_a_pin.stderr
    assert "stays live until a later day's policy passes" in ok(lipservice(home, "policy", "unpin", *shop))
    assert "is live from now on" in ok(lipservice(home, "policy", "release", *shop, "--unproven"))
    of_shop, who = ("--team", "7", "--service", "shop"), ("--owner", "ada", "--reason", "finance reads it")
    capped = ("--cap", "0.1", "--until", "3d", "--template", lines.split("\n", 1)[0])
    added = ok(lipservice(home, "override", "add", *of_shop, *capped, *who))
    assert "at most 0.1 kept (ada, until" in added
    assert "it speaks of 1 pattern of the newest day" in added
    contradicting = ("--never-sample", "--no-end", *capped[4:])
    refused = lipservice(home, "override", "add", *of_shop, *contradicting, *who)
    assert refused.returncode == 1
    assert "override 1 in force says already" in refused.stderr
    assert "finance" in ok(lipservice(home, "override", "list", "--team", "7"))
    ok(lipservice(home, "override", "remove", "1", "--team", "7", "--by", "bob", "--reason", "over"))
    assert "removed" in ok(lipservice(home, "override", "list", "--team", "7", "--history"))
    assert "3,000" in ok(lipservice(home, "dropped", "--team", "7", "--service", "shop"))
    unknown = lipservice(home, "policy", "show", "--team", "7", "--service", "nope")
    assert unknown.returncode == 1
    assert "'shop'" in unknown.stderr
    assert processes(home) == []


@pytest.mark.timeout(300)
def test_dev_serves_the_ui_refuses_a_second_and_ends_whole(home: Path) -> None:
    port, api = free_port(), free_port()
    with_api = environment(home, {"LIPSERVICE_API_PORT": str(api)})
    with (home / "dev.out").open("w") as out:
        dev = subprocess.Popen(
            [str(LIPSERVICE), "dev", "--port", str(port)],
            stdout=out,
            stderr=out,
            env=with_api,
            cwd=home,
        )
    try:
        deadline = time.monotonic() + 150
        while "The Dagster UI is at" not in (home / "dev.out").read_text():
            assert dev.poll() is None, (home / "dev.out").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        query = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql", query, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            nodes = json.load(answer)["data"]["assetNodes"]
        assert {"raw_logs", "policy_releases"} <= {n["assetKey"]["path"][0] for n in nodes}
        key = ok(lipservice(home, "keys", "create", "--team", "7", "--name", "a test", "--access", "read")).strip()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{api}/api/v1/services/?team_id=7", headers={"Authorization": f"Bearer {key}"}
        )
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
                    assert answer.status == 200
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline + 60
                time.sleep(0.5)
        assert "a test" in ok(lipservice(home, "keys", "list", "--team", "7"))
        second = lipservice(home, "dev", "--port", str(free_port()))
        assert second.returncode == 1
        assert "already running" in second.stderr
    finally:
        dev.send_signal(signal.SIGTERM)
        dev.wait(90)
    assert dev.returncode == 0
    assert processes(home) == []


def test_a_taken_port_is_told_and_nothing_is_started(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = lipservice(home, "dev", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "is taken" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes(home) == []


def test_settings_are_shown_with_their_source_and_without_secrets(home: Path) -> None:
    (home / ".env").write_text("LIPSERVICE_WINDOW_DAYS=9\n")
    try:
        extra = {
            "LIPSERVICE_POSTGRES_DSN": "postgresql://me:secret@db.example:5432/x",
            "ANTHROPIC_API_KEY": "sk-ant-secret",
            "LIPSERVICE_OPENAI_API_KEY": "secret",
        }
        shown = ok(lipservice(home, "config", extra=extra))
    finally:
        (home / ".env").unlink()
    assert "secret" not in shown
    assert "postgresql://***@db" in shown
    assert "db.example" in shown
    window = next(line for line in shown.splitlines() if "WINDOW_DAYS" in line)
    assert "9" in window
    assert ".env" in window
    keys = [line for line in shown.splitlines() if "_API_KEY" in line and "***" in line]
    assert len(keys) == 2
    assert all("environment" in line for line in keys)


def test_wrong_settings_are_named(home: Path) -> None:
    done = lipservice(home, "config", extra={"LIPSERVICE_WINDOW_DAYS": "soon", "LIPSERVICE_LOGS_DSN": "mysql://x"})
    assert done.returncode == 1
    assert "LIPSERVICE_WINDOW_DAYS" in done.stderr
    assert "clickhouse://" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("TEAM_NAMES", "notjson", "team_names"),
        ("LOGS_DSN", "clickhouse://u:p@h:99999/x", "port"),
        ("POSTGRES_DSN", "postgresql://u:se#cret@h/x", "%23"),
        ("POSTGRES_DSN", "postgresql://u:se/cret@h/x", "%2F"),
        ("POSTGRES_DSN", "postgresql://u:cret@127.0.0.1:9/x", "PostgreSQL"),
        ("HOME", "/proc/nowhere", "LIPSERVICE_HOME"),
    ],
)
def test_what_is_wrong_is_told_without_a_traceback_or_a_secret(
    home: Path, variable: str, value: str, told: str
) -> None:
    done = lipservice(home, "policy", "list", "--team", "1", extra={f"LIPSERVICE_{variable}": value})
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "cret" not in done.stdout + done.stderr


def test_a_dotenv_that_is_no_text_is_told(home: Path) -> None:
    (home / ".env").write_bytes(b"LIPSERVICE_WINDOW_DAYS=\xff\n")
    try:
        done = lipservice(home, "config")
    finally:
        (home / ".env").unlink()
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert ".env" in done.stderr


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["dev"], ["ingest"], ["run"], ["policy", "release"], ["override", "add"], ["db"]]
)
def test_help_teaches(home: Path, command: list[str]) -> None:
    assert "Usage: lipservice" in ok(lipservice(home, *command, "--help"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["--cap", "0.1", "--until", "soon"], "'soon' is no end; ends read"),
        (["--cap", "0.1", "--until", "9999-12-31T23:59-12:00"], "'9999-12-31T23:59-12:00' is no end"),
        (["--cap", "1.5", "--until", "3d"], "--cap 1.5 is out of bounds"),
        (["--cap", "0.1", "--no-end"], "what loses logs must name its end"),
        (["--never-sample"], "say when it ends"),
        (["--until", "3d"], "say one of --never-sample, --cap RATE and --lift-error-like"),
        (["--never-sample", "--cap", "0.1", "--until", "3d"], "say one of"),
    ],
)
def test_an_override_that_makes_no_sense_is_a_usage_error(said: list[str], told: str) -> None:
    of_shop = ["override", "add", "--team", "7", "--service", "shop", "--owner", "ada", "--reason", "x"]
    done = CliRunner().invoke(cli, [*of_shop, *said])
    assert done.exit_code == 2
    assert told in done.output


def test_what_people_said_of_a_pattern_in_brackets_is_shown_as_they_said_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lipservice_dagster.local.stack.database", lambda _: nullcontext(database))
    register(database, pd.DataFrame({"team_id": [7], "day": [YESTERDAY], "service": ["shop"], "environment": [""]}))
    days = [TeamDay(7, YESTERDAY)]
    policy = keep_all(7, "shop", "", YESTERDAY)
    made: dict[str, object] = dict.fromkeys(frames.POLICIES, "")
    made |= dict.fromkeys(("logs", "bytes", "kept_logs", "kept_bytes"), 0.0)
    made |= {"team_id": 7, "day": YESTERDAY, "service": "shop", "document": to_json(policy), "version": policy.version}
    write(database, "policies", TeamDayRows({"policies": pd.DataFrame([made])}, days), "run")
    overrides.add(database, 7, "shop", "never_sample", template="[main] started", owner="ada", reason="[x]")
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    of_policy.show(settings, 7, "shop", "", day=None, in_force=False, as_json=False)
    of_policy.print_difference(settings, 7, "shop", "", str(YESTERDAY), None)
    shown = capsys.readouterr().out
    said = "pattern “[main] started”: never sampled (ada, without an end: [x])"
    assert f"first in force over it: {said}" in shown
    assert f"first in force over both: {said}" in shown


def test_what_was_dropped_of_a_service_that_there_is_not_names_those_there_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipservice_dagster.local.stack.database", lambda _: nullcontext(database))
    register(database, pd.DataFrame({"team_id": [7], "day": [YESTERDAY], "service": ["shop"], "environment": ["prod"]}))
    done = CliRunner().invoke(cli, ["dropped", "--team", "7", "--service", "shop"])
    assert (done.exit_code, "no service 'shop' without an environment. It has: 'shop' in 'prod'" in done.output) == (
        1,
        True,
    )
    quiet = CliRunner().invoke(cli, ["dropped", "--team", "7", "--service", "shop", "--environment", "prod"])
    assert (quiet.exit_code, "There are no logs of shop" in quiet.output) == (0, True)


def test_a_day_is_not_shown_as_what_is_in_force() -> None:
    done = CliRunner().invoke(
        cli, ["policy", "show", "--team", "7", "--service", "shop", "--day", "today", "--in-force"]
    )
    assert done.exit_code == 2
    assert "say --day or --in-force" in done.output


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TEAM_BUDGETS", '{"7": {"bytes": 0}}', "LIPSERVICE_TEAM_BUDGETS[7][bytes]: Input should be greater than 0"),
        ("BACKTEST_DAYS", "1", "backtest_min_days is 3 with a backtest_days of 1: so many days are never replayed"),
    ],
)
def test_a_setting_that_is_out_of_bounds_is_named_to_its_part(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"LIPSERVICE_{variable}", value)
    told = CliRunner().invoke(cli, ["config"])
    assert told.exit_code == 1
    assert said in told.output


def test_a_variable_that_reads_much_like_a_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPSERVICE_BUGDET_BYTES", "5")
    monkeypatch.setenv("LIPSERVICE_URL", "http://elsewhere")  # of the sampler's, and no setting
    told = CliRunner().invoke(cli, ["config"])
    assert told.exit_code == 0
    warnings = [text for text in told.stderr.splitlines() if text.startswith("Warning")]
    assert warnings == [
        "Warning: LIPSERVICE_BUGDET_BYTES is no setting and is not read; LIPSERVICE_BUDGET_BYTES is one"
    ]
