"""Team-days through the whole graph, on real parts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from lipservice_dagster.core.policy import parse
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.in_process import RunError
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources.base import LogSourceError
from lipservice_dagster.sources.clickhouse import ClickHouseSource, embedded
from lipservice_dagster.storage import materializations, overrides, runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.late_logs import ASSETS
from lipservice_dagster.storage.services import volumes
from lipservice_dagster.storage.team_days import read
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store

LAST = date(2026, 9, 10)
DAYS = 6
Make = Callable[..., World]


def day(back: int) -> date:
    return LAST - timedelta(days=back)


def fill(root: Path, *, team_id: int = 1, days: int = DAYS) -> int:
    """Demo days in the store; how many logs."""
    with LogWriter(root) as writer:
        for back in range(days):
            writer.add(team_id, generate(team_id, day(back), until=LAST, days=DAYS, logs_per_day=3000))
        return sum(writer.counts.values())


def test_no_log_is_lost_between_store_raw_logs_and_signatures(world: Make) -> None:
    found = world()
    logs = fill(found.store)
    found.run(1, day(DAYS - 1), LAST)
    days = [TeamDay(1, day(b)) for b in range(DAYS)]
    raw, patterns = read(found.database, "raw_logs", days), read(found.database, "signatures", days)
    assert raw["logs"].sum() == patterns["logs"].sum() == logs
    assert raw["bytes"].sum() == patterns["bytes"].sum()
    by_hour = [sum(map(sum, frame["hours"])) for frame in (raw, patterns)]
    assert by_hour == pytest.approx([logs, logs])
    members = read(found.database, "signature_members", days)
    joined = raw.merge(members, on=["team_id", "day", "service", "message_id"], how="left")
    assert joined["signature"].notna().all()
    clusters = read(found.database, "clusters", days)
    assert clusters["logs"].sum() == logs
    assert volumes(found.database, 1, day(DAYS), LAST)["logs"].sum() == logs


def test_making_a_day_again_gives_byte_equal_rows(world: Make) -> None:
    found = world()
    fill(found.store)
    found.run(1, day(2), LAST)
    before, ledger = found.tables(), found.ledger()
    found.run(1, LAST)
    found.run(1, day(2), LAST)
    assert found.tables() == before
    assert found.ledger() == ledger
    assert before["policies"]


def test_a_range_in_one_run_gives_the_same_tables_as_a_run_a_day(world: Make, another_database: Database) -> None:
    wide, narrow = world(), world(on=another_database)
    fill(wide.store, days=4)
    wide.run(1, day(3), LAST)
    for back in (3, 2, 1, 0):
        narrow.run(1, day(back))
    assert wide.tables() == narrow.tables()
    assert wide.ledger() == narrow.ledger()


def test_an_empty_day_and_a_team_without_logs_are_made_empty(world: Make) -> None:
    found = world()
    fill(found.store, days=1)
    found.run(1, day(1))
    found.run(99, day(1), LAST)
    assert all(rows == [] for name, rows in found.tables().items() if name != "anomaly_reports")
    assert materializations.of(found.database, "raw_logs", [TeamDay(99, LAST)])[TeamDay(99, LAST)].logs == 0
    for asset in ASSETS:
        keys = found.instance.get_materialized_partitions(dg.AssetKey(asset))
        assert {str(TeamDay(99, day(1))), str(TeamDay(99, LAST)), str(TeamDay(1, day(1)))} <= keys


def test_odd_logs_go_through_the_whole_graph(world: Make) -> None:
    found = world()
    bodies = [
        b"x" * (1 << 20),
        b"nul \x00",
        b"bad \xff\xc3",
        b"",
        "ünïcode 日本".encode(),
        b"line\nbreak\ttab \\ ' \" $1",
    ]
    records = [log(b, timestamp=at(9, LAST)) for b in bodies]
    records += [log("odd", timestamp=at(9, LAST), severity="chatty"), log("none", timestamp=at(9, LAST), service=b"")]
    store(found.store, {5: records})
    found.run(5, LAST)
    here = [TeamDay(5, LAST)]
    patterns, policies = read(found.database, "signatures", here), read(found.database, "policies", here)
    assert patterns["logs"].sum() == len(records)
    assert set(policies["service"]) == {"", "shop"}


def _rates(found: World, on: date) -> dict[tuple[str, str], tuple[float, float]]:
    """service and template: rate and goal, of a day's policies."""
    documents = read(found.database, "policies", [TeamDay(1, on)], ["document"])["document"]
    return {
        (policy.service, entry.template): (entry.rate, entry.goal or 0.0)
        for policy in map(parse, map(str, documents))
        for entry in policy.pattern_rates
    }


