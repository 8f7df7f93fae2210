"""From a policy to what is in force: replays, the gate, releases, boosts and savings, on real parts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import boosts, overrides, releases
from lipservice_dagster.storage import tables as stored
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.dropped import dropped
from lipservice_dagster.storage.late_logs import ASSETS
from lipservice_dagster.storage.releases import LIVE, PINNED, SHADOW, Release
from lipservice_dagster.storage.served import overlays
from lipservice_dagster.storage.team_days import read
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store
from lipservice_sampler.decision import keeps

FIRST = date(2026, 9, 1)
TAIL = " to the client that asked for it, over the connection that it had kept open for this"
"""So long that a sampled log's stamp costs less than what sampling saves."""

Make = Callable[..., World]


def day(n: int) -> date:
    return FIRST + timedelta(days=n)


def written(root: Path, n: int, service: str, start: float = 0.0, **volumes: int) -> None:
    """A day's logs of a service: so many of each kind, spread evenly over the day from an hour on."""
    records = [
        log(
            f"{kind} number {i} served in {i % 7} ms{TAIL}",
            timestamp=at(start + (24 - start) * i / logs, day(n)),
            service=service.encode(),
        )
        for kind, logs in volumes.items()
        for i in range(logs)
    ]
    store(root, {1: records})


def days_of_two_services(found: World, *, days: int) -> None:
    """``calm`` is alike every day; what ``wild`` writes most of was rare the day before, and so kept whole."""
    for n in range(days):
        written(found.store, n, "calm", reading=1500, rest=60)
        often, seldom = ("left", "right") if n % 2 else ("right", "left")
        written(found.store, n, "wild", **{often: 1500, seldom: 60})


def calm_and_live(found: World, *, days: int) -> Release:
    """So many days of ``calm``, of which the first two were made, and their policy made live."""
    for n in range(days):
        written(found.store, n, "calm", reading=1500)
    found.run(1, day(0), day(1))
    return by_hand(found, "calm", LIVE)


def by_hand(found: World, service: str, state: str, of_day: date | None = None) -> Release:
    made, version, document = releases.computed(found.database, 1, service, "", day=of_day)
    entry = Release(1, service, "", made, version, state, document, "ada", "checked")
    return releases.add_by_hand(found.database, entry)


def current(found: World, service: str) -> Release:
    return releases.in_force(found.database, 1, service)[0]


def test_keep_all_stays_in_shadow_until_enough_days_were_replayed(world: Make) -> None:
    found = world()
    for n in range(3):
        written(found.store, n, "calm", reading=1500)
    found.run(1, day(0), day(2))
    assert found.ledger() == [("calm", day(0), SHADOW, "keep-all")]
    rows = read(found.database, "backtests", [TeamDay(1, day(n)) for n in range(3)])
    assert rows["learning"].all()
    assert rows["days"].tolist() == [0, 1, 2]
    assert str(day(0)) in rows["why"].iloc[2]
    written(found.store, 3, "calm", reading=1500)
    found.run(1, day(3))
    assert found.ledger()[1:] == [("calm", day(3), SHADOW, "rules")]


def test_a_service_that_fails_stays_as_it_was_and_says_why_while_the_others_move(world: Make) -> None:
    found = world(backtest_min_days=1)
    days_of_two_services(found, days=3)
    found.run(1, day(0), day(1))
    assert current(found, "calm").day == day(1)
    assert current(found, "wild").document["generated_by"] == "keep-all"
    by_hand(found, "calm", LIVE)
    live = by_hand(found, "wild", LIVE, day(0))
    run_id = found.run(1, day(2))
    moved = current(found, "calm")
    assert (moved.day, moved.state, moved.actor) == (day(2), LIVE, "policy_releases")
    assert current(found, "wild") == live
    rows = read(found.database, "backtests", [TeamDay(1, day(2))]).set_index("service")
    assert rows["passed"].to_dict() == {"calm": True, "wild": False}
    assert "budget in force" in rows.loc["wild", "why"]
    assert found.graph.failed_checks(run_id) == []  # it warns and blocks nothing
    check = found.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("backtests"), "passes_the_gate"), limit=1
    )[0]
    assert check.event is not None
    evaluation = check.event.asset_check_evaluation
    assert evaluation is not None
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "wild" in str(evaluation.metadata["failed"])


def test_another_budget_is_released_once_policies_for_it_were_replayed(world: Make) -> None:
    found = world(backtest_min_days=1)
    live = calm_and_live(found, days=4)
    tighter = world(backtest_min_days=1, target_reduction=0.9)
    tighter.run(1, day(2))
    (row,) = read(found.database, "backtests", [TeamDay(1, day(2))]).to_dict("records")
    assert (row["learning"], row["passed"], row["days"]) == (True, False, 0)
    assert "for the budget asked for" in row["why"]
    assert current(found, "calm") == live
    tighter.settle()  # makes the days before again for this budget
    assert (current(found, "calm").day, current(found, "calm").state) == (day(2), LIVE)


