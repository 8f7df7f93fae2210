"""`lipservice analyze` as a person runs it, in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lipservice_dagster.cli import cli
from lipservice_dagster.settings import Settings
from lipservice_dagster_tests.test_cli import LIPSERVICE, environment

START = datetime(2026, 3, 2)
DAYS = 6
SPIKE = START + timedelta(days=DAYS - 1, hours=9)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six days of two services' logs, the last until half past eleven; in it an hour in which one pattern is many."""
    random = np.random.default_rng(5)
    lines = []
    for hour in range(DAYS * 24 - 13 + 1):
        begin = START + timedelta(hours=hour)
        seconds = 1800 if hour == DAYS * 24 - 13 else 3600
        for program, text, count in (
            ("web", "GET /items/{} done", 60),
            ("web", "cache miss for key {}", 20),
            ("db", "ERROR: deadlock on row {}", 2),
        ):
            many = 900 if begin == SPIKE and text.startswith("cache") else count
            for _ in range(int(random.poisson(many * seconds / 3600))):
                at = begin + timedelta(seconds=float(random.uniform(0, seconds)))
                lines.append(f"{at.isoformat()}+00:00 host {program}[7]: {text.format(random.integers(10**6))}")
    path = tmp_path_factory.mktemp("logs") / "syslog"
    path.write_text("\n".join([*sorted(lines), "\tand more of the last", ""]))
    return path


