"""Many partitions that look as if they had been made: in PostgreSQL, in the log store and in Dagster's event log."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from lipservice_dagster.core import frames
from lipservice_dagster.core.budget import key_of
from lipservice_dagster.core.ramp import window_days
from lipservice_dagster.local.in_process import Graph
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import windows
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, write

_BEFORE_REPORTS = ("raw_logs", "signatures", "clusters")
_AFTER_POLICIES = ("replays", "backtests", "policy_releases", "savings")
_ENTRIES = """
INSERT INTO materializations (asset, team_id, day, rows, logs, fingerprint, hours, written_by, written_at, checked_by,
                              checked_at)
SELECT :asset, team, CAST(:first AS date) + n, 100, 10000, md5(concat_ws(' ', :asset, team, n)), 24, 'run',
       clock_timestamp(), 'run', clock_timestamp()
  FROM generate_series(1, :teams) AS team, generate_series(0, :days - 1) AS n
"""
# Of each service and day, as the sensor expects it: the ramp's window is that of `storage.windows`.
_POLICIES = """
INSERT INTO policies (team_id, day, service, environment, version, document, logs, bytes, kept_logs, kept_bytes,
                      generated_by, budget, goals_fingerprint, window_fingerprint)
SELECT team_id, day, service, 'production', left(goals, 12), '{}', 10000, 1500000, 1000, 150000, 'rules', :budget,
       goals,
       left(encode(sha256(convert_to(coalesce(string_agg(day || ' ' || goals, ';') OVER (
         PARTITION BY team_id, service ORDER BY day
         RANGE BETWEEN make_interval(days => CAST(:span AS int)) PRECEDING AND interval '1 day' PRECEDING
       ), ''), 'UTF8')), 'hex'), 16)
  FROM (SELECT team AS team_id, CAST(:first AS date) + n AS day, 'service-' || s AS service,
               left(md5(concat_ws(' ', team, n, s)), 16) AS goals
          FROM generate_series(1, :teams) AS team, generate_series(0, :days - 1) AS n,
               generate_series(1, :services) AS s) AS rows
"""
_SERVICES = 4


def fill_tables(database: Database, settings: Settings, first: date, teams: int, days: int) -> int:
    """Entries of every asset, the reports and the policies, none of which is stale; how many entries there are."""
    asked = settings.policy_settings()

    def entries(asset: str) -> None:
        with database.engine.begin() as connection:
            connection.execute(sa.text(_ENTRIES), {"asset": asset, "first": first, "teams": teams, "days": days})

    for asset in _BEFORE_REPORTS:
        entries(asset)
    every = [TeamDay(t, first + timedelta(days=n)) for n in range(days) for t in range(1, teams + 1)]
    prints = windows.window_fingerprints(database, every, 14)
    reports = pd.DataFrame(
        [(d.team_id, d.day, 24, 14, prints[d], False, 300, 0, 0) for d in every], columns=list(frames.ANOMALY_REPORTS)
    )
    write(database, "anomaly_reports", TeamDayRows({"anomaly_reports": reports}, every), "run")
    write(database, "policies", TeamDayRows({"policies": frames.empty(frames.POLICIES)}, every), "run")
    of_policies = {
        "first": first,
        "teams": teams,
        "days": days,
        "services": _SERVICES,
        "budget": key_of(asked),
        "span": window_days(asked.fall_a_day, asked.min_rate),
    }
    with database.engine.begin() as connection:
        connection.execute(sa.text(_POLICIES), of_policies)
    for asset in _AFTER_POLICIES:
        entries(asset)
    with database.engine.begin() as connection:
        connection.execute(sa.text("ANALYZE materializations, policies"))
        return connection.execute(sa.text("SELECT count(*) FROM materializations")).scalar_one()


def tick(found: Graph, sensor: str, resources: Mapping[str, Any], cursor: str | None = None) -> tuple[float, str]:
    """Seconds of a sensor's evaluation that asks for nothing, and the cursor that it leaves."""
    graph = found.definitions.get_repository_def()
    needed = {name: resources[name] for name in graph.get_sensor_def(sensor).required_resource_keys}
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as on_disk:
        context = dg.build_sensor_context(
            found.instance, instance_ref=on_disk.get_ref(), repository_def=graph, resources=needed, cursor=cursor
        )
    start = time.perf_counter()
    answer = graph.get_sensor_def(sensor).evaluate_tick(context)
    seconds = time.perf_counter() - start
    if answer.run_requests:
        raise RuntimeError(f"{sensor} asked for {len(answer.run_requests)} runs")
    return seconds, answer.cursor or ""


