"""The other routes: services, statistics, what was found, runs; errors, limits, health and metrics."""

from __future__ import annotations

import http.client
import json
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import sqlalchemy as sa

from lipservice_dagster.local.in_process import Graph
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.serving import context
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import keys, reported, services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import reported_patterns
from lipservice_dagster_tests.logs import at, log, store
from lipservice_dagster_tests.serving.conftest import DAY, PLACED, Api
from lipservice_sampler.text import signature

PROBLEM = "application/problem+json"
PLACED_SIGNATURE = signature("shop", PLACED)
QUERY = f"team_id=7&environment=production&day={DAY}"


def batch(**changed: Any) -> dict[str, Any]:
    rows = [
        row(signature=PLACED_SIGNATURE, seen=100, kept=7),
        row(signature=PLACED_SIGNATURE, seen=10, kept=1, severity="warn"),
        row(message="hello <*>", seen=5, kept=5),
        row(message="(rest: messages beyond the cap)", seen=50, kept=0),
    ]
    return {
        "batch_id": str(uuid.uuid4()), "team_id": 7, "service": "shop", "environment": "production",
        "policy_version": "abc", "mode": "live", "sdk": "lipservice-sampler/0.1.0",
        "from": f"{DAY}T10:00:00.000Z", "to": f"{DAY}T10:01:00.000Z", "patterns": rows,
    } | changed  # fmt: skip


def row(**changed: Any) -> dict[str, Any]:
    plain = {"signature": None, "message": None, "severity": "info", "hour": f"{DAY}T10:00:00Z", "bytes_kept": 0}
    return plain | {"bytes_seen": 10} | changed


def test_services_are_registered_once_and_listed_for_their_team_only(api: Api) -> None:
    new = {"team_id": 7, "name": "shop", "environment": "production"}
    first, again = api.post("/api/v1/services/", new), api.post("/api/v1/services/", new)
    assert (first.status, again.status, first.json) == (201, 200, again.json)
    assert first.json | {"id": 0} == new | {"id": 0, "first_day": None, "last_day": None}
    assert api.get(first.headers["location"]).json == first.json
    assert api.get("/api/v1/services/?team_id=7").json == [first.json]
    other = api.by("write", 8)
    assert other.get(first.headers["location"]).status == 404
    assert other.get("/api/v1/services/?team_id=7").status == 404
    assert other.get("/api/v1/services/?team_id=8").json == []
    assert other.post("/api/v1/services/", new).status == 404
    assert api.by("report").post("/api/v1/services/", new).status == 403


def test_a_batch_counts_once_however_often_it_is_sent(api: Api, database: Database) -> None:
    sent, other = batch(), batch()
    reporter = api.by("report")
    for body, duplicate in ((sent, False), (sent, True), (other, False), (sent, True)):
        answer = reporter.post("/api/v1/patterns/stats", body)
        assert (answer.status, answer.json) == (202, {"accepted": True, "duplicate": duplicate})
    with database.engine.connect() as connection:
        seen = connection.execute(sa.select(sa.func.sum(reported_patterns.c.seen))).scalar_one()
    assert seen == 2 * 165
    # Another team may use the same id.
    assert not api.by("report", 8).post("/api/v1/patterns/stats", sent | {"team_id": 8}).json["duplicate"]
    assert api.by("read").post("/api/v1/patterns/stats", batch()).status == 403
    assert api.by("report", 8).post("/api/v1/patterns/stats", batch()).status == 404


def test_what_was_reported_is_told_as_savings_and_as_patterns_that_never_arrived(api: Api, database: Database) -> None:
    services.add(database, 7, "shop", "production")
    for mode in ("live", "shadow"):
        assert api.post("/api/v1/patterns/stats", batch(mode=mode)).status == 202
    found = api.get(f"/api/v1/services/shop/savings?team_id=7&environment=production&from={DAY}&to={DAY}").json
    assert found["stored"] == []
    assert [(r["mode"], r["seen"], r["kept"]) for r in found["reported"]] == [("live", 165, 13), ("shadow", 165, 13)]
    told = api.get(f"/api/v1/services/shop/patterns?{QUERY}").json["reported"]
    assert [(r["signature"], r["message"], r["seen"], r["kept"], r["arrived"]) for r in told] == [
        (PLACED_SIGNATURE, None, 220, 16, False),
        (None, "(rest: messages beyond the cap)", 100, 0, None),
        (None, "hello <*>", 10, 10, None),
    ]


