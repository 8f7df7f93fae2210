"""Signatures: accuracy on labelled systems, speed and memory beside Drain3 and beside a bare GROUP BY."""

from __future__ import annotations

import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.measure import Measured, command, table, work

MIXED_LINES = 1_000_000
GROWTH = (100_000, 1_000_000, 10_000_000)
DAY = date(2026, 9, 1)
TEAM = 7
_HERE = "benchmarks.signatures"
LIPSERVICE = str(Path(sys.executable).with_name("lipservice"))


def run(data: Path | None) -> str:
    """The section's Markdown."""
    parts = ["## Signatures"]
    with tempfile.TemporaryDirectory(prefix="lipservice-bench-") as scratch:
        if data is None:
            parts.append("Accuracy and the mixed stream were skipped: no data folder was given.")
        else:
            parts += [_accuracy(data), _mixed(data, Path(scratch))]
        parts.append(_growth(Path(scratch)))
    return "\n\n".join(parts)


def _accuracy(data: Path) -> str:
    print("accuracy on the labelled systems …")
    done = subprocess.run(
        [sys.executable, str(data / "template_metrics.py"), str(data / "loghub"), "--", LIPSERVICE, "templates"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    shown = [[r[0], *r[1:5], *(r[5:7] if len(r) > 5 else ["", ""])] for r in rows]
    return (
        "Accuracy (`template_metrics.py`, one configuration for all systems), shares as LogPub defines them:\n\n"
        + table(["system", "GA", "FGA", "PA", "FTA", "mined", "true"], shown)
    )


def _mixed(data: Path, scratch: Path) -> str:
    print(f"mixed stream of {MIXED_LINES:,} lines …")
    stream, messages, named = scratch / "mixed.tsv", scratch / "mixed.txt", scratch / "named.tsv"
    subprocess.run(
        [sys.executable, str(data / "mixed_stream.py"), str(data / "loghub"), str(MIXED_LINES), str(stream)], check=True
    )
    with stream.open(encoding="utf-8") as source, messages.open("w", encoding="utf-8") as target:
        truth = []
        for line in source:
            message, template = line.rstrip("\n").split("\t")
            target.write(message + "\n")
            truth.append(template)
    store = scratch / "mixed-store"
    work(f"{_HERE}:fill_from_lines", str(messages), str(store))
    ours = command([LIPSERVICE, "templates"], messages, named)
    drain = work(f"{_HERE}:drain3", str(messages))
    pushed = work(f"{_HERE}:push_down", str(store))
    bare = work(f"{_HERE}:bare_group_by", str(store))
    referee = _module(data / "template_metrics.py")
    pairs = [line.split("\t", 1) for line in named.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
    score = referee.score(truth, [p[0] for p in pairs], [p[1] for p in pairs])
    drained = Path(drain.answer["labels"]).read_text().split("\n")
    theirs = referee.score(truth, drained, drained)
    Path(drain.answer["labels"]).unlink()
    halves = work(f"{_HERE}:halves", str(messages)).answer
    drain_speed = MIXED_LINES / drain.answer["seconds"]

    def row(name: str, seconds: float, peak: str, found: dict[str, float] | None) -> list[str]:
        speed = MIXED_LINES / seconds
        scores = [f"{found[k]:.3f}" for k in ("GA", "FGA")] if found else ["", ""]
        return [name, f"{seconds:.2f}", f"{speed / 1000:,.0f}k", f"{speed / drain_speed:.1f}", peak, *scores]

    rows = [
        row("Drain3 0.9.11, default settings (its loop alone)", drain.answer["seconds"], _mb(drain), theirs),
        row("`lipservice templates`, the whole process", ours, "", score),
        row("push-down: masked and grouped in ClickHouse (the query)", pushed.answer["seconds"], _mb(pushed), score),
        row("bare `GROUP BY translate(body, …)` (the query)", bare.answer["seconds"], _mb(bare), None),
    ]
    ratio = pushed.answer["ratio"]
    return (
        f"A shuffled stream of {MIXED_LINES:,} lines of eight systems (`mixed_stream.py`):\n\n"
        + table(["", "seconds", "lines/s", "× Drain3", "peak MB", "GA", "FGA"], rows)
        + f"\n\nThe push-down takes {ratio:.1f} times the bare GROUP BY and returns {pushed.answer['groups']:,} groups."
        f" Of one random half, matched against templates mined from the other, {halves:.2%} of lines get the label that"
        " they have in their own half."
    )


def _growth(scratch: Path) -> str:
    rows = []
    for size in GROWTH:
        print(f"synthetic team-day of {size:,} rows …")
        store = scratch / f"synthetic-{size}"
        work(f"{_HERE}:fill_synthetic", size, str(store))
        bare, pushed = (work(f"{_HERE}:{name}", str(store)) for name in ("bare_group_by", "push_down"))
        rows.append(
            [
                f"{size:,}",
                f"{bare.answer['seconds']:.2f}",
                f"{pushed.answer['seconds']:.2f}",
                f"{pushed.answer['ratio']:.1f}",
                f"{pushed.answer['groups']:,}",
                f"{pushed.answer['python'] / 1e6:.1f}",
                _mb(bare),
                _mb(pushed),
            ]
        )
    header = ["rows", "bare GROUP BY, s", "push-down, s", "ratio", "groups", "Python MB", "peak MB, bare", "peak MB"]
    return (
        "One synthetic team-day through the query that makes `raw_logs` (hours, bytes, weights, examples and masks in"
        " one pass). The ratio is the median of pairs in turn, both warm; Python MB is what reaches Python, peak MB the"
        " whole process with the embedded engine in it:\n\n" + table(header, rows)
    )


def _mb(measured: Measured) -> str:
    return f"{measured.peak / 1e6:,.0f}"


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What follows runs in processes of its own.


def drain3(messages: str) -> dict[str, Any]:
    """Drain3 over the lines; seconds of its loop, and a file with the final template of each line."""
    import logging

    from drain3 import TemplateMiner
    from drain3.template_miner_config import TemplateMinerConfig

    logging.disable(logging.CRITICAL)
    lines = Path(messages).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    miner = TemplateMiner(config=TemplateMinerConfig())
    start = time.perf_counter()
    ids = [miner.add_log_message(line)["cluster_id"] for line in lines]
    seconds = time.perf_counter() - start
    labels = Path(messages).with_suffix(".drain3")
    labels.write_text("\n".join(map(str, ids)))
    return {"seconds": seconds, "labels": str(labels)}


def halves(messages: str) -> float:
    """The share of one half's lines whose own label is the one that the other half's templates give them."""
    from lipservice_dagster.core.templates import mine
    from lipservice_sampler.masks import mask_many
    from lipservice_sampler.matching import Matcher
    from lipservice_sampler.text import repair

    lines = Path(messages).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    random.Random(5).shuffle(lines)
    middle = len(lines) // 2
    first, second = (mask_many(map(repair, part)) for part in (lines[:middle], lines[middle:]))
    mined, other = sorted(set(first)), mine(sorted(set(second)))
    own = mine(mined)
    label = {m: own.templates[i] for m, i in zip(mined, own.assignment, strict=True)}
    matcher = Matcher(other.templates)
    found = {m: matcher.match(m) for m in mined}
    return sum(label[m] == found[m] for m in first) / len(first)


def fill_from_lines(messages: str, store: str) -> None:
    """The lines as logs of one service and team-day."""
    from lipservice_dagster.ingest import ingest

    ingest(
        [Path(messages)],
        store=Path(store),
        team_id=TEAM,
        service="mixed",
        day=DAY,
        now=datetime(2026, 9, 2, tzinfo=UTC),
    )


def fill_synthetic(size: int, store: str) -> None:
    """Logs of 300 patterns with numbers in them, over the hours of a day, in chunks."""
    from lipservice_dagster.local.log_store import LogWriter

    with LogWriter(Path(store)) as writer:
        for chunk in _synthetic(size):
            writer.add(TEAM, chunk)


def _synthetic(size: int) -> Iterator[Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from lipservice_dagster.local.log_store import LOGS_SCHEMA

    rng = np.random.default_rng(3)
    names = ("order", "user", "cart", "session", "invoice", "queue", "shard", "tenant", "device", "batch")
    verbs = ("created", "updated", "removed", "expired", "synced", "queued")
    places = ("in cache", "by worker", "on replica", "from gateway", "at edge")
    heads = [f"{n} {v} {p} id=" for n in names for v in verbs for p in places]
    start = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp() * 1e6)
    empty = pa.array([[]], LOGS_SCHEMA.field("attributes").type)
    resource = pa.array([[(b"k8s.pod.name", b"pod-1"), (b"deployment.environment", b"production")]], empty.type)
    for done in range(0, size, 250_000):
        n = min(250_000, size - done)
        zeros = pa.array(np.zeros(n, dtype=np.int64))
        which = pa.array(rng.zipf(1.3, n) % len(heads))
        numbers = [pc.cast(pa.array(rng.integers(0, 10**k, n)), pa.string()) for k in (6, 4)]
        body = pc.binary_join_element_wise(
            pc.take(pa.array(heads), which), numbers[0], pa.scalar(" took "), numbers[1], pa.scalar(" ms"), ""
        )
        at = pa.array(start + np.sort(rng.integers(0, 86_400_000_000, n)), pa.timestamp("us", "UTC"))
        blank = pa.array([""] * n)
        columns = {
            "timestamp": at, "observed_timestamp": at, "uuid": blank, "trace_id": blank, "span_id": blank,
            "body": body, "severity_text": pc.take(pa.array(["debug", "info", "warn"]), pc.bit_wise_and(which, 1)),
            "severity_number": zeros, "service_name": pa.array(["shop"] * n),
            "resource_attributes": pc.take(resource, zeros), "attributes": pc.take(empty, zeros), "event_name": blank,
        }  # fmt: skip
        yield pa.table({f.name: columns[f.name].cast(f.type) for f in LOGS_SCHEMA}, schema=LOGS_SCHEMA)


def push_down(store: str) -> dict[str, Any]:
    """The query that makes raw_logs: its seconds, beside the bare one in turn, groups, bytes that reach Python."""
    from lipservice_dagster.partitions import Bounds, TeamDay
    from lipservice_dagster.sources.clickhouse import embedded

    source, at = embedded(Path(store)), TeamDay(TEAM, DAY)
    bounds = Bounds(datetime(2026, 10, 1, tzinfo=UTC))
    source.groups([at], bounds)
    client, bare = _bare(store)
    taken = [
        (_timed(lambda: client.query_arrow(bare))[0], _timed(lambda: source.groups([at], bounds))) for _ in range(5)
    ]
    ratio = statistics.median(ours / theirs for theirs, (ours, _) in taken)
    seconds, rows = statistics.median(ours for _, (ours, _) in taken), taken[-1][1][1]
    return {"ratio": ratio, "seconds": seconds, "groups": len(rows), "python": int(rows.memory_usage(deep=True).sum())}


def bare_group_by(store: str) -> dict[str, Any]:
    """The limit: nothing but the digits folded and counted."""
    client, query = _bare(store)
    taken = [_timed(lambda: client.query_arrow(query)) for _ in range(5)]
    return {"seconds": statistics.median(seconds for seconds, _ in taken), "groups": taken[-1][1].num_rows}


def _bare(store: str) -> tuple[Any, str]:
    """An engine that has read the store once, and the bare query over it."""
    import clickhouse_connect

    client = clickhouse_connect.get_client(interface="chdb")
    files = f"file('{store}/logs/team_id=*/day=*/*.parquet', 'Parquet', 'body String')"
    client.query_arrow(f"SELECT count() FROM {files}")
    return client, f"SELECT translate(body, '123456789', '000000000') AS folded, count() FROM {files} GROUP BY folded"


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer
