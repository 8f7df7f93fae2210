"""`lipservice backfill`: what it refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lipservice_dagster.cli import cli
from lipservice_dagster.local.in_process import RunError
from lipservice_dagster_tests.logs import DAY, at, log, store


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--teams", "x", "--from", "2026-09-01", "--to", "2026-09-02"], "'x' names no team"),
        (["--teams", "5-1", "--from", "2026-09-01", "--to", "2026-09-02"], "no range of teams"),
        (["--teams", "1", "--from", "2026-09-03", "--to", "2026-09-02"], "lies before --from"),
        (["--teams", "1", "--from", "soon", "--to", "2026-09-02"], "is no day"),
        (["--from", "2026-09-01", "--to", "2026-09-02"], "--teams"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(words: list[str], told: str) -> None:
    answer = CliRunner().invoke(cli, ["backfill", *words])
    assert answer.exit_code == 2
    assert told in answer.output


@pytest.mark.parametrize(
    ("teams", "told"),
    [("1,8-9", "Nobody knows teams 8-9, and the log store holds nothing of them"), ("2", "leave out teams 2")],
)
def test_teams_that_nobody_knows_or_that_are_left_out_are_refused(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teams: str, told: str
) -> None:
    store(tmp_path / "log_store", {1: [log("a", timestamp=at(9))], 2: [log("a", timestamp=at(9))]})
    chosen = {"home": str(tmp_path), "postgres_dsn": dsn, "first_day": str(DAY), "teams_denied": "[2]"}
    for name, value in chosen.items():
        monkeypatch.setenv(f"LIPSERVICE_{name.upper()}", value)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    answer = CliRunner().invoke(cli, ["backfill", "--teams", teams, "--from", str(DAY), "--to", str(DAY)])
    assert isinstance(answer.exception, RunError)
    assert told in str(answer.exception)
