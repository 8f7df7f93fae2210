"""A stub of the model's API for each test."""

from collections.abc import Iterator

import pytest

from lipservice_dagster_tests import model_stub


@pytest.fixture
def stub() -> Iterator[model_stub.Stub]:
    with model_stub.running() as running:
        yield running
