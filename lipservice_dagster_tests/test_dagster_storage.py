"""What a run intends to make, stored by ours and by Dagster's own storage."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from dagster import AssetKey, DagsterEvent, DagsterEventType
from dagster._core.events import AssetCheckEvaluationPlanned, AssetMaterializationPlannedData
from dagster._core.events.log import EventLogEntry
from dagster_postgres import DagsterPostgresStorage

from lipservice_dagster.dagster_storage import BatchedEventLog, PooledPostgresStorage
from lipservice_dagster.storage.database import Database

RUN = "a2b8f8f4-1d3c-4a0c-9d5e-1f3a5b7c9d0e"
PARTITIONS = 20
TABLES = {
    "event_logs": "run_id, event, dagster_event_type, step_key, asset_key, partition",
    "asset_keys": "asset_key, last_run_id, asset_details, wipe_timestamp, tags",
    "asset_check_executions": "asset_key, check_name, partition, run_id, execution_status",
}


def entry(event: DagsterEvent) -> EventLogEntry:
    return EventLogEntry(
        error_info=None,
        user_message="",
        level=10,
        run_id=RUN,
        timestamp=1_790_000_000.0,
        job_name="job",
        step_key=event.step_key,
        dagster_event=event,
    )


def planned() -> list[EventLogEntry]:
    """Two assets' partitions and a check, in one batch."""
    found = []
    for name in ("policies", "clusters"):
        for i in range(PARTITIONS):
            data = AssetMaterializationPlannedData(AssetKey(name), partition=f"2026-09-01|{i}", partitions_subset=None)
            found.append(entry(DagsterEvent.build_asset_materialization_planned_event("job", name, data)))
    check = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        job_name="job",
        step_key="policies",
        event_specific_data=AssetCheckEvaluationPlanned(
            asset_key=AssetKey("policies"), check_name="errors_kept", partitions_subset=None
        ),
    )
    return [*found, entry(check)]


def url(database: Database) -> str:
    return database.engine.url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def stored(database: Database) -> dict[str, list[Any]]:
    with database.engine.connect() as connection:
        return {
            table: sorted(map(tuple, connection.execute(sa.text(f"SELECT {columns} FROM {table}"))), key=repr)
            for table, columns in TABLES.items()
        }


def test_planned_events_of_a_batch_are_stored_as_dagster_stores_them(
    database: Database, another_database: Database
) -> None:
    ours, dagsters = PooledPostgresStorage(url(database)), DagsterPostgresStorage(url(another_database))
    ours.event_log_storage.store_event_batch(planned())
    dagsters.event_log_storage.store_event_batch(planned())
    assert stored(database) == stored(another_database)
    newest = ours.event_log_storage.get_asset_records([AssetKey("clusters")])[0].asset_entry
    assert newest.last_run_id == RUN
    ours.event_log_storage.dispose()


def test_planned_events_of_a_run_take_a_statement_and_connections_are_kept(database: Database) -> None:
    log = PooledPostgresStorage(url(database)).event_log_storage
    assert isinstance(log, BatchedEventLog)
    said: list[str] = []
    connected: list[object] = []
    sa.event.listen(log._engine, "before_cursor_execute", lambda *words: said.append(words[2]))
    sa.event.listen(log._engine, "connect", lambda connection, _: connected.append(connection))
    log.store_event_batch([e for e in planned() if e.get_dagster_event().is_asset_materialization_planned] * 2)
    log.store_event_batch(planned())
    assert sum("INSERT INTO event_logs" in text for text in said) <= 3
    assert len(said) < PARTITIONS
    assert len(connected) <= 2  # one event is stored within the storing of another
    log.dispose()
