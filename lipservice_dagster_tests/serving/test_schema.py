"""Schemathesis over the OpenAPI document and the real server: no failure of ours, nothing that is not documented."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lipservice_dagster.storage.database import Database
from lipservice_dagster_tests.serving.conftest import Api, policy, release

# What must hold of every answer. That all input of the right shape is taken is not among them: no schema can say
# whether a team is the key's, or that `kept` is no more than `seen`.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
# Those that ask Dagster have tests of their own.
ELSEWHERE = ("/health", "/api/v1/analysis/{run_id}", "/api/v1/analysis/analyze", "/api/v1/pipeline/generate-policy")


@pytest.mark.timeout(600)
def test_the_api_keeps_to_its_document(start: Callable[..., Api], database: Database, tmp_path: Path) -> None:
    api = start(api_rate=1_000_000).by("write")
    release(database, policy())
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{api.url}/openapi.json",
            f"--header=Authorization: Bearer {api.secret}",
            f"--checks={','.join(CHECKS)}",
            *(f"--exclude-path={path}" for path in ELSEWHERE),
            "--phases=examples,coverage,fuzzing",
            "--mode=all",
            "--max-examples=8",
            "--seed=7",
            "--generation-deterministic",
            "--request-timeout=20",
            "--no-color",
            "--continue-on-failure",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]
