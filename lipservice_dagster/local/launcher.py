"""Dagster's launcher of runs as processes, which also tells whether such a process is still there.

A run whose process was killed together with the daemon would otherwise count as running until its longest time is
over, keep its place among the runs at work, and be tried again by nobody.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from lipservice_dagster.run_process import is_here, may_live, process_of

_ANSWER_SECONDS = 10


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Named in the dagster.yaml of the embedded stack and of Docker Compose; Dagster's run monitoring asks it."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: `check_run_worker_health` answers."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING until its process is known to be gone; before its first step, no process is known.

        Of a process of another machine its code server is asked, which knows the runs that it started; one that was
        started anew knows none.
        """
        process = process_of(run, self._instance)
        if process is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        lives = may_live(process) if is_here(process) else self._served(run)
        if lives:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ({process}) is gone")

    def _served(self, run: dg.DagsterRun) -> bool:
        """Whether the run's code server works on it; also where that one does not answer, which may pass."""
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:
            return True
        try:
            told = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=_ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError:
            return True
        return deserialize_value(told, CanCancelExecutionResult).can_cancel
