"""Runs of the graph in this process, over the stack's Dagster instance: what `demo` and `run` do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

import dagster as dg

from lipservice_dagster.definitions import build_defs
from lipservice_dagster.defs import marts as marts_defs
from lipservice_dagster.defs import raw_logs
from lipservice_dagster.defs.automation import JOB
from lipservice_dagster.local import stack
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.run_process import PROCESS_TAG, may_live, process_of, this_process
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.storage import marts, runs
from lipservice_dagster.storage.database import Database


class RunError(Exception):
    """A run could not be started or failed; the message says where to look."""


class Graph:
    """The graph over a Dagster instance."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        instance: dg.DagsterInstance,
        *,
        log_source: LogSource | None = None,
    ):
        self.settings, self.database, self.instance = settings, database, instance
        self.definitions = build_defs(settings, database=database, log_source=log_source)

    def run(self, team_id: int, first: date, last: date, *, replace: bool = False) -> str:
        """Materialise all assets for a team's days (both included) in one run; returns the run's id.

        ``replace``: also where the log store holds less of a day than is stored.

        Raises RunError where a day is no partition or the run fails.
        """
        self.require_partitions(first, last)
        self.instance.add_dynamic_partitions(TEAMS_NAME, [str(team_id)])
        keys = [str(TeamDay(team_id, day)) for day in (first, last)]
        return self._execute(
            JOB, keys, f"team {team_id}, {first} to {last}", {raw_logs.REPLACE_TAG: "1"} if replace else {}
        )

    def stale_marts(self, first: date | None = None, last: date | None = None) -> list[date]:
        """The days (both ends included; by default all that are over) whose tables the marts were not made of."""
        first = max(first or date.min, self.settings.partitions_start())
        last = last or datetime.now(UTC).date() - timedelta(days=1)
        return sorted(marts.stale(self.database, first, last, marts_defs.basis_of(self.settings)))

    def make_marts(self, first: date, last: date) -> str:
        """Make the marts of these days (both included) of all teams in one run; returns the run's id.

        Raises RunError where a day is no partition or the run fails.
        """
        self.require_partitions(first, last)
        return self._execute(marts_defs.JOB, [first.isoformat(), last.isoformat()], f"the marts, {first} to {last}")

    def _execute(self, job: str, keys: list[str], what: str, said: Mapping[str, str] = MappingProxyType({})) -> str:
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[1]}
        try:
            done = self.definitions.resolve_job_def(job).execute_in_process(
                instance=self.instance,
                partition_key=keys[0] if keys[0] == keys[1] else None,
                tags={PROCESS_TAG: this_process(), **said} | ({} if keys[0] == keys[1] else tags),
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        except dg.DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
        if not done.success:
            failed = [e for e in done.all_events if e.is_failure and e.is_step_event]
            error = failed[0].step_failure_data.error if failed else None
            if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
                raise KeyboardInterrupt
            while error is not None and error.cause is not None and "max_retries" in error.message:
                error = error.cause
            reason = f"{failed[0].step_key}: {error.message.strip()}" if error else "its events say why"
            raise RunError(
                f"Run {done.run_id} of {what}, failed. {reason}\nThe Dagster UI"
                " (`lipservice dev`) shows the run with all its events"
            )
        return done.run_id

    def failed_checks(self, run_id: str) -> list[str]:
        """The checks that did not pass in a run, as errors, each with what it says."""
        entries = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        checks = [e.dagster_event.asset_check_evaluation_data for e in entries if e.dagster_event is not None]
        return [
            f"{c.asset_key.to_user_string()}: {c.check_name} failed, {c.description or 'see its metadata'}"
            for c in checks
            if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR
        ]

    def close_dead_runs(self) -> None:
        """Mark the runs that died with their process as failed, in Dagster and in the record of runs.

        A step that was interrupted may have kept its place in a pool; where no daemon runs, nobody else frees it, and
        the next run would wait for it for ever.
        """
        for run in self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            if (process := process_of(run, self.instance)) and not may_live(process):
                self.instance.report_run_failed(run, "its process is gone")
                runs.fail_unfinished(self.database, run.run_id, "its process is gone")
        slots = self.instance.event_log_storage
        for run_id in slots.get_concurrency_run_ids():
            holder = self.instance.get_run_by_id(run_id)
            if holder is None or holder.is_finished:
                slots.free_concurrency_slots_for_run(run_id)

    def require_partitions(self, first: date, last: date) -> None:
        """Raise RunError where one of these days is no partition."""
        today, start = datetime.now(UTC).date(), self.settings.partitions_start()
        if first < start:
            raise RunError(
                f"{first} lies before the first partition, {start}: set LIPSERVICE_FIRST_DAY={first} to analyse it"
            )
        if last > today:
            raise RunError(f"{last} has not begun (it is {today} in UTC)")


@contextmanager
def graph(settings: Settings) -> Iterator[Graph]:
    """The graph over the running stack, for as long as the block lasts."""
    with stack.dagster_home(settings) as (in_force, database), dg.DagsterInstance.get() as instance:
        stack.set_pools(settings)
        found = Graph(in_force, database, instance)
        found.close_dead_runs()
        yield found