def test_rates_fall_step_by_step_whichever_runs_made_the_days(world: Make, another_database: Database) -> None:
    asked = {"target_reduction": 0.95, "floor_per_hour": 0.1}
    wide, mixed = world(**asked), world(on=another_database, **asked)
    fill(wide.store, days=4)
    wide.run(1, day(3), LAST)
    falling = 0
    for back in (2, 1, 0):
        before, after = _rates(wide, day(back + 1)), _rates(wide, day(back))
        for pattern, (rate, goal) in after.items():
            assert rate >= 0.5 * before.get(pattern, (1.0, 1.0))[0] * (1 - 1e-3) or pattern not in before
            falling += rate > 1.1 * goal
    assert falling
    mixed.run(1, LAST)  # out of order: LAST knows no day before, and is made again once they are there
    mixed.run(1, day(3), day(2))
    mixed.run(1, day(1), LAST)
    assert mixed.tables()["policies"] == wide.tables()["policies"]


def test_an_override_said_before_the_day_ended_is_in_its_policy(world: Make) -> None:
    found = world()
    fill(found.store, days=2)
    found.run(1, day(1))
    (service, template), _ = max(_rates(found, day(1)).items(), key=lambda item: -item[1][1])
    said: dict[str, Any] = {"owner": "ada", "reason": "so it is", "until": at(12, LAST + timedelta(days=30))}
    for hour, rate in ((9, 0.02), (25, None)):
        kind = "cap" if rate else "never_sample"
        about = template if rate else None
        moment = at(0, LAST) + timedelta(hours=hour)
        overrides.add(found.database, 1, service, kind, rate=rate, template=about, now=moment, **said)
    found.run(1, LAST)
    assert _rates(found, LAST)[service, template][0] == 0.02
    before = found.tables()["policies"]
    found.run(1, day(1), LAST)
    assert found.tables()["policies"] == before


class Disagreeing(ClickHouseSource):
    """A source that counts one log more on one team-day than its groups hold, as a store with a fault would."""

    wrong: TeamDay | None = None

    def counts(self, team_days: Any, bounds: Bounds) -> pd.DataFrame:
        counted = super().counts(team_days, bounds)
        if self.wrong is not None:
            off = (counted["team_id"] == self.wrong.team_id) & (counted["day"] == self.wrong.day)
            counted.loc[off, "logs"] += 1
        return counted


def test_a_day_that_does_not_agree_keeps_its_old_content_and_the_others_go_on(world: Make, tmp_path: Path) -> None:
    root = tmp_path / "log_store"
    source = embedded(root)
    source.__class__ = Disagreeing
    found = world(source=source)
    store(root, {1: [log("old", timestamp=at(9, d)) for d in (day(1), LAST)]})
    found.run(1, day(1), LAST)
    store(root, {1: [log("new", timestamp=at(9, d)) for d in (day(1), LAST)]})
    source.wrong = bad = TeamDay(1, day(1))  # type: ignore[attr-defined]
    run_id = found.run(1, day(1), LAST)
    assert read(found.database, "raw_logs", [bad])["example"].tolist() == ["old"]
    assert sorted(read(found.database, "raw_logs", [TeamDay(1, LAST)])["example"]) == ["new", "old"]
    marked = materializations.of(found.database, "raw_logs", [bad, TeamDay(1, LAST)])
    assert "counts 3 logs" in str(marked[bad].problem)
    assert marked[TeamDay(1, LAST)].problem is None
    history = runs.history(found.database, 1)
    assert set(history[(history["run_id"] == run_id) & (history["status"] == "failed")]["day"]) == {day(1)}
    check = found.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("raw_logs"), "agrees_with_the_log_store"), limit=1
    )[0]
    assert check.event is not None
    evaluation = check.event.asset_check_evaluation
    assert evaluation is not None
    assert not evaluation.passed
    assert str(bad) in evaluation.metadata


def test_an_open_day_is_read_to_its_last_whole_hour_and_releases_nothing(world: Make) -> None:
    found = world()
    now = datetime.now(UTC)
    today, hour = now.date(), now.replace(minute=0, second=0, microsecond=0)
    records = [log("open", timestamp=hour), log("over", timestamp=hour - timedelta(hours=1))]
    store(found.store, {1: records})
    found.run(1, today)
    rows = read(found.database, "raw_logs", [TeamDay(1, today)])
    assert rows["example"].tolist() == (["over"] if now.hour else [])
    entry = materializations.of(found.database, "raw_logs", [TeamDay(1, today)])[TeamDay(1, today)]
    assert entry.hours == now.hour
    assert found.ledger() == []


