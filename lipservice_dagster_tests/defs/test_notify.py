"""People are told by webhook of failed runs, failed gates and high anomalies: once each, later where it was away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr, ValidationError

from lipservice_dagster.local.in_process import RunError
from lipservice_dagster.notifications import WebhookError, post
from lipservice_dagster.settings import Settings, shown
from lipservice_dagster.storage import notifications
from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import DAY, at, log, store

TODAY = datetime.now(UTC).date()
Make = Callable[..., World]


class Hook:
    """A webhook of the test's own."""

    def __init__(self) -> None:
        self.answer = 200
        self.got: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.answer == 200:
                    hook.got.append(body)
                self.send_response(hook.answer, f"no such hook {self.path}")
                if hook.answer == 302:
                    self.send_header("Location", "/login")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/key"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def texts(self) -> list[str]:
        return [body["text"] for body in self.got]


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    yield found
    found.server.shutdown()
    found.server.server_close()


def anomaly(database: Database, template: str, *, back: int = 0, severity: str = "high", observed: int = 5000) -> None:
    _insert(
        database,
        "anomalies",
        team_id=7,
        day=TODAY - timedelta(days=back),
        service="shop",
        environment="",
        scope="pattern",
        subject=template,
        template=template,
        kind="new_pattern",
        start_hour=3,
        end_hour=4,
        observed=observed,
        expected=0,
        p_value=0,
        confidence=1,
        severity=severity,
        explanation=f"new: {template}",
        evidence_hours=[3],
    )


def gate(database: Database, *, passed: bool = False, learning: bool = False, service: str = "shop") -> None:
    effect = ("logs", "bytes", "kept_logs", "kept_bytes", "budget_bytes", "errors", "kept_errors")
    patterns = ("patterns", "kept_patterns", "count_error", "pattern_error", "pattern_error_most")
    zeros = ("days", *effect, *patterns, "anomalies", "anomalies_found", "anomalies_added")
    words = {"service": service, "environment": "", "version": "v", "why": "too much <kept>", "window_fingerprint": ""}
    _insert(
        database,
        "backtests",
        team_id=7,
        day=TODAY,
        passed=passed,
        learning=learning,
        **words,
        **dict.fromkeys(zeros, 0),
    )


def _insert(database: Database, table: str, **values: Any) -> None:
    columns = ", ".join(values)
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE IF NOT EXISTS {table}_all PARTITION OF {table} DEFAULT"))
        places = ", ".join(f":{c}" for c in values)
        connection.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), values)


def test_each_thing_is_told_once_with_a_link_into_the_ui(world: Make, hook: Hook) -> None:
    found = world(webhook_url=hook.url, ui_url="https://dagster.example", team_names={7: "R&D"})
    anomaly(found.database, "payment refused")
    anomaly(found.database, "of low severity", severity="low")
    anomaly(found.database, "long ago", back=5)
    gate(found.database)
    gate(found.database, passed=True, service="fine")
    gate(found.database, learning=True, service="learning")
    for _ in range(2):
        notifications.add_failed_run(found.database, "0123456789", f"{TODAY}|7", "no space left")
    for _ in range(2):
        found.tick("notify")
    assert len(hook.got) == 3
    every = "\n".join(sorted(hook.texts()))
    assert f"<https://dagster.example/assets/anomaly_reports?view=partitions&partition={TODAY}%7C7|{TODAY}>" in every
    assert "<https://dagster.example/runs/0123456789|Run 01234567> failed" in every
    for told in ("R&amp;D", "payment refused", "too much &lt;kept&gt;", "no space left"):
        assert told in every
    for untold in ("low severity", "long ago", "fine", "learning"):
        assert untold not in every
    anomaly(found.database, "another of the same day")
    found.tick("notify")
    assert "another of the same day" in hook.texts()[-1]
    assert "payment" not in hook.texts()[-1]


def test_what_could_not_be_sent_waits_and_is_sent_later_and_others_are_not_held_up(world: Make, hook: Hook) -> None:
    found = world(webhook_url=hook.url)
    notifications.add_failed_run(found.database, "a", "", "first")
    notifications.add_failed_run(found.database, "b", "", "second")
    hook.answer = 503
    assert "answered 503" in found.tick("notify").skip_message
    hook.answer = 200
    found.tick("notify")
    assert [t.count("second") for t in hook.texts()] == [1]  # the first waits for its time
    with found.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE notifications SET next_try_at = now()"))
    found.tick("notify")
    assert [("first" in t, "second" in t) for t in hook.texts()] == [(False, True), (True, False)]


def test_delays_grow_to_an_hour_and_end(database: Database) -> None:
    notifications.add_failed_run(database, "a", "", "x")
    now = datetime.now(UTC) + timedelta(minutes=1)

    def away(_: Any) -> None:
        raise OSError("away")

    delays = []
    for _ in range(100):
        if notifications.send_due(database, now, away) is None:
            break
        with database.engine.connect() as connection:
            due = connection.execute(sa.text("SELECT next_try_at FROM notifications")).scalar_one()
        delays.append((due - now).total_seconds() / 60)
        now = due
    assert delays[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert len(delays) == notifications.MOST_TRIES


def test_a_webhook_that_is_not_there_fails_no_tick(world: Make) -> None:
    found = world(webhook_url="http://127.0.0.1:9/key")
    notifications.add_failed_run(found.database, "a", "", "x")
    assert "did not answer" in found.tick("notify").skip_message
    assert "LIPSERVICE_WEBHOOK_URL" in world().tick("notify").skip_message


def test_secrets_and_what_few_logs_share_stay_here(world: Make, hook: Hook) -> None:
    found = world(webhook_url=hook.url)
    anomaly(found.database, "login with password=hunter2 failed")
    anomaly(found.database, "said by one person only", observed=3)
    found.tick("notify")
    (told,) = hook.texts()
    assert "hunter2" not in told
    assert "said by" not in told
    assert "new pattern of a pattern" in told
    hidden = shown(found.graph.settings.webhook_url)
    assert hidden.endswith("/***")
    assert "key" not in hidden


def test_a_run_that_fails_is_told_by_the_sensor_that_sees_it_end(world: Make, hook: Hook) -> None:
    found = world(webhook_url=hook.url)
    store(found.store, {1: [log("order 1 placed", timestamp=at(1))]})
    before = found.tick("record_failure_runs")
    with found.database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE raw_logs RENAME TO away"))
    with pytest.raises(RunError, match="raw_logs"):
        found.run(1, DAY)
    for _ in range(2):  # the second tick sees nothing new
        before = found.tick("record_failure_runs", before.cursor)
        found.tick("notify")
    (told,) = hook.texts()
    assert f"{DAY}|1" in told
    assert "raw_logs" in told


@pytest.mark.parametrize("answer", [302, 403])
def test_a_webhook_that_sends_on_or_refuses_was_not_told_and_its_address_is_not_shown(hook: Hook, answer: int) -> None:
    hook.answer = answer
    with pytest.raises(WebhookError) as told:
        post(hook.url, {"text": "x"})
    assert str(told.value) == f"the webhook answered {answer} {HTTPStatus(answer).phrase}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/services/SECRET token", "http://user:SECRET@127.0.0.1:9/hook"])
def test_an_address_that_cannot_be_called_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(WebhookError) as told:
        post(url, {"text": "x"})
    assert "SECRET" not in str(told.value)
    with pytest.raises(ValidationError) as refused:
        Settings(webhook_url=SecretStr(url))
    assert "SECRET" not in str(refused.value)
