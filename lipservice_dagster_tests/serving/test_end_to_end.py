"""From logs to logs: demo days, the graph, a live policy, the API, an application that samples, and its logs again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import chi2

from lipservice_dagster.ingest import ingest
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import keys, releases, reported
from lipservice_dagster.storage.releases import LIVE, Release
from lipservice_dagster.storage.team_days import read
from lipservice_dagster_tests.defs.conftest import World, world  # noqa: F401 - a fixture
from lipservice_dagster_tests.serving.conftest import serving
from lipservice_sampler.decision import decide, error_like, indexed
from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import repair

TEAM, SERVICE, ENVIRONMENT = 1, "storefront-web", "production"
UNTIL, LATER = date(2026, 9, 10), date(2026, 9, 11)
MESSAGES, SEEDS = 100_000, 20
Message = tuple[float, str, str]


def demo(day: date, logs: int) -> pa.Table:
    found = generate(TEAM, day, until=UNTIL, days=3, logs_per_day=logs)
    return found.filter(pc.equal(found["service_name"], SERVICE.encode()))


@pytest.mark.timeout(600)  # two million decisions, on a machine that may be busy
def test_what_an_application_keeps_is_what_the_policy_says_and_its_logs_tell_of_all_there_were(
    world: Callable[..., World],  # noqa: F811
    tmp_path: Path,
) -> None:
    found = world(backtest_min_days=1)
    live = live_policy(found)
    messages = later_day()
    folder = tmp_path / "kept"
    folder.mkdir()
    (tmp_path / "given.json").write_text(
        json.dumps(
            {
                "scope": {"service": SERVICE, "team_id": TEAM, "environment": ENVIRONMENT},
                "version": live.version,
                "seeds": SEEDS,
                "messages": messages,
            }
        )
    )
    _, key = keys.create(found.database, TEAM, "application", keys.REPORT)
    with serving(found.graph.settings, found.database) as url:
        application = [sys.executable, "-m", "lipservice_dagster_tests.serving.application", url, key]
        subprocess.run([*application, str(tmp_path / "given.json"), str(folder)], check=True, timeout=240)

    # What each seed kept of each message, and at which rate.
    decided = Decided.by(live.document, messages)
    kept = np.zeros((SEEDS, MESSAGES), dtype=bool)
    for n in range(SEEDS):
        shipped = np.array(json.loads((folder / f"kept-{n}.json").read_bytes()))
        kept[n, shipped[:, 0].astype(int)] = True
        assert (shipped[:, 1] == decided.rate[kept[n]]).all()

    assert kept[:, decided.error].all()
    assert decided.error.sum() > 100
    assert kept.mean() < 0.5

    # Within a cell all have one rate, so the kept share and the rebuilt count (kept logs over their rate) are off by
    # the same number of standard errors: one test says both. It is conservative: the variance is that of draws one by
    # one. Of even draws two logs of a stretch are never both kept, so what is kept strays less.
    statistic, cells = 0.0, 0
    times = kept.sum(axis=0)
    for places in decided.cells.values():
        p, n = decided.rate[places[0]], SEEDS * len(places)
        if n * p * (1 - p) >= 10:
            share, rebuilt = times[places].sum() / n, times[places].sum() / p
            assert (share - p) ** 2 / (p * (1 - p) / n) == pytest.approx((rebuilt - n) ** 2 / (n * (1 - p) / p))
            statistic += (rebuilt - n) ** 2 / (n * (1 - p) / p)
            cells += 1
    assert cells > 50
    assert statistic < chi2.ppf(0.99, cells)

    # What samplers reported is what they saw and kept.
    (told,) = reported.by_day(found.database, TEAM, SERVICE, ENVIRONMENT, LATER, LATER)
    assert (told["mode"], told["seen"], told["kept"]) == ("live", SEEDS * MESSAGES, kept.sum())

    # What was kept, stored again, weighs what there was.
    summary = ingest(
        [folder / "logs.jsonl"],
        store=found.store,
        team_id=TEAM,
        service=SERVICE,
        environment=ENVIRONMENT,
        day=None,
        now=datetime(2026, 9, 12, tzinfo=UTC),
    )
    assert summary.stored == kept[0].sum()
    found.materialise(TEAM, LATER, "raw_logs")
    raw = read(found.database, "raw_logs", [TeamDay(TEAM, LATER)])
    assert raw["logs"].sum() == kept[0].sum()
    spread = (1 - decided.rate) / decided.rate  # again the most there is
    hours, severities = decided.hours, decided.severities
    for name, rows in raw.groupby("severity"):
        there = severities == name
        assert rows["weighted_logs"].sum() == pytest.approx(there.sum(), abs=3 * np.sqrt(spread[there].sum()) + 0.01)
    of_hour = np.stack(raw["hours"].to_list()).sum(axis=0)
    off_by = of_hour - np.bincount(hours, minlength=24)
    assert (off_by**2 / np.bincount(hours, spread, minlength=24)).sum() < chi2.ppf(0.99, 24)


def live_policy(found: World) -> Release:
    """Three days through the graph. A person puts the policy of the second in force, the graph that of the third."""
    days = [UNTIL - timedelta(days=back) for back in (2, 1, 0)]
    with LogWriter(found.store) as writer:
        for day in days:
            writer.add(TEAM, demo(day, 10_000))
    found.run(TEAM, days[0], days[1])
    made, version, document = releases.computed(found.database, TEAM, SERVICE, ENVIRONMENT)
    by_hand = (TEAM, SERVICE, ENVIRONMENT, made, version, LIVE, document, "ada", "checked")
    releases.add_by_hand(found.database, Release(*by_hand))
    found.run(TEAM, days[2])
    (live,) = releases.in_force(found.database, TEAM)
    assert (live.day, live.state, live.actor) == (days[2], LIVE, "policy_releases")
    return live


def later_day() -> list[Message]:
    """Time, severity and text of so many logs of the day after, in their order."""
    logs = demo(LATER, 400_000).sort_by("timestamp")
    logs = logs.take(np.linspace(0, len(logs) - 1, MESSAGES).astype(int))
    times = pc.cast(logs["timestamp"], pa.int64()).to_numpy() / 1e6
    bodies = [repair(body) for body in logs["body"].to_pylist()]
    return list(zip(times.tolist(), logs["severity_text"].to_pylist(), bodies, strict=True))


@dataclass(frozen=True)
class Decided:
    """What a policy says of messages, one by one; ``cells``: those of one pattern, severity, rate and hour."""

    rate: np.ndarray
    error: np.ndarray
    hours: np.ndarray
    severities: np.ndarray
    cells: dict[Any, list[int]]

    @staticmethod
    def by(document: dict[str, Any], messages: list[Message]) -> Decided:
        signatures = {entry["template"]: entry["signature"] for entry in document["pattern_rates"]}
        matcher, policy = Matcher(signatures), indexed(document)
        unknown: Counter[Any] = Counter()
        rates, errors, cells = [], [], defaultdict(list)
        for place, (at, severity, message) in enumerate(messages):
            masked = mask(message)
            name = signatures.get(matcher.match(masked) or "")
            hour = (severity, masked, at // 3600)
            decision = decide(policy, severity, name, error_like(message), unknown_seen=unknown[hour])
            unknown[hour] += name is None
            rates.append(decision.rate)
            errors.append(decision.reason in ("error", "error_like"))
            cells[name or masked, severity, decision.rate, at // 3600].append(place)
        at_hour = np.array([int(at // 3600 % 24) for at, _, _ in messages])
        return Decided(np.array(rates), np.array(errors), at_hour, np.array([s for _, s, _ in messages]), cells)
