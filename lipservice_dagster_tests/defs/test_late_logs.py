"""Closed days of which the log store holds another number of logs are made again; expired ones stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.late_logs import ASSETS
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store


def age(found: World) -> None:
    with found.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE materializations SET checked_at = checked_at - interval '2 hours'"))


def test_late_logs_make_their_day_again_once_and_expired_ones_do_not(world: Callable[..., World]) -> None:
    last = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
    found = world(first_day=last - timedelta(days=5), daily_run_time="00:00", late_days=2)
    store(found.store, {1: [log("a", timestamp=at(9, last - timedelta(days=back))) for back in range(3)]})
    found.run(1, last - timedelta(days=2), last)
    age(found)
    assert "differs from the log store" in found.tick("late_logs").skip_message
    late = log("late", timestamp=at(10, last))
    store(found.store, {1: [late, log("too old", timestamp=at(10, last - timedelta(days=2)))]})
    answer = found.tick("late_logs")
    (request,) = answer.run_requests
    assert request.partition_key == str(TeamDay(1, last))
    assert {k.to_user_string() for k in request.asset_selection} == set(ASSETS)
    found.ask(request, "late_logs")
    assert materializations.of(found.database, "raw_logs", [TeamDay(1, last)])[TeamDay(1, last)].logs == 2
    assert not found.tick("late_logs", answer.cursor).run_requests
    store(found.store, {1: [late]})
    assert not found.tick("late_logs").run_requests  # made less than an hour ago
    age(found)
    assert found.tick("late_logs").run_requests
    shutil.rmtree(found.store)
    assert not found.tick("late_logs").run_requests


def test_a_day_that_was_read_while_it_was_open_is_made_again_once_it_has_closed(world: Callable[..., World]) -> None:
    last = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
    found = world(first_day=last - timedelta(days=5), daily_run_time="00:00")
    store(found.store, {1: [log("a", timestamp=at(9, last))]})
    found.run(1, last)
    age(found)
    with found.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE materializations SET hours = 13 WHERE asset = 'raw_logs'"))
    assert [r.partition_key for r in found.tick("late_logs").run_requests] == [str(TeamDay(1, last))]


def test_a_day_that_keeps_its_logs_is_left_alone_where_volumes_outlast_them(world: Callable[..., World]) -> None:
    last = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
    found = world(first_day=last - timedelta(days=5), daily_run_time="00:00")
    store(found.store, {1: [log("a", timestamp=at(9, last))]})
    found.run(1, last)
    store(found.store, {1: [log("late", timestamp=at(10, last))]})
    shutil.rmtree(found.store / "logs")
    age(found)
    (request,) = found.tick("late_logs").run_requests
    found.ask(request, "late_logs")
    assert materializations.of(found.database, "raw_logs", [TeamDay(1, last)])[TeamDay(1, last)].kept
    age(found)
    assert not found.tick("late_logs").run_requests


def test_every_asset_of_the_graph_is_made_again(world: Callable[..., World]) -> None:
    job = world().graph.definitions.resolve_job_def("team_day")
    assert {k.to_user_string() for k in job.asset_layer.executable_asset_keys} == set(ASSETS)


def test_a_closed_day_that_daily_did_not_make_whole_is_asked_for_three_times(
    world: Callable[..., World],
) -> None:
    last = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
    before = last - timedelta(days=1)
    found = world(first_day=last - timedelta(days=5), daily_run_time="00:00", late_days=2)
    store(
        found.store, {1: [log("a", timestamp=at(9, d)) for d in (before, last)], 2: [log("b", timestamp=at(9, last))]}
    )
    found.instance.add_dynamic_partitions(TEAMS_NAME, ["1", "2"])
    assert not found.tick("late_logs").run_requests  # new teams, whose days are filled by who finds them
    found.run(1, before)
    answer = found.tick("late_logs")
    assert [r.partition_key for r in answer.run_requests] == [str(TeamDay(1, last))]
    keys = {answer.run_requests[0].run_key}
    for _ in range(2):  # none of them comes to anything
        answer = found.tick("late_logs", answer.cursor)
        keys |= {r.run_key for r in answer.run_requests}
    assert len(keys) == 3
    assert "failed 3 times" in found.tick("late_logs", answer.cursor).skip_message
    found.run(1, last)
    assert not found.tick("late_logs").run_requests
    with found.database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM materializations WHERE asset = 'policies' AND day = :d"), {"d": last})
    assert [r.partition_key for r in found.tick("late_logs").run_requests] == [str(TeamDay(1, last))]


def test_a_day_that_waits_for_its_run_is_not_asked_for_once_more(world: Callable[..., World]) -> None:
    last = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
    found = world(first_day=last - timedelta(days=5), daily_run_time="00:00", late_days=2)
    store(found.store, {1: [log("a", timestamp=at(9, d)) for d in (last - timedelta(days=1), last)]})
    found.run(1, last - timedelta(days=1))
    job = found.graph.definitions.resolve_job_def("team_day")
    tags = {"dagster/partition": str(TeamDay(1, last))}
    found.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.NOT_STARTED)
    assert not found.tick("late_logs").run_requests
