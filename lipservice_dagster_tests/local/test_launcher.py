"""Whether a run's worker is still there: by its process on this machine, by its code server on another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from lipservice_dagster.local.launcher import WatchedRunLauncher
from lipservice_dagster.run_process import PROCESS_TAG, this_process

ELSEWHERE = "17 1790000000.00 another-machine"
CODE = "import dagster as dg\ndefs = dg.Definitions()\n"


def status(instance: dg.DagsterInstance, process: str | None, socket: Path) -> WorkerStatus:
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": str(socket)})}
    run = create_run_for_test(
        instance, tags=tags | ({PROCESS_TAG: process} if process else {}), status=dg.DagsterRunStatus.STARTED
    )
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    return launcher.check_run_worker_health(run).status


def test_a_worker_of_another_machine_is_gone_once_its_code_server_knows_nothing_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text(CODE)
    socket = tmp_path / "s"
    with dg.DagsterInstance.ephemeral() as instance:
        assert (
            status(instance, ELSEWHERE, socket) == WorkerStatus.RUNNING
        )  # a server that does not answer may come back
        assert status(instance, None, socket) == WorkerStatus.RUNNING
        assert status(instance, this_process(), socket) == WorkerStatus.RUNNING
        command = [sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(socket), "-f", "empty.py"]
        server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while status(instance, ELSEWHERE, socket) == WorkerStatus.RUNNING:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert status(instance, this_process(), socket) == WorkerStatus.RUNNING
        finally:
            server.terminate()
            server.wait()