def test_what_samplers_dropped_is_told_by_pattern_and_hour_without_what_shadow_would_have(api: Api) -> None:
    services.add(api.database, 7, "shop", "production")
    later = [row(signature=PLACED_SIGNATURE, seen=4, kept=0, hour=f"{DAY}T23:00:00Z")]
    for body in (batch(), batch(mode="shadow"), batch(), batch(patterns=later)):
        assert api.post("/api/v1/patterns/stats", body).status == 202
    found = api.get(f"/api/v1/services/shop/dropped?{QUERY}").json
    assert found["stored"] == []
    names = ("signature", "message", "hour", "seen", "kept", "rate")
    assert {tuple(r[name] for name in names) for r in found["reported"]} == {
        (PLACED_SIGNATURE, None, 10, 220, 16, 16 / 220),
        (PLACED_SIGNATURE, None, 23, 4, 0, 0.0),
        (None, "hello <*>", 10, 10, 10, 1.0),
        (None, "(rest: messages beyond the cap)", 10, 100, 0, 0.0),
    }
    tomorrow = QUERY.replace(str(DAY), str(DAY + timedelta(days=1)))
    assert api.get(f"/api/v1/services/shop/dropped?{tomorrow}").json["reported"] == []


def test_reports_of_long_ago_are_forgotten(api: Api, database: Database) -> None:
    sent = batch()
    api.post("/api/v1/patterns/stats", sent)
    reported.forget(database, datetime(2026, 9, 10, 10, tzinfo=UTC), datetime.now(UTC) - timedelta(hours=1))
    assert api.post("/api/v1/patterns/stats", sent).json["duplicate"]
    reported.forget(database, datetime(2026, 9, 10, 11, tzinfo=UTC), datetime.now(UTC))
    assert not api.post("/api/v1/patterns/stats", sent).json["duplicate"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"patterns": [row(signature="a", seen=1, kept=2)]}, "body.patterns.0"),
        ({"patterns": [row(seen=1, kept=1)]}, "body.patterns.0"),
        ({"patterns": [row(signature="a", seen=-1, kept=0)]}, "body.patterns.0.seen"),
        ({"patterns": [row(signature="a", seen=1, kept=0, hour=f"{DAY}T10:30:00Z")]}, "body.patterns.0.hour"),
        ({"patterns": [row(message="a\0", seen=1, kept=0)]}, "body.patterns.0.message"),
        ({"service": "\ud800"}, "body.service"),
        ({"batch_id": "x"}, "body.batch_id"),
        ({"mode": "loud"}, "body.mode"),
        ({"to": 0}, "body.to"),
        ({"team_id": True}, "body.team_id"),
        ({"more": 1}, "body.more"),
    ],
)
def test_bad_input_names_the_field(api: Api, change: dict[str, Any], field: str) -> None:
    answer = api.post("/api/v1/patterns/stats", batch() | change)
    assert (answer.status, answer.headers["content-type"]) == (422, PROBLEM)
    assert [e["field"] for e in answer.json["errors"]] == [field]


def test_every_error_is_a_problem(start: Callable[..., Api]) -> None:
    api = start(api_max_body_bytes=2_000).by("write")
    large = json.dumps({"x": "y" * 3_000}).encode()
    cases = [
        (404, api.get("/nothing")),
        (404, api.get("/api/v1/analysis/none")),
        (405, api.ask("DELETE", "/health")),
        (422, api.get("/api/v1/policies/shop?team_id=x")),
        (422, api.get("/api/v1/policies/sh%00op?team_id=7")),
        (422, api.ask("POST", "/api/v1/services/", raw=b'{"a":')),
        (422, api.post("/api/v1/pipeline/generate-policy", {"team_id": 7, "day": "2020-01-01"})),
        (413, api.ask("POST", "/api/v1/services/", raw=large)),
    ]
    for status, answer in cases:
        assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
        assert {"type", "title", "status", "detail"} <= set(answer.json)
        assert answer.json["status"] == status
    assert api.ask("DELETE", "/api/v1/services/").headers["allow"] == "GET, POST"
    deep = api.ask("POST", "/api/v1/services/", raw=b"[" * 1_900)
    assert deep.status in (400, 422)