def test_a_report_keeps_the_fingerprint_of_its_window(world: Make) -> None:
    found = world()
    fill(found.store, days=3)
    found.run(1, day(2), LAST)
    report = read(found.database, "anomaly_reports", [TeamDay(1, LAST)]).iloc[0]
    assert report["window_days"] == 2
    assert report["hours"] == 24
    store(found.store, {1: [log("late", timestamp=at(9, day(1)))]})
    found.run(1, day(1))
    found.run(1, LAST)
    again = read(found.database, "anomaly_reports", [TeamDay(1, LAST)]).iloc[0]
    assert again["window_fingerprint"] != report["window_fingerprint"]


def test_a_plain_rule_judges_a_teams_first_days_where_it_is_set(world: Make) -> None:
    found = world(first_days_detector="ratio")
    for on, times in ((day(1), 1), (LAST, 4)):
        store(
            found.store,
            {1: [log("cart opened", timestamp=at(hour, on)) for hour in range(24) for _ in range(10 * times)]},
        )
    found.run(1, day(1), LAST)
    report = read(found.database, "anomaly_reports", [TeamDay(1, LAST)]).iloc[0]
    assert report["learning"]
    assert report["series"] > 0
    anomalies = read(found.database, "anomalies", [TeamDay(1, LAST)])
    assert set(anomalies["kind"]) == {"rate_spike"}
    assert anomalies["ratio"].tolist() == pytest.approx([4.0] * len(anomalies))
    assert anomalies["p_value"].isna().all()
    assert (anomalies["z"] > 3).all()


def test_runs_are_recorded_with_their_counts(world: Make) -> None:
    found = world()
    fill(found.store, days=1)
    run_id = found.run(1, LAST)
    history = runs.history(found.database, 1).set_index("asset")
    assert set(history["status"]) == {"succeeded"}
    assert set(history["run_id"]) == {run_id}
    raw = read(found.database, "raw_logs", [TeamDay(1, LAST)])
    assert history.loc["raw_logs", "counts"] == {"rows": len(raw), "logs": raw["logs"].sum()}
    assert history["finished_at"].notna().all()


class Broken(ClickHouseSource):
    """A source with a fault of its own."""

    def groups(self, team_days: Any, bounds: Bounds) -> pd.DataFrame:
        raise KeyError("a fault")


def test_an_error_is_recorded_told_and_not_tried_again(world: Make, tmp_path: Path) -> None:
    source = embedded(tmp_path)
    source.__class__ = Broken
    found = world(source=source)
    with pytest.raises(RunError, match="raw_logs failed: KeyError: 'a fault'"):
        found.run(1, LAST)
    history = runs.history(found.database, 1)
    assert history["status"].tolist() == ["failed"]
    assert "a fault" in history["error"].iloc[0]
    assert not any(
        e.dagster_event and e.dagster_event.event_type == dg.DagsterEventType.STEP_RESTARTED
        for run in found.instance.get_runs()
        for e in found.instance.all_logs(run.run_id)
    )


def test_entries_of_a_run_that_died_are_closed(database: Database) -> None:
    runs.start(database, "dead", "raw_logs", [TeamDay(1, LAST)])
    runs.start(database, "alive", "raw_logs", [TeamDay(1, LAST)])
    assert runs.fail_unfinished(database, "dead", "killed") == 1
    history = runs.history(database, 1).set_index("run_id")
    assert history["status"].to_dict() == {"dead": "failed", "alive": "running"}


def test_days_that_are_no_partitions_are_refused_with_the_way_out(world: Make) -> None:
    found = world()
    with pytest.raises(RunError, match="LIPSERVICE_FIRST_DAY=2020-01-01"):
        found.run(1, date(2020, 1, 1))
    with pytest.raises(RunError, match="has not begun"):
        found.run(1, datetime.now(UTC).date() + timedelta(days=1))


def test_a_store_that_is_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs" / "team_id=1" / "day=2026-09-10").mkdir(parents=True)
    (tmp_path / "logs" / "team_id=1" / "day=2026-09-10" / "part-x.parquet").write_bytes(b"no parquet")
    with pytest.raises(LogSourceError, match=str(tmp_path)):
        embedded(tmp_path).counts([TeamDay(1, LAST)], Bounds.now())
