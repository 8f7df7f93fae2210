"""The policy comes and statistics go over real HTTP; whatever the API does, the application goes on."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lipservice_dagster_tests.sampler.api_stub import SCOPE, A, Stub, document, eventually
from lipservice_sampler import Sampler, client, counts, served, worker


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other faster than they would."""
    monkeypatch.setattr(worker, "_FIRST_WAIT", 0.02)
    monkeypatch.setattr(worker, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr("lipservice_sampler.served._LEAST_REFRESH", 0.02)


@pytest.fixture
def start() -> Iterator[Callable[..., Sampler]]:
    made = []

    def make(url: str, **more: Any) -> Sampler:
        sampler = Sampler(**SCOPE, url=url, key="secret", **{"timeout": 1.0, **more})
        made.append(sampler)
        sampler.decide("order 1 placed")
        return sampler

    yield make
    for sampler in made:
        sampler.close(0.5)


def version(sampler: Sampler, wanted: str) -> bool:
    return eventually(lambda: sampler.status()["version"] == wanted)


def test_the_policy_is_asked_for_with_scope_and_key_and_comes_into_force(stub: Stub, start):
    sampler = start(stub.url)
    assert version(sampler, "v1")
    path, headers, _ = stub.gets[0]
    assert path == "/api/v1/policies/shop?team_id=1&environment=production"
    assert headers["authorization"] == "Bearer secret"
    assert sampler.decide("order 1 placed").rate == 0.1


def test_a_change_is_fetched_and_what_has_not_changed_is_not_sent_again(stub: Stub, start):
    stub.serves = document(refresh_seconds=0.02)
    sampler = start(stub.url)
    assert eventually(lambda: [status for _, _, status in stub.gets].count(304) > 2)
    assert [status for _, _, status in stub.gets].count(200) == 1
    stub.serves, stub.etag = document(version="v2", refresh_seconds=0.02), '"2"'
    assert version(sampler, "v2")


def test_intervals_vary_so_that_processes_part():
    waits = [worker.jittered(30) for _ in range(200)]
    assert 24 <= min(waits) < 27 < 33 < max(waits) <= 36


def test_the_last_good_policy_is_kept_on_disk_and_in_force_at_once(stub: Stub, start, cache: Path):
    assert version(start(stub.url), "v1")
    assert eventually(lambda: list(cache.glob("policy-*.json")))
    assert [p.stat().st_mode & 0o777 for p in cache.iterdir()] == [0o600]
    again = Sampler(**SCOPE, url=stub.url)
    assert again.status()["version"] == "v1"
    assert again.decide("order 1 placed").rate == 0.1
    assert eventually(lambda: stub.gets[-1][2] == 304)
    assert stub.gets[-1][1]["if-none-match"] == '"1"'
    again.close()
    assert Sampler(**{**SCOPE, "service": "other"}, url=stub.url).status()["version"] == "0"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\x00", b"[]", b'{"etag":"x"}', b'{"etag":"x","served":{"mode":1}}']
)
def test_a_corrupted_file_is_ignored_with_one_warning_and_replaced(stub: Stub, start, cache: Path, caplog, content):
    first = start(stub.url)
    assert version(first, "v1")
    assert eventually(lambda: list(cache.glob("*.json")))
    first.close()
    (path,) = cache.iterdir()
    path.write_bytes(content)
    caplog.clear()
    again = Sampler(**SCOPE, url=stub.url)
    assert again.decide("order 1 placed").rate == 1.0
    assert [r.levelname for r in caplog.records if "on disk" in r.getMessage()] == ["WARNING"]
    assert eventually(lambda: again.decide("order 1 placed").rate == 0.1)
    assert eventually(
        lambda: path.read_bytes() != content and json.loads(path.read_bytes())["served"]["version"] == "v1"
    )
    again.close()