def test_a_verdict_speaks_of_the_policy_that_it_judged_alone(world: Make) -> None:
    found = world(backtest_min_days=1)
    live = calm_and_live(found, days=3)
    found.make([1], day(2), day(2), *ASSETS[: ASSETS.index("policy_releases")])
    judged, again = releases.computed(found.database, 1, "calm", ""), world(backtest_min_days=1, target_reduction=0.9)
    assert releases.verdict(found.database, 1, "calm", "", day(2), judged[1])[0]
    again.make([1], day(2), day(2), "policies", "policy_releases")
    made = releases.computed(found.database, 1, "calm", "")
    assert made[1] != judged[1]
    passed, why = releases.verdict(found.database, 1, "calm", "", day(2), made[1])
    assert (passed, why) == (False, f"The backtest of the day is of another version, {judged[1]}.")
    assert current(found, "calm") == live


def test_a_rollback_pins_until_it_is_unpinned_and_an_old_day_moves_nothing(world: Make) -> None:
    found = world(backtest_min_days=1)
    for n in range(5):
        written(found.store, n, "calm", reading=1500, rest=300 + 10 * n)
    found.run(1, day(0), day(1))
    by_hand(found, "calm", LIVE)
    found.run(1, day(2))
    assert current(found, "calm").day == day(2)
    back = releases.roll_back(found.database, 1, "calm", "", actor="ada", reason="too little left")
    assert (back.day, back.state, back.actor) == (day(1), PINNED, "ada")
    found.run(1, day(3))
    assert current(found, "calm") == back
    releases.unpin(found.database, 1, "calm", "", actor="ada", reason="it was the disk")
    ledger = found.ledger()
    for n in (2, 1):
        found.run(1, day(n))
    assert found.ledger() == ledger
    assert current(found, "calm").state == LIVE
    found.run(1, day(4))
    assert (current(found, "calm").day, current(found, "calm").state) == (day(4), LIVE)


def test_days_in_any_order_give_the_same_backtests(world: Make, another_database: Database) -> None:
    one, other = world(backtest_min_days=1), world(on=another_database, backtest_min_days=1)
    days_of_two_services(one, days=3)
    one.run(1, day(0), day(2))
    for n in (2, 0, 1, 2):
        other.run(1, day(n))
    assert one.tables() == other.tables()


def test_live_savings_are_measured_by_weights_and_agree_with_what_was_expected(world: Make) -> None:
    found = world()
    written(found.store, 0, "calm", reading=4000)
    found.run(1, day(0))
    live = by_hand(found, "calm", LIVE)
    with found.database.engine.begin() as connection:
        connection.execute(sa.update(stored.releases).values(released_at=at(-1, day(1))))
    (entry,) = live.document["pattern_rates"]
    rate = entry["rate"]
    assert rate <= 0.5
    records = [
        log(
            f"reading number {i} served in {i % 7} ms{TAIL}",
            timestamp=at(24 * i / 4000, day(1)),
            service=b"calm",
            attributes={"lipservice.sample_rate": str(rate)},
        )
        for i in range(4000)
        if keeps(rate, str(i).encode())
    ]
    store(found.store, {1: records})
    found.run(1, day(1))
    (row,) = read(found.database, "savings", [TeamDay(1, day(1))]).to_dict("records")
    assert (row["live_hours"], row["version"], row["kept_logs"]) == (24, live.version, len(records))
    error = (4000 * (1 - rate) / rate) ** 0.5
    assert row["logs"] == pytest.approx(4000, abs=3 * error)
    assert row["expected_logs"] == pytest.approx(len(records), rel=0.01)
    assert read(found.database, "savings", [TeamDay(1, day(0))]).empty
    lost = dropped(found.database, 1, day(1), "calm", "")
    assert lost["hour"].tolist() == list(range(24))
    assert lost["kept"].sum() == pytest.approx(len(records))
    assert lost["seen"].sum() == pytest.approx(row["logs"])
    assert lost["rate"].tolist() == pytest.approx([rate] * 24)
    assert dropped(found.database, 1, day(0))["rate"].tolist() == [1.0] * 24


