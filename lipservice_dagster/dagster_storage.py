"""Dagster's storage in PostgreSQL, made fit for runs over hundreds of partitions.

Dagster opens two connections for each event that it stores, and of a run it stores one for each partition that the run
intends to make: 1,500 for 150 team-days of ten assets, some ten milliseconds each, before the run is even queued. Here
such events are written together, and connections are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dagster import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.config import PostgresStorageConfig
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

_PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_RECYCLE_SECONDS = 10  # so that a server that was restarted is found again
_MORE_CONNECTIONS = 20


class BatchedEventLog(PostgresEventLogStorage):
    """Writes what a run intends to make in one statement, as Dagster's own does with what was made."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one batch; the planned ones together, all others as Dagster does."""
        planned = [e for e in events if e.get_dagster_event().event_type == _PLANNED]
        others = [e for e in events if e.get_dagster_event().event_type != _PLANNED]
        if planned:
            self._store_planned(planned)
        if others:
            super().store_event_batch(others)

    def _store_planned(self, events: Sequence[EventLogEntry]) -> None:
        statement = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
        of_asset: dict[str, list[tuple[int, EventLogEntry]]] = defaultdict(list)
        with self.index_transaction() as connection:
            for event, (event_id,) in zip(events, connection.execute(statement).fetchall(), strict=True):
                of_asset[str(event.get_dagster_event().asset_key)].append((event_id, event))
            # The row of an asset tells its last event. Sorted, so that two runs do not wait for one another.
            for _, stored in sorted(of_asset.items()):
                event_id, event = max(stored, key=lambda pair: pair[0])
                self._store_asset_event(connection, event, event_id)

    def dispose(self) -> None:
        """Close the connections that were kept."""
        super().dispose()
        self._engine.dispose()


class PooledPostgresStorage(DagsterPostgresStorage):
    """Named in dagster.yaml, with the configuration of `DagsterPostgresStorage`."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        self._event_log_storage = BatchedEventLog(postgres_url, should_autocreate_tables)
        for storage in (self._event_log_storage, self._run_storage, self._schedule_storage):
            storage.optimize_for_webserver(
                statement_timeout=0, pool_recycle=_RECYCLE_SECONDS, max_overflow=_MORE_CONNECTIONS
            )

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresStorage:
        """From the ``config`` in dagster.yaml."""
        create = bool(config_value.get("should_autocreate_tables", True))
        return cls(pg_url_from_config(cast(PostgresStorageConfig, config_value)), create, inst_data)
