"""What a query of the log store may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class QueryLimits:
    """Bounds of each query; see the settings of the same names."""

    max_messages: int = 50_000
    max_threads: int = 0
    max_memory_bytes: int = 8 * 1024**3
    timeout_seconds: int = 900

    def clickhouse_settings(self) -> dict[str, Any]:
        """As ClickHouse's settings of a query; grouping spills to disk before the limit is met."""
        settings: dict[str, Any] = {
            "max_memory_usage": self.max_memory_bytes,
            "max_bytes_before_external_group_by": self.max_memory_bytes // 2,
            "max_bytes_before_external_sort": self.max_memory_bytes // 2,
            "max_execution_time": self.timeout_seconds,
            "session_timezone": "UTC",
            "optimize_skip_unused_shards": 1,  # of a cluster sharded by team, only the shards of these teams are asked
        }
        if self.max_threads:
            settings["max_threads"] = self.max_threads
        return settings
