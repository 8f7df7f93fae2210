"""Backfills through a real daemon, which dies, as do its workers in the middle of a write."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from rich.console import Console

from lipservice_dagster.commands.backfill import _follow
from lipservice_dagster.core import frames
from lipservice_dagster.local import backfills, daemon, stack
from lipservice_dagster.local.backfills import Wanted
from lipservice_dagster.local.in_process import Graph
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.run_process import PROCESS_TAG, may_live, this_process
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import TEAM_DAY_TABLES
from lipservice_dagster.storage.team_days import TeamDayRows, write
from lipservice_dagster_tests.logs import at, log, store

FIRST = date(2026, 9, 1)
LAST = date(2026, 9, 3)
TEAMS = (1, 2)
PATIENCE_SECONDS = 280  # of a busy machine; a quiet one takes a fifth


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def tables(database: Database) -> dict[str, list[str]]:
    with database.engine.connect() as connection:
        return {
            name: list(connection.execute(sa.text(f"SELECT t::text FROM {name} AS t ORDER BY 1")).scalars())
            for name in TEAM_DAY_TABLES
        }


def waiting_writers(database: Database) -> int:
    """How many writers of signatures wait for a lock, with one of the two tables written."""
    with database.engine.connect() as connection:
        return connection.execute(
            sa.text(
                "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
                " WHERE NOT granted AND relname LIKE 'signature_members%'"
            )
        ).scalar_one()


@pytest.mark.timeout(900)
def test_what_is_killed_in_the_middle_of_a_write_is_made_once_and_whole(
    dsn: str, another_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("LIPSERVICE_FIRST_DAY", "2026-08-01")
    settings = Settings(_env_file=None, home=tmp_path, postgres_dsn=dsn, first_day=date(2026, 8, 1))  # type: ignore[call-arg,arg-type]
    days = [FIRST + timedelta(days=n) for n in range(3)]
    store(
        settings.embedded_logs,
        {t: [log(f"order {n} of {t} placed", timestamp=at(n, d)) for d in days for n in range(5 + t)] for t in TEAMS},
    )
    expected = Graph(settings, another_database, dg.DagsterInstance.ephemeral())
    for team in TEAMS:
        expected.run(team, FIRST, LAST)

    with stack.dagster_home(settings) as (in_force, database), dg.DagsterInstance.get() as instance:
        graph = Graph(in_force, database, instance)
        wanted = Wanted(TEAMS, FIRST, LAST)

        def ask() -> str:
            return backfills.ask(graph.definitions, instance, wanted, most=100, parallel=2)[0]

        backfill = ask()
        assert ask() == backfill  # it has not ended, so it is gone on with
        of_backfill = dg.RunsFilter(tags={"dagster/backfill": backfill})
        # Days that no table knows yet would be made a child of it first, which the lock below would hold up already.
        empty = {"signatures": frames.SIGNATURES, "signature_members": frames.SIGNATURE_MEMBERS}
        nothing = {name: frames.empty(columns) for name, columns in empty.items()}
        write(database, "signatures", TeamDayRows(nothing, [TeamDay(9, d) for d in days]), "another")
        holder = database.engine.connect()
        holder.execute(sa.text("LOCK TABLE signature_members IN EXCLUSIVE MODE"))
        with daemon.running(in_force, instance, embedded=True, say=print) as first:
            assert first is not None
            with daemon.running(in_force, instance, embedded=True, say=print) as second:
                assert second is None
            assert daemon.runs(in_force, instance, embedded=True)
            until(lambda: waiting_writers(database) == 2)
            one, other = instance.get_runs(of_backfill)
            os.kill(int(one.tags[PROCESS_TAG].split()[0]), signal.SIGKILL)
            until(lambda: instance.get_run_by_id(one.run_id).status == dg.DagsterRunStatus.FAILURE)  # type: ignore[union-attr]
            first.kill()
            first.wait()
        # What is left of the daemon, the other worker too, has ended with it; its run does not know.
        holder.rollback()
        holder.close()
        until(lambda: not may_live(other.tags[PROCESS_TAG]))
        assert not daemon.runs(in_force, instance, embedded=True)
        # Who followed it while another's daemon made it goes on to one of its own.
        assert _follow(graph, backfill, None, Console(), lambda: False) is None
        assert tables(database)["signatures"] == tables(database)["signature_members"] == []
        assert tables(database)["raw_logs"] == tables(another_database)["raw_logs"]
        now = backfills.progress(instance, database, graph.definitions, backfill)
        assert (now.done, now.ended) == (6, False)

        with daemon.running(in_force, instance, embedded=True, say=print):
            until(lambda: backfills.progress(instance, database, graph.definitions, backfill).ended)
        now = backfills.progress(instance, database, graph.definitions, backfill)
        assert now.succeeded
        assert now.done == now.total == 10 * len(TEAMS) * 3
        assert tables(database) == tables(another_database)
        assert backfills.failures(instance, backfill) == []
        runs = instance.get_runs(of_backfill)
        good = sorted(
            r.tags["dagster/asset_partition_range_start"] for r in runs if r.status == dg.DagsterRunStatus.SUCCESS
        )
        assert good == [str(TeamDay(team, FIRST)) for team in TEAMS]
        entries = materializations.of(database, "policies", [TeamDay(t, d) for t in TEAMS for d in days])
        assert len(entries) == 6
        assert ask() != backfill  # it is done, so the same words ask for all of it anew


def test_only_what_failed_or_was_stopped_is_asked_for_again(database: Database, tmp_path: Path) -> None:
    """The part of `ask` that needs no daemon: runs are written as one would have left them."""
    settings = Settings(_env_file=None, home=tmp_path, first_day=date(2026, 8, 1))  # type: ignore[call-arg]
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(settings, database, instance)
        wanted = Wanted((1, 2, 3, 4), FIRST, LAST)

        def ask(of: Wanted = wanted) -> tuple[str, Wanted]:
            return backfills.ask(graph.definitions, instance, of, most=6, parallel=2)

        backfill, part = ask()
        assert part == wanted
        stored = instance.get_backfill(backfill)
        assert stored is not None
        assert len(stored.submitting_run_requests) == len(stored.reserved_run_ids) == 2

        def leave(of: backfills.PartitionBackfill, *statuses: str) -> None:
            for request, status in zip(of.submitting_run_requests, statuses, strict=True):
                instance.create_run_for_job(
                    graph.definitions.resolve_job_def("team_day"),
                    status=dg.DagsterRunStatus[status],
                    tags={**request.tags, **of.tags, "dagster/backfill": of.backfill_id},
                )

        leave(stored, "SUCCESS", "FAILURE")
        instance.update_backfill(stored.with_status(backfills.BulkActionStatus.COMPLETED_FAILED))
        assert [f.split(")")[0].split("(")[1] for f in backfills.failures(instance, backfill)] == [
            f"{FIRST}|3 to {LAST}|4"
        ]
        again, part = ask()
        assert again != backfill
        assert part == Wanted((3, 4), FIRST, LAST)
        other, part = ask(Wanted((1, 2, 3, 4), FIRST, FIRST))  # other days are another backfill
        assert other not in (again, backfill)
        assert part.teams == (1, 2, 3, 4)
        whole = instance.get_backfill(again)
        assert whole is not None
        leave(whole, "SUCCESS", "SUCCESS")
        instance.update_backfill(whole.with_status(backfills.BulkActionStatus.COMPLETED_SUCCESS))
        assert ask()[1] == wanted


def test_a_process_is_known_to_be_gone_by_its_start_and_never_of_another_machine() -> None:
    mine = this_process()
    assert may_live(mine)
    pid, started, host = mine.split(" ", 2)
    assert not may_live(f"{pid} {float(started) - 60:.2f} {host}")
    assert not may_live(f"{2**22 + 1} {started} {host}")
    assert may_live(f"{2**22 + 1} {started} elsewhere")
