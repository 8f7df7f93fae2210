"""How long a tick of the spike sensor takes for many teams: its one query over the embedded rollup, and its rule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lipservice_dagster.core.volume_spikes import SpikeSettings, spikes
from lipservice_dagster.defs.volume_spikes import DELAY, plan
from lipservice_dagster.local.log_store import ROW_GROUP_ROWS, VOLUMES_SCHEMA
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


def fill(root: Path, teams: int, days: int, today: date, spiking: int = SPIKING) -> int:
    """Volumes of two severities of each team's services every five minutes, as ingest leaves them, and a burst of a few
    teams at 12:00 of today; how many rows.
    """
    rng, each = np.random.default_rng(7), 2 * SERVICES
    names = pa.array([b"api", b"web", b"jobs", b"mail"])
    rows = 0
    for back in range(days):
        day = today - timedelta(days=back)
        midnight = int(datetime.combine(day, time(), UTC).timestamp() * 1e6)
        team = np.tile(np.repeat(np.arange(1, teams + 1), each), 288)
        bucket = np.repeat(np.arange(288), teams * each)
        counts = rng.poisson(20, len(team))
        if back == 0:
            counts[(team <= spiking) & (bucket == 12 * 12)] += 3_000
        service = pa.array(np.tile(np.repeat(np.arange(SERVICES), 2), 288 * teams))
        severity = pa.array(np.tile([0, 1], 288 * teams * SERVICES))
        columns = {
            "team_id": pa.array(team),
            "time_bucket": pa.array(midnight + bucket * 300_000_000).cast(VOLUMES_SCHEMA.field("time_bucket").type),
            "service_name": names.take(service),
            "environment": pa.repeat(pa.scalar(b"production"), len(team)),
            "severity_text": pa.array(["error", "info"]).take(severity),
            "log_count": pa.array(counts),
            "bytes": pa.array(counts * 150),
        }
        folder = root / "volumes" / f"day={day}"
        folder.mkdir(parents=True)
        pq.write_table(
            pa.table(columns).cast(VOLUMES_SCHEMA),
            folder / "part-1.parquet",
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
        )
        rows += len(team)
    return rows


def tick(root: Path, teams: int, now: datetime) -> Tick:
    """A tick of the sensor's query, rule and plan; the second of two, as an engine has started by then."""
    source, settings = embedded(root), Settings()
    for _ in range(2):
        began, cpu = perf_counter(), process_time()
        span = Span.until(now, settings.spike_minutes, DELAY, settings.window_days)
        volumes = source.compared_volumes(range(1, teams + 1), span)
        asked = perf_counter() - began
        found = spikes(volumes, span.share, SpikeSettings())
        plan(found, {}, {}, span, now, settings)
        done = Tick(asked, perf_counter() - began, process_time() - cpu, len(found))
    return done


def measure(root: Path, teams: int = 1_000, days: int = 15) -> Tick:
    """Fill a store below ``root`` and measure a tick at 12:35 of its last day."""
    today = date(2026, 9, 10)
    fill(root, teams, days, today)
    return tick(root, teams, datetime(2026, 9, 10, 12, 35, tzinfo=UTC))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print(measure(Path(folder)))
