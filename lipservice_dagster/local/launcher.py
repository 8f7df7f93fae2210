"""Dagster's launcher of runs as processes, which also tells whether such a process is still there.

A run whose process was killed together with the daemon would otherwise count as running until its longest time is
over, keep its place among the runs at work, and be tried again by nobody.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from lipservice_dagster.run_process import may_live, process_of


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Named in the embedded stack's dagster.yaml; Dagster's run monitoring asks it."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: `check_run_worker_health` answers."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING until its process is known to be gone; before its first step, no process is known."""
        process = process_of(run, self._instance)
        if process is None or may_live(process):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ({process}) is gone")
