"""The closed loop: each day's live policies thin the next day's logs before they are stored, beside a twin that keeps
all. What was dropped must not look like silence, nor move what is decided next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from lipservice_dagster.core.policy import parse
from lipservice_dagster.core.savings import InForce, savings_of
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import ATTRIBUTES, LogWriter
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import releases
from lipservice_dagster.storage import tables as stored
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import read
from lipservice_dagster_tests.defs.conftest import World
from lipservice_sampler.decision import decide, error_like, indexed, keeps
from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import repair

TEAM, UNTIL, DAYS, LOGS = 1, date(2026, 9, 10), 10, 20_000
SERVICES = pa.array([b"storefront-web", b"order-worker"])
_ALL = [TeamDay(TEAM, UNTIL - timedelta(days=back)) for back in reversed(range(DAYS))]
_SCOPE = ["service", "environment"]
Scope = tuple[str, str]


@dataclass
class Edge:
    """What decides over the logs of a service and environment, as an application does."""

    document: Mapping[str, Any]
    matcher: Matcher = field(init=False)
    signatures: Mapping[str, str] = field(init=False)
    unknown: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.signatures = {e["template"]: e["signature"] for e in self.document["pattern_rates"]}
        self.matcher, self.document = Matcher(self.signatures), indexed(self.document)

    def rate(self, severity: str, body: str, hour: int) -> float:
        masked = mask(body)
        template = self.matcher.match(masked)
        signature = None if template is None else self.signatures[template]
        seen = self.unknown[severity, masked, hour]
        self.unknown[severity, masked, hour] += signature is None
        return decide(self.document, severity, signature, error_like(body), unknown_seen=seen).rate


def thinned(logs: pa.Table, live: Mapping[Scope, Mapping[str, Any]]) -> tuple[pa.Table, pd.DataFrame]:
    """What the live policies leave of the logs, stamped; and by scope how many there were and the variance of the
    count that is rebuilt, Σ (1 - p) / p."""
    edges = {scope: Edge(document) for scope, document in live.items()}
    logs = logs.sort_by("timestamp")
    columns = [logs[c].to_pylist() for c in ("service_name", "resource_attributes", "severity_text", "body", "uuid")]
    hours = pc.hour(logs["timestamp"]).to_pylist()
    scopes, rates, kept = [], [], []
    for service, resource, severity, body, uuid, hour in zip(*columns, hours, strict=True):
        scope = (service.decode(), dict(resource)[b"deployment.environment.name"].decode())
        rate = edges[scope].rate(severity, repair(body), hour) if live else 1.0
        scopes.append(scope)
        rates.append(rate)
        kept.append(keeps(rate, uuid.encode()))
    left = logs.filter(pa.array(kept))
    stamps = [[(b"lipservice.sample_rate", repr(r).encode())] if r < 1 else [] for r in compress(rates, kept)]
    stamped = [[*own, *stamp] for own, stamp in zip(left["attributes"].to_pylist(), stamps, strict=True)]
    place = logs.schema.get_field_index("attributes")
    left = left.set_column(place, logs.schema.field(place), pa.array(stamped, ATTRIBUTES))
    p = np.array(rates)
    sums = pd.DataFrame({"scope": scopes, "logs": 1, "variance": (1 - p) / p}).groupby("scope").sum()
    return left, sums


def written(root: Path, logs: pa.Table) -> None:
    with LogWriter(root) as writer:
        writer.add(TEAM, logs)


def in_force(found: World) -> dict[Scope, releases.Release]:
    return {(r.service, r.environment): r for r in releases.in_force(found.database, TEAM)}


def since(found: World, day: date) -> None:
    """What was released of the day is in force from before the next one begins, not from now on."""
    with found.database.engine.begin() as connection:
        newest = sa.update(stored.releases).where(stored.releases.c.day == day)
        connection.execute(newest.values(released_at=datetime.combine(day, time(23, 30), UTC)))


@dataclass
class Loop:
    """Both worlds after ten days, how each day was thinned (`thinned`), and by which releases."""

    thin: World
    twin: World
    sums: dict[date, pd.DataFrame]
    live: dict[date, dict[Scope, releases.Release]]


def looped(thin: World, twin: World) -> Loop:
    loop = Loop(thin, twin, {}, {})
    live: dict[Scope, releases.Release] = {}
    for at in _ALL:
        logs = generate(TEAM, at.day, until=UNTIL, days=DAYS, logs_per_day=LOGS)
        logs = logs.filter(pc.is_in(logs["service_name"], SERVICES))
        written(twin.store, logs)
        loop.live[at.day] = live
        left, loop.sums[at.day] = thinned(logs, {scope: r.document for scope, r in live.items()})
        written(thin.store, left)
        thin.run(TEAM, at.day)
        if not live:
            for service, environment in in_force(thin):
                made, version, document = releases.computed(thin.database, TEAM, service, environment)
                entry = (TEAM, service, environment, made, version, releases.LIVE, document, "ada", "checked")
                releases.add_by_hand(thin.database, releases.Release(*entry))
        since(thin, at.day)
        live = in_force(thin)
    twin.run(TEAM, _ALL[0].day, UNTIL)
    return loop


def anomalies(found: World) -> set[tuple[Any, ...]]:
    """What is reported of which series on which day; a series is named by its template, signatures may differ."""
    rows = read(found.database, "anomalies", _ALL)
    return set(rows[["day", *_SCOPE, "scope", "template", "kind"]].itertuples(index=False, name=None))


def rates(found: World) -> dict[tuple[date, str, str, str], float]:
    documents = [parse(str(d)) for d in read(found.database, "policies", _ALL)["document"]]
    return {(p.day, p.service, p.environment, e.template): e.rate for p in documents for e in p.pattern_rates}


@pytest.mark.timeout(900)  # twelve runs of the graph, on a machine that may be busy
def test_ten_days_that_are_thinned_by_the_policies_of_the_days_before_say_what_the_whole_logs_say(
    world: Callable[..., World], another_database: Database, tmp_path: Path
) -> None:
    thin = world(home=tmp_path / "thin", window_days=7)
    twin = world(on=another_database, home=tmp_path / "twin", window_days=7)
    loop = looped(thin, twin)

    # The loop is one: from the fourth day on policies pass their backtests and follow each other, and much is dropped.
    assert {r.day for r in in_force(thin).values()} == {UNTIL}
    assert {r.actor for r in in_force(thin).values()} == {"policy_releases"}
    raw = read(thin.database, "raw_logs", _ALL).groupby(["day", *_SCOPE])[["logs", "weighted_logs"]].sum()
    there = pd.concat(loop.sums)
    assert raw.loc[UNTIL, "logs"].sum() < 0.4 * there.loc[UNTIL, "logs"].sum()

    # No anomaly is reported because of sampling, and those of the whole logs still are.
    assert anomalies(thin) == anomalies(twin)
    assert {kind for *_, kind in anomalies(twin)} == {"rate_spike", "vanished_pattern"}

    # Weighted totals are those before sampling, to 3 standard errors.
    weighted = pd.Series(raw["weighted_logs"].to_numpy(), [(d, (s, e)) for d, s, e in raw.index])
    off = weighted - pd.Series(there["logs"].to_numpy(), list(there.index))
    error = pd.Series(np.sqrt(there["variance"].to_numpy()), list(there.index))
    assert off.notna().all()
    assert (off.abs() <= 3 * error + 1e-3).all()
    total, of_all = abs(off.sum()), float(np.sqrt((error**2).sum()))
    assert total <= 3 * of_all

    # Rates are what they would be without sampling, to a fifth.
    own, whole = rates(thin), rates(twin)
    assert own.keys() == whole.keys()
    assert {k: (own[k], whole[k]) for k in own if not 0.8 <= own[k] / whole[k] <= 1.25} == {}

    # What was saved is what the releases would save of the whole logs.
    saved = read(thin.database, "savings", _ALL).set_index(["day", *_SCOPE])
    assert set(saved.index.get_level_values("day")) == {d.day for d in _ALL[1:]}
    logs = read(twin.database, "raw_logs", _ALL)
    for day, live in loop.live.items():
        if live:
            of_day = {scope: [InForce(0, r.version, True, r.document)] for scope, r in live.items()}
            expected = savings_of(day, logs[logs["day"] == day], of_day, {}).set_index(["day", *_SCOPE])
            found = saved.loc[[day]]
            assert (found["version"] == expected["version"]).all()
            for column in ("kept_bytes", "expected_bytes"):
                measured = found["bytes"] - found[column]
                assert measured.sum() == pytest.approx((expected["bytes"] - expected["expected_bytes"]).sum(), rel=0.05)