def test_head_is_answered_as_get_without_the_body(api: Api) -> None:
    services.add(api.database, 7, "shop", "production")
    for path in (
        "/health",
        "/api/v1/services/?team_id=7",
        *["/api/v1/policies/shop?team_id=7&environment=production"] * 2,
    ):
        head, get = api.ask("HEAD", path), api.get(path)
        assert (head.status, head.body) == (get.status, b"")
        assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    assert api.ask("HEAD", "/api/v1/patterns/stats").status == 405
    assert 'method="HEAD",route="/health",status="200"' in api.get("/metrics").body.decode()


def test_a_body_without_a_length_is_bounded_too(start: Callable[..., Api]) -> None:
    api = start(api_max_body_bytes=2_000).by("write")
    parts = urlsplit(api.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request(
        "POST", "/api/v1/services/", body=iter([b"x" * 1_500] * 4), headers={"Authorization": f"Bearer {api.secret}"},
        encode_chunked=True,
    )  # fmt: skip
    assert connection.getresponse().status == 413
    connection.close()


def test_who_is_still_sending_sees_why_the_body_was_refused(start: Callable[..., Api]) -> None:
    api = start(api_max_body_bytes=2_000).by("write")
    parts = urlsplit(api.url)
    head = f"POST /api/v1/services/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.secret}\r\n"
    chunk = b"5dc\r\n" + b"x" * 1_500 + b"\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 2 * chunk)
        answer = b""
        while not answer.endswith(b"}"):  # it comes before the body has ended
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413 ")
        for _ in range(2_000):  # far more than the buffers of the connection hold
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(4096) == b""
    for length in (3_000, 3_000_000):
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            connection.sendall(b"x" * length)
            answer = b""
            while part := connection.recv(4096):
                answer += part
            assert answer.startswith(b"HTTP/1.1 413 ")


def test_who_asks_too_often_is_told_to_wait_and_others_are_not(start: Callable[..., Api]) -> None:
    api = start(api_rate=2).by("read")
    answers = [api.get("/api/v1/services/?team_id=7") for _ in range(8)]
    assert [a.status for a in answers[:4]] == [200] * 4
    busy = [a for a in answers if a.status == 429]
    assert busy
    assert all(int(a.headers["retry-after"]) >= 1 for a in busy)
    assert api.by("read", 8).get("/api/v1/services/?team_id=8").status == 200
    assert api.get("/health").status == 200


def test_wrong_keys_of_an_address_are_told_to_wait_and_its_right_ones_are_not(
    start: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "_STRANGERS_A_SECOND", 0.01)
    api = start()
    asked, at_once = [0], [0]
    find = keys.find

    def counting(database: Database, hashed: str) -> keys.Key | None:
        asked[0] += 1
        at_once[0] = max(at_once[0], asked[0])
        try:
            time.sleep(0.02)
            return find(database, hashed)
        finally:
            asked[0] -= 1

    def guess(n: int) -> int:
        return replace(api, secret=f"lsk_{n}").get("/api/v1/services/?team_id=7").status

    assert [guess(n) for n in range(4)] == [401, 429, 429, 429]
    monkeypatch.setattr(keys, "find", counting)
    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(guess, 10 + n) for n in range(60)]
        for access in keys.ACCESS:  # none of them is held
            assert api.by(access, 8).get("/api/v1/services/?team_id=8").status == 200
        assert {guess.result() for guess in guesses} <= {401, 429}
    assert at_once[0] == 1  # guessing costs one look-up at a time, however many guess


def test_health_names_each_dependency_and_fails_without_the_database(api: Api, database: Database) -> None:
    answer = api.get("/health")
    assert (answer.status, set(answer.json["dependencies"])) == (200, {"postgres", "changes", "dagster"})
    assert answer.json["dependencies"]["postgres"]["ok"]
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE lipservice_version SET version_num = '0000'"))
    answer = api.get("/health")
    assert (answer.status, answer.json["status"]) == (503, "down")
    assert "db upgrade" in answer.json["dependencies"]["postgres"]["detail"]


