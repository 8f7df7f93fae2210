"""What a log costs in each export with 1,000 patterns, where it can be run: Vector's VRL, Fluent Bit's Lua.

The VRL runs in the package pyVRL and the Lua in lupa: both pay for the way from Python and back, and neither is the
collector's own build, so the figures are upper bounds.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import table, work
from benchmarks.sampler import PATTERNS, messages

_LOGS = 10_000


def run(data: Path | None) -> str:
    """The section of the report."""
    ways = {"vector": "Vector (VRL in pyVRL)", "fluentbit": "Fluent Bit (Lua in lupa)"}
    rows = []
    for to, name in ways.items():
        runs = [work("benchmarks.exports:measure", to).answer for _ in range(2)]
        best = min(runs, key=lambda r: r["micros"])
        rows.append(
            [name, f"{best['micros']:.0f}", f"{best['load']:.1f}", f"{best['bytes'] / 1e3:,.0f}", f"{best['same']:.1%}"]
        )
    header = ["", "µs a log", "seconds to load", "kB of fragment", "rates as the sampler's"]
    return "\n\n".join(
        [
            "## Exports",
            f"Fragments of a policy with {PATTERNS:,} patterns over {_LOGS:,} messages of the demo, by processor time,"
            " the better of two processes.",
            table(header, rows),
            "The OpenTelemetry Collector cannot be run from Python; its fragment is checked against what is documented"
            " of it.",
        ]
    )


def document(stream: list[tuple[str, str]]) -> dict[str, Any]:
    """A policy of `PATTERNS` patterns: the commonest masked messages of the stream and variations of them."""
    from lipservice_dagster.core import policy
    from lipservice_sampler.masks import mask
    from lipservice_sampler.text import signature

    common = [text for text, _ in Counter(mask(m) for m, _ in stream).most_common(PATTERNS // 2)]
    templates = [*common, *(f"{text} of shard {'abcdefgh'[i % 8]}" for i, text in enumerate(common))]
    entries = [
        policy.PatternRate(signature=signature("demo", text), template=text, rate=0.02 + 0.9 * (i % 89) / 89)
        for i, text in enumerate(dict.fromkeys(templates))
    ]
    rates: Any = {"trace": 0.1, "debug": 0.1, "info": 0.2, "warn": 0.5, "error": 1.0, "fatal": 1.0}
    made = policy.Policy(
        team_id=1,
        service="demo",
        environment="",
        day=date(2026, 9, 10),
        global_rate=0.1,
        severity_rates=rates,
        pattern_rates=tuple(entries),
        generated_by="rules",
    )
    return policy.document(made)


def measure(to: str) -> dict[str, float]:
    """Microseconds a log, seconds to load the fragment, its size, and the share of logs decided as elsewhere."""
    import lupa
    import pyvrl
    import yaml

    from lipservice_dagster.core.exports import export
    from lipservice_sampler.decision import decide, error_like, indexed
    from lipservice_sampler.masks import mask
    from lipservice_sampler.matching import Matcher

    stream = messages(1)
    policy = document(stream)
    logs = messages(2)[:_LOGS]
    text = export(policy, None, to)
    names = {entry["template"]: entry["signature"] for entry in policy["pattern_rates"]}
    matcher, rates = Matcher(names), indexed(policy)
    wanted = [decide(rates, s, names.get(matcher.match(mask(m)) or ""), error_like(m)).rate for m, s in logs]
    begun = time.process_time()
    if to == "vector":
        transforms = yaml.safe_load(text.replace("$$", "$"))["transforms"]
        begun = time.process_time()
        vrl = pyvrl.Transform(next(iter(transforms.values()))["source"] + "\n.")
        loaded = time.process_time()
        events = [{"message": m, "severity": s, "service": "demo"} for m, s in logs]
        got = [event.get("lipservice.sample_rate", 1.0) for event in map(vrl.remap, events)]
    else:
        code = yaml.safe_load(text)["pipeline"]["filters"][0]["code"]
        begun = time.process_time()
        runtime = lupa.LuaRuntime(encoding="utf-8")
        # Nothing is dropped, so that every rate is seen.
        runtime.execute("math.random = function() return 0 end")
        runtime.execute(code)
        loaded = time.process_time()
        call = runtime.globals().lipservice
        got = []
        for message, severity in logs:
            record = runtime.table_from({"log": message, "severity": severity, "service": "demo"})
            got.append(call("", 0, record)[2]["lipservice.sample_rate"] or 1.0)
    done = time.process_time()
    same = sum(abs(g - w) < 1e-9 for g, w in zip(got, wanted, strict=True))
    return {
        "micros": (done - loaded) / _LOGS * 1e6,
        "load": loaded - begun,
        "bytes": len(text),
        "same": same / len(logs),
    }
