"""The gate: what a method must have shown on days it had not seen, and what is said where it has not."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lipservice_dagster.core import frames
from lipservice_dagster.core.backtest import GateSettings, found_again, judge, replay_day
from lipservice_dagster.core.overlay import Overlay, OverlayHours
from lipservice_dagster.core.signatures import signatures_of
from lipservice_dagster.core.window import day_series
from lipservice_dagster_tests.core.test_replay import policy, row

DAY = date(2026, 9, 10)
GATE = GateSettings()


def replays(days: int = 7, **columns: Any) -> pd.DataFrame:
    good = {
        "team_id": 7, "service": "shop", "environment": "", "version": "v",
        "logs": 1000.0, "bytes": 1e6, "kept_logs": 300.0, "kept_bytes": 3e5, "budget_bytes": 3e5,
        "errors": 10.0, "kept_errors": 10.0, "patterns": 50.0, "kept_patterns": 50.0,
        "count_error": 0.02, "pattern_error": 0.05, "pattern_error_most": 0.2,
        "anomalies": 2, "anomalies_found": 2, "anomalies_added": 0,
    }  # fmt: skip
    rows = [{**good, **columns, "day": DAY - timedelta(days=n)} for n in range(days)]
    return pd.DataFrame(rows, columns=list(frames.REPLAYS))


def test_a_method_that_met_every_limit_passes_with_its_figures() -> None:
    found = judge(replays(), DAY, GATE)
    assert (found["passed"], found["learning"], found["days"]) == (True, False, 7)
    assert found["errors"] == 70
    assert found["count_error"] == pytest.approx(0.02 / np.sqrt(7))
    assert "30.0% of the bytes" in found["why"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"kept_errors": 9.0}, "7 of 70 errors would be lost"),
        ({"kept_errors": 9.9995}, "less than 0.01 of 70 errors would be lost"),
        ({"kept_bytes": 450.0, "budget_bytes": 300.0}, "3.15 kB would be kept where 2.1 kB are the budget"),
        ({"anomalies_added": 1}, "7 anomalies would be reported because of sampling, 1 may be"),
        ({"kept_patterns": 49.0}, "98.00% of 350 patterns would still be seen, 99.00% are wanted"),
        ({"kept_bytes": 3.2e5}, "6.7% over, 5% is allowed"),
        ({"anomalies_found": 1}, "7 of 14 anomalies would be found again (50.0%), 95% are wanted"),
    ],
)
def test_what_failed_is_named_with_how_much(columns: dict[str, Any], said: str) -> None:
    found = judge(replays(**columns), DAY, GATE)
    assert not found["passed"]
    assert said in found["why"]


def test_one_of_few_anomalies_may_be_missed() -> None:
    quiet = replays(anomalies=0, anomalies_found=0)
    for missed, passed in ((1, True), (2, False)):
        few = quiet.copy()
        few.loc[0, ["anomalies", "anomalies_found"]] = [4, 4 - missed]
        assert judge(few, DAY, GATE)["passed"] is passed


def test_a_day_far_over_its_budget_is_not_made_good_by_those_under_it() -> None:
    found = replays(kept_bytes=2.4e5)
    found.loc[3, "kept_bytes"] = 6e5
    verdict = judge(found, DAY, GATE)
    assert verdict["kept_bytes"] < verdict["budget_bytes"]
    assert not verdict["passed"]
    assert (
        "on 2026-09-07 600 kB would be kept where 300 kB are the budget in force: 100.0% over, 75% is"
        in (verdict["why"])
    )
    assert judge(found, DAY, GateSettings(day_excess=1.0))["passed"]


@pytest.mark.parametrize("column", ["kept_errors", "kept_bytes", "budget_bytes", "kept_patterns", "anomalies_found"])
def test_a_figure_that_is_no_number_passes_nothing(column: str) -> None:
    found = replays().astype({column: float})
    found.loc[2, column] = np.nan
    verdict = judge(found, DAY, GATE)
    assert not verdict["passed"]
    assert f"{column} of 2026-09-08 is nan" in verdict["why"]


def test_one_anomaly_that_was_none_is_allowed_and_of_many_as_large_a_share_as_may_be_missed() -> None:
    for anomalies, added, passed in ((0, 1, True), (0, 2, False), (60, 3, True), (60, 4, False)):
        found = replays(anomalies=0, anomalies_found=0)
        found.loc[0, ["anomalies", "anomalies_found", "anomalies_added"]] = [anomalies, anomalies, added]
        assert judge(found, DAY, GATE)["passed"] is passed, (anomalies, added)


def test_days_without_logs_prove_nothing() -> None:
    found = replays(5)
    found.loc[[0, 1, 2], [c for c in found if c not in ("team_id", "day", "service", "environment", "version")]] = 0
    verdict = judge(found, DAY, GATE)
    assert (verdict["passed"], verdict["learning"], verdict["days"]) == (False, True, 2)


def test_replays_of_long_ago_do_not_pass_today() -> None:
    found = replays()
    for since, passed in ((2, True), (3, False)):
        verdict = judge(found[found["day"] <= DAY - timedelta(days=since)], DAY, GATE)
        assert (verdict["passed"], verdict["learning"]) == (passed, not passed)
    assert "None of the latest 3 days could be replayed, the newest that could is 2026-09-07" in verdict["why"]


def test_more_days_than_are_replayed_cannot_be_needed() -> None:
    with pytest.raises(ValueError, match="min_days is 3 with days 1: so many days are never replayed"):
        GateSettings(days=1)


def test_limits_are_settings() -> None:
    over = replays(kept_bytes=3.2e5)
    assert judge(over, DAY, GateSettings(budget_excess=0.1))["passed"]


def test_with_too_few_days_it_learns_and_says_which_days_are_missing() -> None:
    found = judge(replays(2), DAY, GATE)
    assert (found["passed"], found["learning"]) == (False, True)
    assert "Only 2 of the 3 days" in found["why"]
    assert str(DAY - timedelta(days=2)) in found["why"]
    assert str(DAY) not in found["why"]


def test_days_after_the_day_and_before_the_window_do_not_count() -> None:
    rows = replays(12)
    assert judge(rows, DAY - timedelta(days=3), GATE)["days"] == 7
    bad = rows.assign(kept_errors=np.where(rows["day"] > DAY - timedelta(days=3), 0.0, rows["kept_errors"]))
    assert judge(bad, DAY - timedelta(days=3), GATE)["passed"]


def made(rates: dict[str, float], needed: float, asked: float | None = None, kind: str = "reduction") -> dict[str, Any]:
    """A document made from 10,000 logs of a million bytes; what is needed and asked for are shares of them."""
    whole = 10_000 if kind == "logs" else 1e6
    unit = "budget_logs" if kind == "logs" else "budget_bytes"
    asked = needed if asked is None else asked
    expected = {"logs": 10_000, "bytes": 1e6, "budget_kind": kind, unit: asked * whole, "budget_needed": needed * whole}
    return policy(rates) | {"expected": expected}


def raw(*rows: dict[str, object]) -> pd.DataFrame:
    columns = {"bytes": 100, "first_seen": None, "last_seen": None, "example": ""}
    return pd.DataFrame([{**columns, **r} for r in rows])


def budget(before: dict[str, Any], own: dict[str, Any] | None = None, *, logs: float = 1000.0, **said: Any) -> float:
    rows = raw(row("a <*>", "info", [logs]))
    _, members = signatures_of(rows)
    key = ("shop", "")
    found, _ = replay_day(DAY, rows, members, {key: before}, {key: own} if own else {}, **said)
    return float(found["budget_bytes"].iloc[0])


def test_the_budget_of_a_day_is_the_share_in_force_or_what_the_day_itself_needs() -> None:
    before = made({"a <*>": 0.25}, 0.25)
    assert budget(before, made({}, 0.02)) == pytest.approx(25_000)
    assert budget(before, made({}, 0.06)) == pytest.approx(60_000)
    assert budget(policy({"a <*>": 0.25}) | {"expected": {"bytes": 0.0}}) == 100_000  # keep-all asks for nothing


@pytest.mark.parametrize("logs", [5_000.0, 10_000.0, 20_000.0])
def test_an_amount_that_was_asked_for_stays_what_it_is_and_what_is_needed_follows_the_volume(logs: float) -> None:
    grown = logs / 10_000
    for kind in ("bytes", "money"):
        assert budget(made({"a <*>": 0.3}, 0.1, 0.3, kind), logs=logs) == pytest.approx(min(3e5, logs * 100))
        assert budget(made({"a <*>": 0.3}, 0.3, 0.1, kind), logs=logs) == pytest.approx(3e5 * grown)
    assert budget(made({"a <*>": 0.3}, 0.1, 0.3), logs=logs) == pytest.approx(3e5 * grown)
    # Of logs: 3,000 of them, in bytes of those that are kept, stamped with lipservice.sample_rate 0.3.
    assert budget(made({"a <*>": 0.3}, 0.1, 0.3, "logs"), logs=logs) == pytest.approx(3e5 + 3_000 * 25)


def test_a_method_that_keeps_a_set_amount_to_a_share_of_the_volume_fails_as_the_volume_doubles() -> None:
    rows = raw(row("a <*>", "info", [20_000.0]))
    _, members = signatures_of(rows)
    for kind, passed in (("reduction", True), ("bytes", False), ("logs", False), ("money", False)):
        before = made({"a <*>": 0.24}, 0.1, 0.3, kind)
        found, _ = replay_day(DAY, rows, members, {("shop", ""): before}, {})
        assert judge(found, DAY, GateSettings(min_days=1))["passed"] is passed, kind


def said_of(*hours: tuple[int, dict[str, Any]]) -> dict[tuple[str, str], OverlayHours]:
    scope = {"team_id": 7, "service": "shop", "environment": ""}
    return {("shop", ""): OverlayHours(DAY, tuple((h, Overlay.model_validate(scope | o)) for h, o in hours))}


CAP = {"kind": "cap", "rate": 0.1, "until": "2026-09-11T00:00:00Z", "owner": "ada", "reason": "loud"}
TIMES_TEN = {"factor": 10, "until": "2026-09-10T06:00:00Z", "reason": "a spike"}


def test_a_replay_is_decided_with_what_people_and_incidents_said_hour_by_hour() -> None:
    rows = raw(row("a <*>", "info", [100.0] * 24), row("a <*>", "error", [1.0] * 24))
    _, members = signatures_of(rows)
    before = {("shop", ""): made({"a <*>": 0.25}, 0.25)}
    said = said_of((0, {"boosts": [TIMES_TEN]}), (6, {}), (18, {"overrides": [CAP]}))
    found, _ = replay_day(DAY, rows, members, before, {}, said)
    assert found["kept_logs"].iloc[0] == pytest.approx(6 * 100 + 12 * 25 + 6 * 10 + 24)
    assert found["kept_errors"].iloc[0] == 24
    # What the boost keeps besides is added to what may be kept.
    plain, _ = replay_day(DAY, rows, members, before, {}, said_of((0, {}), (18, {"overrides": [CAP]})))
    more = found["kept_bytes"].iloc[0] - plain["kept_bytes"].iloc[0]
    assert more == pytest.approx(6 * (100 * 100 - 25 * (100 + 26)))  # what is kept whole has no stamp
    assert found["budget_bytes"].iloc[0] - plain["budget_bytes"].iloc[0] == pytest.approx(more)


def test_a_service_without_a_policy_of_the_day_before_is_left_out_and_stays_whole() -> None:
    rows = raw(row("a <*>", "info", [1000.0]))
    _, members = signatures_of(rows)
    found, left = replay_day(DAY, rows, members, {}, {})
    assert found.empty
    assert left["weighted_logs"].sum() == 1000


def window(hours: list[float], days: int) -> pd.DataFrame:
    return pd.concat([raw(row("a <*>", "info", hours)).assign(day=DAY - timedelta(days=n)) for n in range(1, days + 1)])


def replayed_spike(rate: float) -> pd.DataFrame:
    usual = [100.0] * 24
    today = raw(row("a <*>", "info", [*usual[:12], 900.0, 900.0, *usual[14:]]))
    before = window(usual, 6)
    signatures, members = signatures_of(today)
    series = day_series(today, before, sorted(set(before["day"])), members, signatures)
    spike = dict.fromkeys(frames.ANOMALIES) | {
        "service": "shop", "environment": "", "scope": "service", "subject": "", "kind": "rate_spike",
        "start_hour": 12, "end_hour": 14,
    }  # fmt: skip
    found, left = replay_day(DAY, today, members, {("shop", ""): made({"a <*>": rate}, rate)}, {})
    return found_again(found, left, series, members, signatures, pd.DataFrame([spike]))


def test_a_spike_is_found_again_on_what_a_fair_rate_leaves_and_missed_where_nearly_all_is_dropped() -> None:
    fair, harsh = replayed_spike(0.1).iloc[0], replayed_spike(0.0005).iloc[0]
    assert (fair["anomalies"], fair["anomalies_found"], fair["anomalies_added"]) == (1, 1, 0)
    assert (harsh["anomalies"], harsh["anomalies_found"]) == (1, 0)


def test_a_replay_is_the_same_for_rows_in_any_order() -> None:
    rows = raw(row("a <*>", "info", [1000.0]), row("b", "info", [500.0]), row("c", "error", [9.0]))
    _, members = signatures_of(rows)
    before = {("shop", ""): made({"a <*>": 0.2, "b": 0.1}, 0.2)}
    one = replay_day(DAY, rows, members, before, {})
    two = replay_day(DAY, rows.iloc[::-1], members.iloc[::-1], before, {})
    for a, b in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(a, b)