def test_metrics_count_answers_by_route_and_not_by_name(api: Api) -> None:
    services.add(api.database, 7, "shop", "production")
    for _ in range(3):
        api.get("/api/v1/policies/shop?team_id=7&environment=production")
    api.get("/nothing/else")
    api.by("report").post("/api/v1/patterns/stats", batch())
    text = api.get("/metrics").body.decode()
    route = 'route="/api/v1/policies/{service}"'
    assert f'lipservice_http_requests_total{{method="GET",{route},status="200"}} 3.0' in text
    assert 'lipservice_http_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert 'lipservice_policy_answers_total{origin="memory"} 2.0' in text
    assert 'lipservice_reported_logs_total{mode="live",what="seen"} 165.0' in text
    assert "nothing/else" not in text


def test_the_documents_of_the_api_are_there(api: Api) -> None:
    found = api.get("/openapi.json").json
    assert api.get("/docs").status == 200
    for path, methods in found["paths"].items():
        for method, told in methods.items():
            assert told["summary"], path
            assert {"429", "500", "503"} <= set(told["responses"]), (path, method)
            if path.startswith("/api/"):
                assert told["security"] == [{"HTTPBearer": []}], path
            if "requestBody" in told:
                reference = told["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                assert found["components"]["schemas"][reference.rpartition("/")[2]]["examples"], path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster of the test's own."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


def test_a_team_day_is_asked_for_followed_and_told(
    home: Path, start: Callable[..., Api], database: Database, dsn: str, tmp_path: Path
) -> None:
    api = start().by("write")
    settings = Settings(_env_file=None, home=tmp_path, postgres_dsn=dsn, first_day=date(2026, 8, 1))  # type: ignore[call-arg,arg-type]
    records = [log(f"order {n} placed", timestamp=at(n % 24, DAY)) for n in range(100)]
    store(settings.embedded_logs, {7: records})
    asked = api.post("/api/v1/pipeline/generate-policy", {"team_id": 7, "day": str(DAY)})
    assert asked.status == 202
    assert api.post("/api/v1/pipeline/generate-policy", {"team_id": 7, "day": str(DAY)}).json == asked.json
    reports = api.post("/api/v1/analysis/analyze", {"team_id": 7, "day": str(DAY)})
    assert (reports.status, reports.json["run_id"] == asked.json["run_id"]) == (202, False)
    url = asked.json["status_url"]
    assert asked.headers["location"] == url
    assert api.get(url).json == {"run_id": asked.json["run_id"], "team_id": 7, "status": "queued", "steps": []}
    assert api.by("write", 8).get(url).status == 404
    with dg.DagsterInstance.get() as instance:
        # The daemon submits runs of these ids; a test of backfills has a real one do it.
        backfills = {b.reserved_run_ids[0]: b for b in instance.get_backfills() if b.reserved_run_ids}
        assets = {k.to_user_string() for k in backfills[reports.json["run_id"]].asset_selection or []}
        assert assets == {"raw_logs", "signatures", "clusters", "anomaly_reports"}
        assert len(backfills[asked.json["run_id"]].asset_selection or []) == 10
        instance.add_dynamic_partitions(TEAMS_NAME, ["7"])
        graph = Graph(settings, database, instance)
        done = graph.definitions.resolve_job_def("team_day").execute_in_process(
            instance=instance, run_id=asked.json["run_id"], partition_key=TeamDay(7, DAY).key,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        assert done.success
    found = api.get(url).json
    assert found["status"] == "succeeded"
    assert {(s["asset"], s["status"]) for s in found["steps"]} >= {("raw_logs", "succeeded"), ("policies", "succeeded")}
    (service,) = api.get("/api/v1/services/?team_id=7").json
    query = f"team_id=7&environment={service['environment']}&day={DAY}"
    name = service["name"]
    (pattern,) = api.get(f"/api/v1/services/{name}/patterns?{query}").json["stored"]
    assert (pattern["template"], pattern["logs"]) == (PLACED, 100)
    hours = api.get(f"/api/v1/services/{name}/dropped?{query}").json["stored"]
    assert (sum(h["seen"] for h in hours), {h["rate"] for h in hours}) == (100, {1.0})
    served = api.get(f"/api/v1/policies/{name}?team_id=7&environment={service['environment']}").json
    assert (served["mode"], served["policy"]["generated_by"]) == ("shadow", "keep-all")