def touch(database: Database, day: date, teams: int) -> None:
    """Write the day's entries of these teams anew, each asset after what it is made of, as a run over them does."""
    with database.engine.begin() as connection:
        for asset in (*_BEFORE_REPORTS, "anomaly_reports", "policies", *_AFTER_POLICIES):
            connection.execute(
                sa.text(
                    "UPDATE materializations SET written_at = clock_timestamp()"
                    " WHERE asset = :asset AND day = :day AND team_id <= :teams"
                ),
                {"asset": asset, "day": day, "teams": teams},
            )


def fill_events(instance: dg.DagsterInstance, found: Graph, first: date, teams: int, days: int) -> None:
    """A materialisation of raw_logs for each partition: one as Dagster writes it, copied in its storage."""
    one = str(TeamDay(1, first))
    instance.report_runless_asset_event(dg.AssetMaterialization("raw_logs", partition=one))
    url = sa.make_url(os.environ["LIPSERVICE_DAGSTER_POSTGRES_URL"])
    engine = sa.create_engine(url)
    copy = """
        INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
        SELECT run_id, replace(event, :one, key), dagster_event_type, timestamp, step_key, asset_key, key
          FROM event_logs, (
               SELECT to_char(CAST(:first AS date) + n, 'YYYY-MM-DD') || '|' || team AS key
                 FROM generate_series(1, :teams) AS team, generate_series(0, :days - 1) AS n) AS keys
         WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition = :one AND key <> :one"""
    with engine.begin() as connection:
        connection.execute(sa.text(copy), {"one": one, "first": first, "teams": teams, "days": days})
        connection.execute(sa.text("ANALYZE event_logs"))
    engine.dispose()
    if len(instance.get_materialized_partitions(dg.AssetKey("raw_logs"))) != teams * days:
        raise RuntimeError(f"not all partitions of the {len(instance.get_dynamic_partitions(TEAMS_NAME))} teams count")


# What the page asks before it draws: the keys of both dimensions and the state of each partition.
_PAGE = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  id
  partitionKeysByDimension { name type partitionKeys }
  partitionStats { numMaterialized numPartitions numFailed numMaterializing }
  assetPartitionStatuses { ... on MultiPartitionStatuses { primaryDimensionName ranges {
    primaryDimStartKey primaryDimEndKey primaryDimStartTime primaryDimEndTime
    secondaryDim { ... on DefaultPartitionStatuses {
      materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } } } } } } }
"""


def page_seconds(asset: str) -> dict[str, float]:
    """Seconds of the webserver's answer: the first, for which it counts the events, and the median of five after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "-m", "lipservice_dagster.definitions", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        question = json.dumps({"query": _PAGE, "variables": {"key": {"path": [asset]}}}).encode()
        seconds = [_asked(port, question) for _ in range(6)]
    finally:
        child.terminate()
        child.wait(30)
    return {"first": seconds[0], "then": sorted(seconds[1:])[2]}


def _asked(port: int, question: bytes) -> float:
    deadline = time.monotonic() + 300
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", question, {"Content-Type": "application/json"})
    while True:
        start = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - of our own server
                told = json.load(answer)
        except (ConnectionError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
            continue
        node = told["data"]["assetNodeOrError"]
        if "assetPartitionStatuses" not in node:  # the code location is being loaded
            if time.monotonic() > deadline:
                raise RuntimeError(f"the webserver does not know the asset: {told}")
            time.sleep(0.5)
            continue
        if not node["assetPartitionStatuses"]["ranges"]:
            raise RuntimeError("the page would show no partition as made")
        return time.perf_counter() - start
