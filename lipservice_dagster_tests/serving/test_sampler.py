"""The real sampler against the real API: what is released is decided by, and what is seen is reported and stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import SHADOW
from lipservice_dagster.storage.tables import reported_batches, reported_patterns
from lipservice_dagster_tests.serving.conftest import PLACED, Api, eventually, policy, release
from lipservice_sampler import Sampler
from lipservice_sampler.text import signature


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Samplers ask more often than they would, and keep nothing of each other's."""
    monkeypatch.setattr("lipservice_sampler.worker._FIRST_WAIT", 0.05)
    monkeypatch.setattr("lipservice_sampler.served._MOST_REFRESH", 0.1)
    monkeypatch.setattr("lipservice_sampler.served._LEAST_REFRESH", 0.1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def sampler(api: Api, tmp_path: Path) -> Iterator[Sampler]:
    key, cache = api.by("report").secret, tmp_path / "kept"
    made = Sampler("shop", team_id=7, environment="production", url=api.url, key=key, cache_dir=cache)
    yield made
    made.close(2)


def test_a_sampler_decides_by_what_is_released_and_reports_what_it_saw(
    api: Api, database: Database, sampler: Sampler
) -> None:
    first = release(database, policy(0.25))
    assert sampler.decide("order 1 placed").keep  # before its policy is there
    assert eventually(lambda: sampler.status()["version"] == first.version)
    assert sampler.flush(20)
    kept = sum(sampler.decide(f"order {n} placed").keep for n in range(2_000))
    sampler.decide("who knows this", "warning")
    assert sampler.decide("order 1 placed").rate == 0.25
    assert sampler.flush(20)
    assert sampler.status()["lost"] == 0

    with database.engine.connect() as connection:
        rows = connection.execute(
            sa.select(reported_patterns).where(reported_patterns.c.policy_version == first.version)
        ).all()
        sdks = set(connection.execute(sa.select(reported_batches.c.sdk)).scalars())
    by_pattern = {(r.signature, r.message): (r.seen, r.mode) for r in rows}
    assert by_pattern[signature("shop", PLACED), None] == (2_001, "live")
    assert by_pattern[None, "who knows this"] == (1, "live")
    (placed,) = [r for r in rows if r.signature]
    assert kept <= placed.kept <= kept + 1
    assert all(sdk.startswith("lipservice-sampler/") for sdk in sdks)

    second = release(database, policy(0.5), SHADOW)
    assert eventually(lambda: sampler.status()["version"] == second.version)
    assert all(sampler.decide(f"order {n} placed").keep for n in range(100))
    assert sampler.status()["mode"] == "shadow"


def test_a_sampler_that_names_no_environment_has_the_policy_of_logs_that_name_none_and_another_is_told_so(
    api: Api, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    made = release(database, policy(environment=""))
    key = api.by("report").secret
    right = Sampler("shop", team_id=7, url=api.url, key=key, cache_dir=False)
    wrong = Sampler("shop", team_id=7, environment="production", url=api.url, key=key, cache_dir=False)
    for one in (right, wrong):
        one.decide("order 1 placed")
    assert eventually(lambda: right.status()["version"] == made.version)
    assert eventually(lambda: "it is known in ''" in caplog.text)
    assert "no service 'shop' in environment 'production'" in caplog.text
    for one in (right, wrong):
        one.close(2)


def test_the_rest_beyond_the_samplers_cap_is_taken(
    api: Api, database: Database, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipservice_sampler.counts.MOST_ROWS", 600)
    release(database, policy())
    words = [f"{a}{b}{c}" for a in "abcdefghij" for b in "klmnopqrst" for c in "uvwxyzabcd"]
    for word in words:
        sampler.decide(f"{word} {word[::-1]}")
    assert sampler.flush(20)
    assert sampler.status()["lost"] == 0
    with database.engine.connect() as connection:
        seen = connection.execute(sa.select(sa.func.sum(reported_patterns.c.seen))).scalar_one()
        rest = connection.execute(
            sa.select(sa.func.sum(reported_patterns.c.seen)).where(reported_patterns.c.message.like("(rest:%"))
        ).scalar_one()
    assert seen == len(words)
    assert rest > 0
