"""Runs that are asked for over the API: as backfills of one team-day, which Dagster's daemon submits and retries.

Their run ids are drawn when they are asked for, so that who asks can follow a run that has not begun.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lipservice_dagster.serving.problems import unprocessable
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import asked_runs

if TYPE_CHECKING:
    import dagster as dg

ANALYSIS = ("raw_logs", "signatures", "clusters", "anomaly_reports")
QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELED = "queued", "running", "succeeded", "failed", "canceled"
_BY_DAGSTER = {
    "STARTED": RUNNING,
    "CANCELING": RUNNING,
    "SUCCESS": SUCCEEDED,
    "FAILURE": FAILED,
    "CANCELED": CANCELED,
}
_BY_BACKFILL = {"FAILED": FAILED, "COMPLETED_FAILED": FAILED, "CANCELED": CANCELED, "CANCELING": CANCELED}
_BEAT_SECONDS = 300


class Runs:
    """Dagster's instance of the environment, opened when first needed, with the graph of these settings."""

    def __init__(self, settings: Settings, database: Database):
        self._settings, self._database = settings, database
        self._lock = threading.Lock()
        self._opened: tuple[dg.DagsterInstance, dg.Definitions] | None = None

    def close(self) -> None:
        """Let go of the instance."""
        with self._lock:
            if self._opened is not None:
                self._opened[0].dispose()
                self._opened = None

    def _graph(self) -> tuple[dg.DagsterInstance, dg.Definitions]:
        import dagster

        from lipservice_dagster.definitions import build_defs

        with self._lock:
            if self._opened is None:
                definitions = build_defs(self._settings, database=self._database)
                self._opened = dagster.DagsterInstance.get(), definitions
            return self._opened

    def ask(self, team_id: int, day: date, assets: Collection[str] | None, asked_by: str) -> str:
        """Ask for a team-day, all of it or these assets; the id of its run. One that has not ended is gone on with.

        Raises ProblemError (422) where it is no partition.
        """
        from lipservice_dagster.local import backfills

        today, start = datetime.now(UTC).date(), self._settings.partitions_start()
        if not start <= day <= today:
            raise unprocessable(("body.day", f"is no partition: they go from {start} to {today}"))
        if not self._settings.takes(team_id):
            raise unprocessable(("body.team_id", "is not taken through the graph (LIPSERVICE_TEAMS)"))
        instance, definitions = self._graph()
        with self._database.engine.begin() as connection:
            # Who asks for the same at once gets the same run.
            key = {"key": f"lipservice|asked_runs|{team_id}"}
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), key)
            wanted = backfills.Wanted((team_id,), day, day, None if assets is None else tuple(assets))
            backfill_id, _ = backfills.ask(definitions, instance, wanted, most=1, parallel=1)
            known = connection.execute(
                sa.select(asked_runs.c.run_id).where(asked_runs.c.backfill_id == backfill_id)
            ).scalar()
            if known is not None:
                return str(known)
            (run_id,) = backfills.run_ids(instance, backfill_id)
            values = {"run_id": run_id, "backfill_id": backfill_id, "team_id": team_id, "day": day}
            connection.execute(sa.insert(asked_runs).values(values | {"asked_by": asked_by}))
        return run_id

    def state(self, run_id: str, team_id: int) -> dict[str, Any] | None:
        """How a run stands and what it did to the team's days; None where it has nothing to do with the team."""
        steps = runs.of_run(self._database, run_id, team_id)
        statement = sa.select(asked_runs.c.backfill_id).where(
            asked_runs.c.run_id == run_id, asked_runs.c.team_id == team_id
        )
        with self._database.engine.connect() as connection:
            backfill_id = connection.execute(statement).scalar()
        if not steps and backfill_id is None:
            return None
        return {"run_id": run_id, "team_id": team_id, "status": self._status(run_id, backfill_id), "steps": steps}

    def _status(self, run_id: str, backfill_id: str | None) -> str:
        instance, _ = self._graph()
        run = instance.get_run_by_id(run_id)
        if run is not None:
            return _BY_DAGSTER.get(run.status.value, QUEUED)
        backfill = None if backfill_id is None else instance.get_backfill(backfill_id)
        if backfill is None:
            return FAILED  # Dagster has deleted it, or was given another storage
        return _BY_BACKFILL.get(backfill.status.value, QUEUED)

    def daemon(self) -> tuple[bool, str]:
        """Whether Dagster's daemon is at work, and what there is to say of it."""
        instance, _ = self._graph()
        beats = [s.last_heartbeat.timestamp for s in instance.get_daemon_statuses().values() if s.last_heartbeat]
        if not beats:
            return False, "no daemon has run: runs that are asked for wait for it"
        age = time.time() - max(beats)
        return age <= _BEAT_SECONDS, f"the daemon was heard of {age:.0f} s ago"
