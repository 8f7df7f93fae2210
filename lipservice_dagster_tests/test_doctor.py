"""`lipservice doctor` says what is not well, and what to do about it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from lipservice_dagster.commands import doctor
from lipservice_dagster.commands.doctor import BAD, WARNING, WELL, Finding
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.logs import log, store
from lipservice_dagster_tests.posthog_server import KEY, Fault, PostHog, posthog_server


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
    assert "LIPSERVICE_" in found.found + found.advice


def test_a_project_whose_key_fails_hides_no_other(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posthog.keys["phx_of_2"] = ({2}, {"query:read", "logs:read"})
    for failing, well in ((1, 2), (2, 1)):
        keys = {failing: "phx_gone", well: "phx_of_2" if well == 2 else KEY}
        dsn = SecretStr(f"posthog+{posthog.url}/project/1,2")
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        chosen = Settings(_env_file=None, home=tmp_path, posthog_retries=0, logs_dsn=dsn, posthog_keys=keys)  # type: ignore[call-arg,arg-type]
        findings = list(doctor.look(chosen))
        (bad,) = [f for f in findings if f.state == BAD]
        assert f"project {failing} does not take the key" in bad.found
        assert f"key of project {well}" in {f.of for f in findings if f.state == WELL}
        assert "logs" in {f.of for f in findings}


def test_functions_that_this_posthog_does_not_permit_are_told(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posthog.refused = {"sumMap"}
    try:
        found = looked(tmp_path, monkeypatch, **over(posthog))["HogQL of project 1"]
    finally:
        posthog.refused = set()
    assert found.state == WARNING
    assert "Unsupported function call 'sumMap(...)'. Perhaps you meant other" in found.found
    assert "read as pages of 2,000 logs, at most 2,000,000 logs an hour" in found.advice


def test_what_the_server_says_is_told_whole_and_without_advice_that_is_not_ours(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posthog.faults = [Fault(429, "Request was throttled. Expected available in 1999 seconds.")]
    found = looked(tmp_path, monkeypatch, **over(posthog))["log source"]
    assert "Request was throttled. Expected available in 1999 seconds." in found.found
    assert "Expected" not in found.advice
    unset = looked(tmp_path, monkeypatch, logs_dsn=SecretStr(f"posthog+{posthog.url}/project/1"))["log source"]
    assert "LIPSERVICE_POSTHOG_API_KEY" in unset.found
    assert "LIPSERVICE_LOGS_DSN" not in unset.advice


def test_a_posthog_without_logs_is_not_advised_to_ingest_files(
    posthog: PostHog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(tmp_path, monkeypatch, **over(posthog, project=2))["logs"]
    assert found.state == WARNING
    assert "ingest" not in found.advice
    assert "LIPSERVICE_LOGS_DSN" in found.advice


def test_a_home_that_is_a_file_or_below_one_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (file, file / "x"):
        found = looked(home, monkeypatch)["home"]
        assert (found.state, "is no folder" in found.found) == (BAD, True)


def test_a_user_without_rights_on_the_tables_is_told_and_the_rest_is_looked_at(
    database: Database, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"narrow_{uuid.uuid4().hex[:8]}"
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    try:
        url = sa.make_url(dsn).set(username=role, password="secret").render_as_string(hide_password=False)
        found = looked(tmp_path, monkeypatch, postgres_dsn=SecretStr(url))
    finally:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")
    assert found["PostgreSQL"].state == WELL
    assert found["migrations"].state == BAD
    assert "permission denied" in found["migrations"].found
    assert f"Give {role} the rights" in found["migrations"].advice
    assert {"Dagster instance", "home"} <= set(found)


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
