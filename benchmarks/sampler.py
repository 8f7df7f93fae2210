"""Decisions a second of the sampler in one process, over the demo's stream of messages with 1,000 patterns.

Nearly every message of the stream is a text of its own, as in an application. ``cold``: a sampler that has met nothing
yet, over the stream. ``warm``: the same one, over another stream of the same services. ``constant``: three messages
over and over, which is as fast as it gets. ``never seen``: words no sampler can have met.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import table, work

PATTERNS = 1000
STREAM = 100_000
FLOOR = 100_000
_DAY = date(2026, 9, 10)


class _Nowhere(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write nothing."""


def run(data: Path | None) -> str:
    """The section of the report."""
    measured = [work("benchmarks.sampler:measure", way).answer for way in ("decide", "filter") for _ in range(3)]
    names = list(measured[0]["rates"])
    rows = []
    for i, way in enumerate(("`Sampler.decide`", "`SamplingFilter`, with making the record and formatting it")):
        runs = measured[3 * i : 3 * i + 3]
        best = [max(r["rates"][name] for r in runs) for name in names]
        rows.append([way, *(f"{rate / 1000:,.0f}k" for rate in best)])
    facts = measured[0]
    return "\n\n".join(
        [
            "## Sampler",
            f"Decisions a second in one process under a live policy of {facts['patterns']:,} patterns, by processor"
            f" time, the best of three processes. Of {facts['messages']:,} messages {facts['distinct']:.0%} are texts"
            f" of their own, {facts['folded']:.0%} after digits are folded;"
            f" {facts['listed']:.0%} match a pattern of the policy."
            f" Asked for: {FLOOR:,}.",
            table(["", *names], rows),
        ]
    )


def messages(seed: int) -> list[tuple[str, str]]:
    """A shuffled stream of the demo's messages of all teams, with their severities."""
    from lipservice_dagster.local.demo_logs import generate

    found: list[tuple[str, str]] = []
    for team in (1, 2, 3):
        logs = generate(team, _DAY, until=_DAY, days=1, seed=seed, logs_per_day=STREAM // 3)
        found += zip((b.decode() for b in logs["body"].to_pylist()), logs["severity_text"].to_pylist(), strict=True)
    random.Random(seed).shuffle(found)
    return found


def policy(stream: list[tuple[str, str]]) -> dict[str, Any]:
    """A live policy with `PATTERNS` patterns: the commonest masked messages of the stream and variations of them."""
    from lipservice_sampler.masks import mask

    common = [text for text, _ in Counter(mask(m) for m, _ in stream).most_common(PATTERNS // 2)]
    templates = [*common, *(f"{text} of shard {'abcdefgh'[i % 8]}" for i, text in enumerate(common))]
    entries = [{"signature": f"{i:016x}", "template": text, "rate": 0.1} for i, text in enumerate(templates)]
    return {
        "team_id": 1,
        "service": "demo",
        "environment": "production",
        "mode": "live",
        "version": "1",
        "policy": {
            "global_rate": 0.1,
            "severity_rates": {"info": 0.2, "warn": 0.5},
            "pattern_rates": entries[:PATTERNS],
            "unknown": {"first_per_hour": 10},
        },
        "overlay": {"boosts": [{"signature": "0" * 16, "factor": 2.0, "until": "2100-01-01T00:00:00Z"}]},
    }


def measure(way: str) -> dict[str, Any]:
    """Decisions a second by stream."""
    from lipservice_sampler import Sampler, SamplingFilter
    from lipservice_sampler.masks import fold, mask

    first, second = messages(1), messages(2)
    served = json.loads(json.dumps(policy(first)))
    listed = {entry["template"] for entry in served["policy"]["pattern_rates"]}
    constant = [("service is up", "info"), ("cache flushed", "debug"), ("order 17 placed", "info")] * (STREAM // 3)
    rng = random.Random(3)
    letters = "ghijklmnopqrstuvwxyz"
    never = [(f"{''.join(rng.choices(letters, k=9))} came to {rng.random()}", "info") for _ in range(STREAM // 5)]
    sampler = Sampler("demo", team_id=1, environment="production", url="", policy=served)
    logger = logging.Logger("bench", logging.DEBUG)
    handler = _Nowhere()
    handler.addFilter(SamplingFilter(sampler))
    logger.addHandler(handler)
    levels = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}

    def seconds(stream: list[tuple[str, str]]) -> float:
        begun = time.process_time()
        if way == "decide":
            for message, severity in stream:
                sampler.decide(message, severity)
        else:
            for message, severity in stream:
                logger.log(levels[severity], "%s", message)
        return time.process_time() - begun

    streams = {"cold": first, "warm": second, "constant": constant, "never seen": never}
    rates = {name: len(stream) / seconds(stream) for name, stream in streams.items()}
    texts = [m for m, _ in first]
    return {
        "rates": rates,
        "patterns": len(listed),
        "messages": len(first),
        "distinct": len(set(texts)) / len(texts),
        "folded": len({fold(m) for m in texts}) / len(texts),
        "listed": sum(mask(m) in listed for m in texts) / len(texts),
    }
