"""How long a tick of the spike sensor takes for many teams: its one query over the embedded rollup, and its rule."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from lipservice_dagster.core.volume_spikes import SpikeSettings, spikes
from lipservice_dagster.defs.volume_spikes import DELAY, plan
from lipservice_dagster.local.log_store import LOGS_SCHEMA, LogWriter
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.clickhouse import embedded
from lipservice_dagster.sources.volumes_sql import Span

SERVICES = 4
SPIKING = 3


@dataclass(frozen=True)
class Tick:
    """Seconds of a tick (the query, and all of it), processor seconds, and the spikes that it found."""

    query_seconds: float
    seconds: float
    cpu_seconds: float
    spikes: int


def fill(root: Path, teams: int, days: int, today: date) -> int:
    """A log every five minutes of each team's services, and a burst at 12:00 of today of a few; how many logs."""
    logs = 0
    for back in range(days):
        midnight = datetime.combine(today - timedelta(days=back), datetime.min.time(), UTC)
        start = int(midnight.timestamp() * 1e6)
        with LogWriter(root) as writer:
            for team in range(1, teams + 1):
                stamps = np.repeat(start + np.arange(288) * 300_000_000, SERVICES)
                if back == 0 and team <= SPIKING:
                    stamps = np.concatenate([stamps, np.full(5_000, start + 12 * 3_600_000_000)])
                writer.add(team, _table(np.sort(stamps)))
            logs += sum(writer.counts.values())
    return logs


def tick(root: Path, teams: int, now: datetime) -> Tick:
    """A tick of the sensor's query, rule and plan; the second of two, as an engine has started by then."""
    source, settings = embedded(root), Settings()
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        span = Span.until(now, settings.spike_minutes, DELAY, settings.window_days)
        volumes = source.compared_volumes(range(1, teams + 1), span)
        asked = time.perf_counter() - began
        found = spikes(volumes, span.share, SpikeSettings())
        plan(found, {}, {}, span, now, settings)
        done = Tick(asked, time.perf_counter() - began, time.process_time() - cpu, len(found))
    return done


def measure(root: Path, teams: int = 1_000, days: int = 15) -> Tick:
    """Fill a store below ``root`` and measure a tick at 12:35 of its last day."""
    today = date(2026, 9, 10)
    fill(root, teams, days, today)
    return tick(root, teams, datetime(2026, 9, 10, 12, 35, tzinfo=UTC))


def _table(stamps: np.ndarray) -> pa.Table:
    n = len(stamps)
    services = pa.array([b"api", b"web", b"jobs", b"mail"]).take(pa.array(np.arange(n) % SERVICES))
    times = pa.array(stamps).cast(LOGS_SCHEMA.field("timestamp").type)
    none = pa.repeat(pa.scalar([], LOGS_SCHEMA.field("attributes").type), n)
    words = {"body": b"order placed", "trace_id": b"", "span_id": b"", "uuid": "", "event_name": ""}
    words |= {"severity_text": "info"}
    columns = {name: pa.repeat(pa.scalar(value), n) for name, value in words.items()}
    columns |= {"timestamp": times, "observed_timestamp": times, "service_name": services}
    columns |= {"resource_attributes": none, "attributes": none, "severity_number": pa.repeat(pa.scalar(9), n)}
    return pa.table({name: columns[name] for name in LOGS_SCHEMA.names}).cast(LOGS_SCHEMA)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print(measure(Path(folder)))
