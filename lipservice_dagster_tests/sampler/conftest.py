"""A stub of the API for each test, and a folder for the policies on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lipservice_dagster_tests.sampler import api_stub


@pytest.fixture
def stub() -> Iterator[api_stub.Stub]:
    with api_stub.running() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lipservice"
