"""The example applications, started as their users start them, under a live policy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lipservice_dagster_tests.sampler.api_stub import Stub, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("name", ["django_app.py", "fastapi_app.py"])
def test_an_example_is_sampled_and_reports_what_it_saw(stub: Stub, name: str, tmp_path: Path):
    port = free_port()

    def order(number: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/order/{number}", timeout=20) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    out = tmp_path / "out"
    with out.open("wb") as stdout:
        application = subprocess.Popen(
            [sys.executable, "-u", EXAMPLES / name, str(port)],
            env={**os.environ, "LIPSERVICE_URL": stub.url, "LIPSERVICE_KEY": "secret"},
            stdout=stdout,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert eventually(lambda: order(1), 60)
            assert eventually(lambda: stub.gets)
            assert eventually(lambda: order(2) and out.read_text().count("placed") < len(stub.gets) + 1000)
            before = out.read_text().count("placed")
            assert all(order(number) for number in range(100, 300))
        finally:
            application.send_signal(signal.SIGTERM)
            application.wait(30)
    lines = out.read_text().splitlines()
    assert sum("refused" in line for line in lines) == 20
    assert sum("placed" in line for line in lines) - before < 80
    assert sum(r["seen"] for r in stub.rows() if r["signature"] == "a" * 16) >= 150
    assert sum(r["kept"] for r in stub.rows() if r["severity"] == "error") == 20
