"""`lipservice doctor` says what is not well, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from lipservice_dagster.commands import doctor
from lipservice_dagster.commands.doctor import BAD, WARNING, WELL, Finding
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.logs import log, store
from lipservice_dagster_tests.posthog_server import KEY, PostHog, posthog_server


@pytest.fixture(scope="module")
def posthog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostHog]:
    with posthog_server() as found:
        found.insert(1, store(tmp_path_factory.mktemp("logs"), {1: [log("now", timestamp=datetime.now(UTC))]}))
        found.keys["phx_narrow"] = ({1}, {"query:read"})
        yield found


def looked(home: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Finding]:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    chosen = Settings(_env_file=None, home=home, posthog_retries=0, **settings)  # type: ignore[call-arg]
    return {finding.of: finding for finding in doctor.look(chosen)}


def over(posthog: PostHog, key: str = KEY, project: int = 1) -> dict[str, Any]:
    return {
        "logs_dsn": SecretStr(f"posthog+{posthog.url}/project/{project}"),
        "posthog_api_key": SecretStr(key),
    }


def test_where_all_is_well_it_says_so(
    posthog: PostHog, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(tmp_path, monkeypatch, postgres_dsn=SecretStr(dsn), **over(posthog))
    assert {finding.state for finding in found.values()} == {WELL}
    assert found["logs"].found.startswith("1 teams log; the latest of team 1, ")
    assert "query:read and logs:read" in found["key of project 1"].found
    assert set(found) >= {"versions", "log source", "PostgreSQL", "migrations", "clock", "Dagster instance", "home"}


def test_a_key_without_a_scope_a_wrong_clock_and_hasty_sensors_are_told(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posthog.ahead = 7200
    try:
        found = looked(tmp_path, monkeypatch, spike_seconds=30, **over(posthog, "phx_narrow"))
    finally:
        posthog.ahead = 0
    assert found["key of project 1"].state == WARNING
    assert "lacks the scope logs:read" in found["key of project 1"].found
    assert found["clock"].state == BAD
    assert "s behind that of 127.0.0.1" in found["clock"].found
    assert "ask each project 122 times an hour, of 110" in found["requests"].found


@pytest.mark.parametrize(
    ("key", "project", "told"),
    [("phx_gone", 1, "does not take the key"), (KEY, 404, "there is no such project")],
)
def test_a_wrong_key_or_project_is_bad_and_says_what_to_do(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, project: int, told: str
) -> None:
    found = looked(tmp_path, monkeypatch, **over(posthog, key, project))["log source"]
    assert found.state == BAD
    assert told in found.found
    assert "LIPSERVICE_" in found.advice


def test_tables_of_another_version_and_a_server_that_is_away_are_told(
    database: Database, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE lipservice_version SET version_num = '0003'")
    found = looked(tmp_path, monkeypatch, postgres_dsn=SecretStr(dsn))
    assert found["migrations"].state == BAD
    assert "at migration 0003" in found["migrations"].found
    assert "lipservice db upgrade" in found["migrations"].found
    assert found["logs"].state == WARNING  # an empty store
    away = looked(tmp_path, monkeypatch, postgres_dsn=SecretStr("postgresql://u:secret@127.0.0.1:9/x"))["PostgreSQL"]
    assert away.state == BAD
    assert "secret" not in away.found + away.advice


def test_a_dagster_home_without_its_file_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    findings = list(doctor.look(Settings(_env_file=None, home=tmp_path)))  # type: ignore[call-arg]
    (found,) = [f for f in findings if f.of == "Dagster instance"]
    assert (found.state, "dagster.yaml" in found.found) == (BAD, True)
    assert doctor.run(Settings(_env_file=None, home=tmp_path)) == 1  # type: ignore[call-arg]