def test_a_release_in_the_middle_of_a_day_counts_from_its_hour(world: Make) -> None:
    found = world()
    written(found.store, 0, "calm", reading=2000)
    found.run(1, day(0))
    live = by_hand(found, "calm", LIVE)
    with found.database.engine.begin() as connection:
        connection.execute(sa.update(stored.releases).values(released_at=at(-1, day(1))))
    releases.add_by_hand(found.database, live)
    with found.database.engine.begin() as connection:
        newest = stored.releases.c.id == sa.select(sa.func.max(stored.releases.c.id)).scalar_subquery()
        connection.execute(sa.update(stored.releases).where(newest).values(released_at=at(8.5, day(1)), state=SHADOW))
    written(found.store, 1, "calm", start=10, reading=2000)
    found.run(1, day(1))
    (row,) = read(found.database, "savings", [TeamDay(1, day(1))]).to_dict("records")
    assert (row["live_hours"], row["expected_logs"]) == (8, 2000)


def test_an_anomaly_of_an_open_day_raises_a_boost_that_is_served_and_no_base_rates(world: Make) -> None:
    found = world(first_day=date(2026, 1, 1))
    now = datetime.now(UTC)
    today, hour = now.date(), now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    if hour.date() != today:
        pytest.skip("in the first hour of a day there is no whole hour to look at")
    records = [
        log(f"reading {i} done", timestamp=hour - timedelta(hours=h, minutes=i), service=b"calm")
        for h in range(6 * 24)
        for i in range(50)
    ]
    records += [log(f"reading {i} done", timestamp=hour + timedelta(seconds=i), service=b"calm") for i in range(3000)]
    store(found.store, {1: records})
    found.run(1, today - timedelta(days=5), today)
    raised = overlays(found.database, [1], now).of(1, "calm", "", datetime.now(UTC))
    assert raised.boosts == ()  # it was added after ``now``
    later = datetime.now(UTC)
    served = overlays(found.database, [1], later).of(1, "calm", "", later)
    assert {(b.factor, b.until) for b in served.boosts} == {(10.0, hour + timedelta(hours=7))}
    assert all(release.day < today for release in releases.history(found.database, 1, "calm", ""))


def test_what_people_and_incidents_said_of_a_day_is_in_its_savings_and_in_its_replay(world: Make) -> None:
    found = world(backtest_min_days=1)
    for n in range(2):
        written(found.store, n, "calm", reading=4000)
    found.run(1, day(0))
    live = by_hand(found, "calm", LIVE)
    with found.database.engine.begin() as connection:
        connection.execute(sa.update(stored.releases).values(released_at=at(-1, day(1))))
    (entry,) = live.document["pattern_rates"]
    word: dict[str, Any] = {"owner": "ada", "reason": "so it is", "until": at(12, day(1))}
    overrides.add(found.database, 1, "calm", "never_sample", now=at(6, day(1)), **word)
    boost = Boost(1, "calm", "", "", at(12, day(1)), at(18, day(1)), 1.5, "", "a spike")
    boosts.add(found.database, [boost], now=at(15, day(1)))
    found.run(1, day(1))
    hourly, rate = 4000 / 24, entry["rate"]
    (saved,) = read(found.database, "savings", [TeamDay(1, day(1))]).to_dict("records")
    assert saved["expected_logs"] == pytest.approx(hourly * (6 + 15 * rate + 3 * min(1.5 * rate, 1)), rel=0.01)
    (replayed,) = read(found.database, "replays", [TeamDay(1, day(1))]).to_dict("records")
    assert replayed["kept_logs"] == pytest.approx(hourly * (6 + 18 * rate), rel=0.01)  # no report raised that boost
    before = found.tables()
    found.run(1, day(1))
    assert found.tables() == before


def test_demo_anomalies_are_replayed_and_raise_boosts_apart_from_the_base(world: Make) -> None:
    found = world()
    last = date(2026, 9, 10)
    with LogWriter(found.store) as writer:
        for back in range(6):
            logs = generate(1, last - timedelta(days=back), until=last, days=6, logs_per_day=3000)
            writer.add(1, logs)
    found.run(1, last - timedelta(days=5), last)
    anomalies = read(found.database, "anomalies", [TeamDay(1, last)])
    replayed = read(found.database, "replays", [TeamDay(1, last)])
    assert replayed["anomalies"].sum() == len(anomalies) > 0
    assert (replayed["anomalies_found"] <= replayed["anomalies"]).all()
    with found.database.engine.connect() as connection:
        raised = pd.read_sql(sa.select(stored.boosts), connection)
    assert len(raised) > 0
    first = raised.iloc[0]
    assert (raised["factor"] == 10).all()
    with found.database.engine.begin() as connection:
        connection.execute(sa.update(stored.boosts).values(added_at=stored.boosts.c.starts_at))
    then = first["starts_at"].to_pydatetime()
    now = overlays(found.database, [1], then).of(1, first["service"], first["environment"], then)
    assert (first["signature"] or None) in {b.signature for b in now.boosts}
    found.run(1, last)
    with found.database.engine.connect() as connection:
        assert len(pd.read_sql(sa.select(stored.boosts), connection)) == len(raised)