def analyse(*arguments: str, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, ["analyze", *arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def found(logs: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(analyse("--json", str(logs)).stdout)
    return document


def test_lines_span_severities_and_services_are_those_of_the_file(logs: Path, found: dict[str, Any]):
    lines = logs.read_text().splitlines()[:-1]
    assert found["lines"]["read"] == len(lines) + 1
    assert (found["lines"]["logs"], found["lines"]["joined"], found["lines"]["unreadable"]) == (len(lines), 1, {})
    times = [datetime.fromisoformat(line.split()[0]) for line in lines]
    assert datetime.fromisoformat(found["span"]["first"]) == min(times)
    assert datetime.fromisoformat(found["span"]["last"]) == max(times)
    assert found["span"]["days"] == [f"2026-03-0{2 + day}" for day in range(DAYS)]
    errors = sum("ERROR" in line for line in lines)
    assert found["severities"] == {"info": len(lines) - errors, "error": errors}
    services = {service["service"]: (service["logs"], service["errors"]) for service in found["services"]}
    assert services == {"web": (len(lines) - errors, 0), "db": (errors, errors)}


def test_patterns_are_those_of_the_whole_span(found: dict[str, Any]):
    assert len(found["patterns"]) == 4  # the last of the file, with more than a line, is one
    assert sum(pattern["logs"] for pattern in found["patterns"]) == found["lines"]["logs"]
    assert (
        "GET /items/<*> done" in found["patterns"][0]["template"] or "GET <*> done" in found["patterns"][0]["template"]
    )


def test_the_last_days_are_judged_by_those_before_them_and_what_the_file_lacks_is_no_silence(found: dict[str, Any]):
    assert found["anomalies"]["judged"] == [f"2026-03-0{2 + day}" for day in range(3, DAYS)]
    anomalies = found["anomalies"]["found"]
    assert {anomaly["kind"] for anomaly in anomalies} == {"rate_spike"}
    assert {anomaly["start_hour"] for anomaly in anomalies} == {SPIKE.hour}
    assert {anomaly["day"] for anomaly in anomalies} == {SPIKE.date().isoformat()}


def test_the_policy_is_of_an_average_day_and_keeps_errors(found: dict[str, Any]):
    policies = {policy["service"]: policy for policy in found["policies"]}
    logs = sum(policy["expected"]["logs"] for policy in policies.values())
    assert logs == pytest.approx(found["lines"]["logs"] / DAYS)
    assert policies["db"]["expected"]["share"] == 1.0
    web = policies["web"]["expected"]
    assert web["share"] < 0.6
    assert f"logs on an average of its {DAYS} days" in policies["web"]["reasoning"]
    savings = found["savings"]
    kept = sum(policy["expected"]["kept_bytes"] for policy in policies.values())
    assert savings["kept_bytes_a_day"] == pytest.approx(kept, abs=1)
    assert savings["share"] == pytest.approx(1 - kept / savings["bytes_a_day"], abs=1e-3)


def test_it_is_printed_for_people_and_leaves_nothing_behind(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    temporary, here = tmp_path / "tmp", tmp_path / "here"
    temporary.mkdir()
    here.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("LIPSERVICE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(here)
    few = b"\n".join(logs.read_bytes().split(b"\n")[:200])
    printed = analyse("--service", "x", stdin=few + b"\nJun 14 15:16:01 h cron[1]: no year\n").stdout
    assert "201 lines read" in printed
    assert "201 logs from 2026-03-02 00:00" in printed
    assert "severities: info" in printed
    assert "times without a year were placed in" in printed
    assert "nothing was judged" in printed
    assert "the policy that would be" in printed
    assert "It would save" in printed
    assert os.listdir(temporary) == os.listdir(here) == []
    assert not (tmp_path / "home").exists()
    assert Settings().home == tmp_path / "home"


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_leaves_no_copy_of_the_logs_behind(tmp_path: Path, sign: int):
    temporary, pipe = tmp_path / "tmp", tmp_path / "pipe"
    temporary.mkdir()
    os.mkfifo(pipe)
    found = subprocess.Popen(
        [str(LIPSERVICE), "analyze", str(pipe)],
        env=environment(tmp_path) | {"TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(sign, signal.SIG_DFL),  # the tests themselves may ignore it, as under nohup
    )
    try:
        with pipe.open("wb") as file:
            file.write(b"2026-09-10 10:00:00 INFO x\n")
            file.flush()
            deadline = time.monotonic() + 60
            while not list(temporary.glob("lipservice-analyze-*/log_store")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            found.send_signal(sign)
            assert found.wait(timeout=60) == 1
    finally:
        found.kill()
        found.wait()
    assert os.listdir(temporary) == []


def test_a_name_of_any_octets_is_analysed(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"bad\xff.log")
    path.write_text("2026-09-10 10:00:00 INFO x\n")
    (tmp_path / os.fsdecode(b"no\xff.log")).write_bytes(bytes(99))
    found = json.loads(analyse("--json", str(tmp_path)).stdout)
    assert found["services"][0]["service"] == "bad\ufffd"
    assert found["left_out"] == [f"{tmp_path}/no\ufffd.log (it holds no text)"]


def test_a_file_names_the_service_and_places_lines_without_a_time(tmp_path: Path):
    early, late = tmp_path / "worker.log.1", tmp_path / "notes.txt"
    early.write_text("starting\n2026-09-10 10:00:00 INFO x\nplain\n")
    late.write_text("no time at all\nnor here\n")
    os.utime(late, (1_700_000_000, 1_700_000_000))
    found = json.loads(analyse("--json", str(tmp_path)).stdout)
    assert found["lines"]["logs"] == 5
    spans = {s["service"]: (s["first_seen"][:19], s["last_seen"][:19], s["logs"]) for s in found["services"]}
    assert spans == {
        "worker": ("2026-09-10T10:00:00", "2026-09-10T10:00:00", 3),
        "notes": ("2023-11-14T22:13:20", "2023-11-14T22:13:20", 2),
    }


def test_logs_of_this_very_hour_and_of_clocks_that_run_ahead_count(tmp_path: Path):
    path = tmp_path / "a.log"
    now = datetime.now().astimezone()
    path.write_text("".join(f"{(now + timedelta(hours=h)).isoformat()} INFO x\n" for h in range(3)))
    assert json.loads(analyse("--json", str(path)).stdout)["severities"] == {"info": 3}


@pytest.mark.parametrize(("content", "message"), [(b"", "There are no logs"), (None, "is not there")])
def test_what_cannot_be_analysed_is_told(tmp_path: Path, content: bytes | None, message: str):
    path = tmp_path / "a.log"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(cli, ["analyze", str(path)])
    assert result.exit_code == 1
    assert message in str(result.exception)