def test_a_folder_that_cannot_be_written_is_no_trouble(stub: Stub, start, tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    sampler = start(stub.url, cache_dir=tmp_path / "file" / "below")
    assert version(sampler, "v1")
    assert eventually(lambda: "kept on disk" in caplog.text or "cannot be read" in caplog.text)


def test_with_the_api_down_everything_is_kept_and_the_policy_comes_when_it_is_back(stub: Stub, start, caplog):
    stub.policy_status = [503, 500, 401, 404, 429]
    sampler = start(stub.url)
    assert sampler.decide("order 1 placed").keep
    assert version(sampler, "v1")
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize(
    "wrong",
    [b"", b"<html>", b"[1]", b"null", b'{"a":', b"[" * 100_000, document(None), {**document(), "service": "x"}],
)
def test_a_wrong_answer_leaves_the_last_policy_in_force(stub: Stub, start, wrong):
    stub.serves = document(refresh_seconds=0.02)
    sampler = start(stub.url)
    assert version(sampler, "v1")
    stub.serves, stub.etag = wrong, '"2"'
    asked = len(stub.gets)
    assert eventually(lambda: len(stub.gets) > asked + 2)
    assert sampler.status()["version"] == "v1"
    stub.serves, stub.etag = document(version="v3"), '"3"'
    assert version(sampler, "v3")


def test_a_slow_or_silent_api_holds_nothing_up(stub: Stub, start):
    stub.delay = 30.0
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for url in (stub.url, f"http://127.0.0.1:{silent.getsockname()[1]}", "http://127.0.0.1:1", "http://no.invalid"):
            begun = time.monotonic()
            sampler = start(url, timeout=20.0)
            for i in range(200):
                assert sampler.decide(f"order {i} placed").keep
            assert time.monotonic() - begun < 2.0
            begun = time.monotonic()
            sampler.close(0.2)
            assert time.monotonic() - begun < 2.0


def test_statistics_are_told_as_the_api_takes_them(stub: Stub, start):
    sampler = start(stub.url)
    assert version(sampler, "v1")
    sampler.flush()
    for i in range(50):
        sampler.decide(f"order {i} placed")
    sampler.decide("hello 1", "warning")
    assert sampler.flush(20)
    (batch,) = [b for b in stub.batches() if b["policy_version"] == "v1"]
    assert {k: batch[k] for k in (*SCOPE, "mode", "sdk")} == {
        **SCOPE,
        "mode": "live",
        "sdk": f"lipservice-sampler/{worker.__version__}",
    }
    assert batch["from"] < batch["to"]
    assert batch["to"].endswith("Z")
    order, hello = sorted(batch["patterns"], key=lambda row: row["severity"])
    assert order["hour"].endswith(":00:00Z")
    assert (order["signature"], order["message"], order["seen"]) == (A, None, 50)
    assert 0 <= order["kept"] < 30
    assert order["bytes_seen"] == 10 * 14 + 40 * 15
    assert (hello["signature"], hello["message"], hello["severity"]) == (None, "hello <*>", "warn")
    assert sampler.status()["delivered"] == 52


def test_a_batch_that_was_not_taken_is_sent_again_under_the_same_id(stub: Stub, start):
    stub.stats_status = [503, 429, 500]
    sampler = start(stub.url)
    sampler.flush()
    assert eventually(lambda: stub.seen() == 1)
    assert len(stub.posts) == 4
    assert len({body["batch_id"] for body, _ in stub.posts}) == 1
    assert sampler.status() | {"version": "", "mode": ""} == {
        "version": "",
        "mode": "",
        "delivered": 1,
        "waiting": 0,
        "lost": 0,
    }


def test_what_the_api_refuses_is_dropped_with_one_warning(stub: Stub, start, caplog):
    stub.stats_status = [422, 422]
    sampler = start(stub.url)
    for n in (1, 2, 3):
        assert eventually(lambda: sampler.flush())
        assert len(stub.posts) == n
        sampler.decide("order 1 placed")
    assert (sampler.status()["lost"], sampler.status()["delivered"]) == (2, 1)
    assert len([r for r in caplog.records if "answered 422" in r.getMessage()]) == 1


def test_retry_after_is_honoured(stub: Stub, start, monkeypatch):
    monkeypatch.setattr(worker, "LONGEST_WAIT", 5.0)
    monkeypatch.setattr("lipservice_dagster_tests.sampler.api_stub.RETRY_AFTER", "1")
    stub.stats_status = [429]
    sampler = start(stub.url)
    begun = time.monotonic()
    sampler.flush()
    assert eventually(lambda: stub.seen() == 1)
    assert time.monotonic() - begun > 0.7


def test_what_cannot_be_delivered_is_bounded_and_its_loss_is_told(stub: Stub, start, monkeypatch, caplog):
    monkeypatch.setattr(counts, "MOST_BATCHES", 3)
    stub.stats_status = [503] * 10_000
    sampler = start(stub.url)
    for _ in range(6):
        sampler.decide("order 1 placed")
        sampler.flush()
    assert sampler.status()["waiting"] <= 4
    assert sampler.status()["lost"] >= 2
    assert "were given up" in caplog.text
    sampler.close()
    assert "were not delivered before the end" in caplog.text


def test_many_patterns_go_in_several_batches(stub: Stub, start, monkeypatch):
    monkeypatch.setattr(counts, "ROWS_A_BATCH", 4)
    sampler = start(stub.url)
    for word in "abcdefghi":
        sampler.decide(f"{word * 3} done")
    assert sampler.flush(20)
    assert stub.seen() == 10
    assert max(len(batch["patterns"]) for batch in stub.batches()) == 4


def test_what_has_not_changed_is_installed_once_and_after_a_success_waits_begin_anew(stub: Stub, monkeypatch):
    monkeypatch.setattr(worker, "LONGEST_WAIT", 100.0)
    installed: list[served.Served] = []
    background = worker.Worker(
        client.base(stub.url),
        "secret",
        SCOPE,
        known=served.NOTHING,
        cache=None,
        report_seconds=60.0,
        timeout=5.0,
        install=installed.append,
        drain=lambda: ({}, 0.0, 0.0),
    )
    stub.policy_status = [503] * 5
    waits = [background._refresh() for _ in range(5)]
    assert waits[-1] > 5 * waits[0]
    assert [background._refresh() > 20 for _ in range(3)] == [True] * 3
    assert [status for _, _, status in stub.gets[5:]] == [200, 304, 304]
    assert len(installed) == 1
    stub.policy_status = [503]
    assert background._refresh() < 2 * worker._FIRST_WAIT


def test_flush_tells_where_not_all_was_delivered(stub: Stub, start):
    stub.stats_status = [503] * 10_000
    sampler = start(stub.url)
    assert not sampler.flush(20)
    stub.stats_status = []
    assert eventually(lambda: sampler.flush(20))


def test_an_answer_that_is_too_long_is_refused(stub: Stub, monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 1_000)
    stub.serves = b" " * 1_001
    with pytest.raises(client.UnreachableError, match="longer than 1000 bytes"):
        client.ask(client.base(stub.url), "GET", "/", headers={}, timeout=20)


def test_an_answer_that_never_ends_is_given_up():
    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                for _ in range(200):
                    connection.sendall(b" ")
                    time.sleep(0.02)
            except OSError:
                pass  # it was given up

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=drip, args=(listening,), daemon=True)
        thread.start()
        url = client.base(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(client.UnreachableError, match="took longer"):
            client.ask(url, "GET", "/", headers={}, timeout=0.5)
        thread.join(20)


def test_a_policy_that_cannot_be_kept_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "policy.json").mkdir()
    with pytest.raises(OSError, match=r".+"):
        served.save(tmp_path / "policy.json", served.NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]


@pytest.mark.parametrize("url", ["shop", "ftp://host", "http://", "http://host:port"])
def test_a_url_that_is_none_is_refused_where_it_is_written(url):
    with pytest.raises(ValueError, match=r".+"):
        Sampler(**SCOPE, url=url)
