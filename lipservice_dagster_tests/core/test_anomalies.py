from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.demo import series_of, tells_of
from lipservice_dagster.core import anomalies_statistics as statistics
from lipservice_dagster.core.anomalies import (
    DETECTORS,
    Detector,
    DetectorSettings,
    detect,
    detect_by,
    is_learning,
    ratio_rule,
    summarise,
    zscore_rule,
)
from lipservice_dagster.core.anomalies_expectation import expect, history
from lipservice_dagster.core.anomalies_report import parents
from lipservice_dagster.core.anomalies_text import RATE_SPIKE, Finding, confidence, explanation, severity
from lipservice_dagster.core.frames import ANOMALIES
from lipservice_dagster.core.series import KEYS, Series
from lipservice_dagster.local.demo_logs import incidents, team_ids

DAY = date(2026, 3, 18)  # a Wednesday
WEEKDAY = np.array([1.0, 1.05, 1.0, 0.95, 1.0, 0.5, 0.4])


def world(
    seed: int,
    *,
    services: int = 4,
    means: tuple[float, ...] = (300.0, 100.0, 50.0, 20.0, 5.0, 1.0, 0.1),
    days: int = 14,
    dispersion: float = 0.05,
    day: date = DAY,
) -> Series:
    """Negative binomial patterns with the rhythm of days and weeks, their service, and its errors (2% of it)."""
    rng = np.random.default_rng(seed)
    window = [day - timedelta(days=n) for n in range(days, 0, -1)]
    week = np.array([WEEKDAY[d.weekday()] for d in (*window, day)])
    keys, counts = [], []
    for s in range(services):
        rhythm = 1 + 0.7 * np.sin((np.arange(24) - rng.integers(24)) / 24 * 2 * np.pi)
        level = week * rng.gamma(100, 1 / 100, days + 1)
        patterns = []
        for mean in means:
            mu = mean * level[:, None] * rhythm
            patterns.append(rng.poisson(mu * rng.gamma(1 / dispersion, dispersion, mu.shape)).astype(float))
        total = np.sum(patterns, axis=0)
        keys += [(f"s{s}", "prod", "pattern", f"p{i}", f"pattern {i} of <*>") for i in range(len(means))]
        keys += [(f"s{s}", "prod", "service", "", ""), (f"s{s}", "prod", "severity", "error", "")]
        counts += [*patterns, total, rng.binomial(total.astype(int), 0.02).astype(float)]
    frame = pd.DataFrame(keys, columns=list(KEYS))
    array = np.array(counts)
    return Series(frame, tuple(window), array[:, -1].copy(), array[:, :-1].copy())


def index(series: Series, scope: str, subject: str = "", service: str = "s0") -> int:
    keys = series.keys
    hit = keys[(keys["service"] == service) & (keys["scope"] == scope) & (keys["subject"] == subject)]
    return int(hit.index[0])


def put(series: Series, subject: str, hours: slice, factor: float, service: str = "s0") -> None:
    """Multiply a pattern's counts of today, and its service's with it."""
    i = index(series, "pattern", subject, service)
    extra = np.round(series.today[i, hours] * (factor - 1))
    series.today[i, hours] += extra
    series.today[index(series, "service", service=service), hours] += extra


def found(series: Series, hours: int = 24, **kwargs: object) -> pd.DataFrame:
    return detect(series, team_id=7, day=DAY, hours=hours, settings=DetectorSettings(**kwargs) if kwargs else None)  # type: ignore[arg-type]


def only(anomalies: pd.DataFrame) -> pd.Series:
    assert len(anomalies) == 1, anomalies[["kind", "scope", "subject", "explanation"]].to_string()
    return anomalies.iloc[0]


@pytest.mark.parametrize(("days", "dispersion"), [(3, 0.05), (5, 0.2), (7, 0.05), (14, 0.05), (14, 0.5), (28, 0.1)])
def test_days_like_the_days_before_raise_hardly_an_alarm(days, dispersion):
    """Ten reports in which nothing happened. At a level of 0.01, one in a hundred reports may have a false alarm."""
    false = [len(found(world(seed, days=days, dispersion=dispersion))) for seed in range(10)]
    assert sum(n > 0 for n in false) <= 1


def test_plain_rules_raise_far_more_alarms_on_the_same_days():
    series = world(0, days=7, dispersion=0.2)
    assert len(found(series)) == 0
    assert len(ratio_rule(series, team_id=7, day=DAY)) > 20
    assert len(zscore_rule(series, team_id=7, day=DAY)) > 20


@pytest.mark.parametrize("seed", range(6))
def test_a_pattern_at_five_times_its_rate_for_two_hours_is_found_where_it_is(seed):
    series = world(seed)
    i = index(series, "pattern", "p3")
    rng = np.random.default_rng(seed + 50)
    series.window[i], series.today[i] = rng.poisson(20, series.window[i].shape), rng.poisson(20, 24)
    series.today[i, 10:12] = rng.poisson(5 * 20, 2)
    row = only(found(series))
    assert (row["kind"], row["scope"], row["subject"], row["service"]) == ("rate_spike", "pattern", "p3", "s0")
    assert (row["start_hour"], row["end_hour"]) == (10, 12)
    assert row["evidence_hours"] == [10, 11]
    assert 3.5 < row["ratio"] < 7
    assert row["z"] > 4
    assert row["p_value"] < 0.01
    assert row["confidence"] > 0.7


@pytest.mark.parametrize("others", [0, 30])
def test_a_spike_hides_no_outage_of_the_same_day_and_makes_none_of_ordinary_hours(others):
    def services(seed: int, silent: slice) -> Series:
        rng = np.random.default_rng(seed)
        mean = 200 * (1 + 0.6 * np.cos(np.arange(24) / 24 * 2 * np.pi))
        counts = rng.poisson(mean * rng.gamma(20, 1 / 20, (others + 1, 15, 24))).astype(float)
        counts[0, -1, 3:6] *= 20
        counts[0, -1, silent] = 0
        keys = pd.DataFrame([(f"s{i:02}", "", "service", "", "") for i in range(others + 1)], columns=list(KEYS))
        return Series(keys, tuple(DAY - timedelta(days=n) for n in range(14, 0, -1)), counts[:, -1], counts[:, :-1])

    for seed in range(4):
        both = found(services(seed, slice(12, 17))).sort_values("start_hour")
        assert both["kind"].tolist() == ["rate_spike", "rate_drop"]
        assert both["service"].tolist() == ["s00", "s00"]
        assert both["start_hour"].tolist() == [3, 12]
        assert only(found(services(seed, slice(0))))["kind"] == "rate_spike"


def test_a_spike_of_a_service_is_one_anomaly_with_the_numbers_in_words():
    series = world(1)
    for i in range(7):
        put(series, f"p{i}", slice(14, 17), 5.0)
    row = only(found(series))
    assert (row["kind"], row["scope"], row["severity"]) == ("rate_spike", "service", "high")
    assert (row["start_hour"], row["end_hour"]) == (14, 17)
    assert "from 14:00 to 17:00 UTC" in row["explanation"]
    assert f"{row['observed']:,.0f} where about {row['expected']:,.0f} were expected" in row["explanation"]
    assert f"{row['ratio']:.1f} times" in row["explanation"]


def test_a_pattern_that_goes_clearly_beyond_its_service_is_told_beside_it():
    series = world(1)
    for i in range(7):
        put(series, f"p{i}", slice(14, 17), 4.0)
    put(series, "p2", slice(14, 17), 6.0)
    anomalies = found(series)
    assert set(zip(anomalies["scope"], anomalies["subject"], strict=True)) == {("service", ""), ("pattern", "p2")}


def test_a_spike_of_a_service_names_the_pattern_that_makes_it():
    series = world(1)
    put(series, "p0", slice(14, 17), 8.0)
    row = only(found(series)[lambda a: a["scope"] == "service"])
    assert "Most of it is “pattern 0 of <*>”" in row["explanation"]


def test_a_service_that_falls_nearly_silent_is_one_drop():
    series = world(2)
    for i in range(7):
        put(series, f"p{i}", slice(6, 18), 0.03)
    series.today[index(series, "severity", "error"), 6:18] = 0
    row = only(found(series))
    assert (row["kind"], row["scope"], row["severity"]) == ("rate_drop", "service", "high")
    assert row["ratio"] < 0.1
    assert row["z"] < -4
    assert row["start_hour"] == 6
    assert row["end_hour"] == 18


def test_more_errors_than_usual_are_a_surge_with_their_share():
    series = world(3)
    errors = index(series, "severity", "error")
    series.today[errors, 8:11] = series.today[errors, 8:11] * 8 + 10
    row = only(found(series))
    assert (row["kind"], row["scope"], row["subject"], row["severity"]) == ("error_surge", "severity", "error", "high")
    assert "% is usual" in row["explanation"]


def test_as_many_errors_out_of_a_fraction_of_the_traffic_are_a_surge_by_share():
    series = world(3, means=(2000.0, 300.0, 100.0, 50.0, 20.0, 5.0, 1.0))
    for i in range(7):
        put(series, f"p{i}", slice(8, 12), 0.15)
    anomalies = found(series).set_index("kind")
    assert set(anomalies.index) == {"rate_drop", "error_surge"}
    assert "would fit its volume" in anomalies.loc["error_surge", "explanation"]
    assert anomalies.loc["error_surge", "ratio"] > 2


def test_errors_that_rise_with_the_traffic_are_no_surge_of_their_own():
    series = world(4)
    for i in range(7):
        put(series, f"p{i}", slice(14, 17), 5.0)
    series.today[index(series, "severity", "error"), 14:17] *= 5
    assert found(series)["kind"].tolist() == ["rate_spike"]


def with_pattern(series: Series, today: np.ndarray, window: np.ndarray, error_share: float = 0.0) -> Series:
    """One more pattern of service s0, its logs in the service too."""
    service = index(series, "service")
    series.today[service] += today
    series.window[service] += np.nan_to_num(window)
    shares = np.zeros(len(series.keys) + 1)
    shares[-1] = error_share
    key = pd.DataFrame([("s0", "prod", "pattern", "extra", "an extra pattern of <*>")], columns=list(KEYS))
    return replace(
        series,
        keys=pd.concat([series.keys, key], ignore_index=True),
        today=np.vstack([series.today, today]),
        window=np.concatenate([series.window, window[None]]),
        error_share=shares,
    )


def hours(at: slice, n: float) -> np.ndarray:
    out = np.zeros(24)
    out[at] = n
    return out


def test_a_pattern_that_was_never_there_is_new():
    series = with_pattern(world(5), hours(slice(13, 20), 12), np.zeros((14, 24)))
    row = only(found(series))
    assert (row["kind"], row["subject"], row["severity"]) == ("new_pattern", "extra", "low")
    assert (row["start_hour"], row["end_hour"]) == (13, 20)
    assert row["expected"] == 0
    assert np.isnan(row["ratio"])
    assert "84 logs from 13:00 to 20:00 UTC, none in the 14 days before" in row["explanation"]


def test_a_new_pattern_of_errors_is_grave():
    series = with_pattern(world(5), hours(slice(13, 20), 30), np.zeros((14, 24)), error_share=1.0)
    assert only(found(series))["severity"] == "high"


def test_a_handful_of_logs_is_no_new_pattern():
    assert found(with_pattern(world(5), hours(slice(13, 14), 4), np.zeros((14, 24)))).empty


def test_where_every_day_brings_new_patterns_a_new_one_is_no_news():
    series = world(5)
    for d in range(14):
        for _ in range(2):
            window = np.zeros((14, 24))
            window[d, 9] = 60
            series = with_pattern(series, np.zeros(24), window)
    series.keys["subject"] = [f"{s}-{i}" if s == "extra" else s for i, s in enumerate(series.keys["subject"])]
    series = with_pattern(series, hours(slice(9, 10), 50), np.zeros((14, 24)))
    assert "new_pattern" not in found(series)["kind"].tolist()


def test_a_new_pattern_that_differs_in_one_word_from_an_old_one_says_so():
    series = with_pattern(world(5), np.zeros(24), np.zeros((14, 24)))
    old = index(series, "pattern", "p0")
    series.keys.loc[old, "template"] = "user bob logged in"
    series.keys.loc[index(series, "pattern", "extra"), "template"] = "user ann logged in"
    series.today[index(series, "pattern", "extra"), 9] = 300
    row = only(found(series)[lambda a: a["kind"] == "new_pattern"])
    assert row["severity"] == "low"
    assert "It resembles “user bob logged in”" in row["explanation"]


def test_a_service_that_is_new_is_one_anomaly():
    series = world(6, services=5)
    of_service = (series.keys["service"] == "s4").to_numpy()
    series.window[of_service] = 0
    row = only(found(series))
    assert (row["kind"], row["scope"], row["service"], row["severity"]) == ("new_pattern", "service", "s4", "low")


def test_a_regular_pattern_that_falls_silent_has_vanished():
    series = world(7)
    put(series, "p3", slice(0, 24), 0.0)
    row = only(found(series))
    assert (row["kind"], row["subject"], row["observed"]) == ("vanished_pattern", "p3", 0)
    assert "was not logged" in row["explanation"]


def test_a_pattern_that_came_now_and_then_has_not_vanished():
    window = np.zeros((14, 24))
    window[[0, 1, 3, 4, 5, 7, 9, 10, 11, 13]] = 20
    series = with_pattern(world(7), np.zeros(24), window)
    assert found(series, level=0.2).empty
    assert found(series, level=0.2, regular=0.2)["kind"].tolist() == ["vanished_pattern"]


def test_a_pattern_that_ended_days_ago_is_not_told_again():
    window = np.random.default_rng(1).poisson(20, (14, 24)).astype(float)
    window[-1:] = 0
    assert found(with_pattern(world(7), np.zeros(24), window)).empty


def test_a_job_that_runs_in_bursts_is_no_spike_when_it_runs():
    window = np.zeros((14, 24))
    window[[0, 3, 5, 8, 12], [4, 15, 9, 20, 2]] = [60, 45, 90, 30, 70]
    assert found(with_pattern(world(8), hours(slice(11, 12), 80), window)).empty


def test_a_level_that_moved_days_ago_is_the_new_normal():
    series = world(9)
    moved = [index(series, "service"), index(series, "severity", "error")]
    moved += [index(series, "pattern", f"p{i}") for i in range(7)]
    series.window[moved, 9:] *= 6
    series.today[moved] *= 6
    kind = np.zeros(len(series.keys), dtype=int)
    expected = expect(series.window, series.days, DAY, np.arange(len(kind)), kind).mean[moved[0]].sum()
    assert 0.75 < series.today[moved[0]].sum() / expected < 1.3
    assert found(series).empty


def test_a_pattern_that_began_within_the_window_is_judged_by_the_days_it_was_there():
    window = np.random.default_rng(2).poisson(50, (14, 24)).astype(float)
    window[:9] = 0
    today = np.random.default_rng(3).poisson(50, 24).astype(float)
    assert found(with_pattern(world(10), today, window)).empty
    today[5:9] *= 6
    row = only(found(with_pattern(world(10), today, window)))
    assert "rate_spike" in row["kind"]
    assert row["subject"] == "extra"


def test_a_surge_in_a_quiet_series_is_found_though_the_window_holds_another():
    """Three errors an hour as a rule: an hour of fifty is an incident there too, three days ago as today."""
    series = world(4)
    i, rng = index(series, "severity", "error"), np.random.default_rng(11)
    series.today[i], series.window[i] = rng.poisson(3, 24), rng.poisson(3, series.window[i].shape)
    series.window[i, -3, 18:20] = 55, 41
    series.today[i, 10:12] = 28, 32
    row = only(found(series))
    assert (row["kind"], row["start_hour"], row["end_hour"]) == ("error_surge", 10, 12)


def test_an_incident_in_the_window_does_not_hide_the_next():
    series = world(11)
    series.window[:9, 6, 10:13] *= 30
    put(series, "p1", slice(15, 18), 6.0)
    assert "p1" in found(series)["subject"].tolist()


def test_with_too_little_history_nothing_is_judged_and_the_report_says_so():
    series = world(12, days=2)
    put(series, "p0", slice(3, 9), 50.0)
    assert found(series).empty
    assert list(found(series).columns) == list(ANOMALIES)
    assert is_learning(series)
    row = summarise(series, found(series))
    assert row == {"hours": 24, "window_days": 2, "learning": True, "series": 0, "anomalies": 0, "high": 0}
    assert not is_learning(world(12, days=3))


def test_empty_days_of_the_team_are_no_history():
    series = world(12, days=14)
    series.window[:, :12] = 0
    assert is_learning(series)


def test_a_summary_counts_what_was_judged_and_found():
    series = world(1)
    for i in range(7):
        put(series, f"p{i}", slice(14, 17), 5.0)
    anomalies = found(series)
    row = summarise(series, anomalies)
    assert (row["window_days"], row["learning"], row["anomalies"], row["high"]) == (14, False, 1, 1)
    assert row["series"] == len(series.keys)


def test_days_that_were_not_materialised_are_left_out():
    series = world(13)
    series.window[:, [2, 3, 9]] = np.nan
    assert found(series).empty
    put(series, "p1", slice(15, 18), 6.0)
    row = found(series).iloc[0]
    assert row["start_hour"] == 15
    assert summarise(series, found(series))["window_days"] == 11
    series.window[:] = np.nan
    assert found(series).empty
    assert is_learning(series)


def test_an_open_day_is_judged_by_its_known_hours():
    series = world(14)
    series.today[:, 9:] = 0
    assert found(series, hours=9).empty
    assert not found(series).empty
    put(series, "p1", slice(6, 9), 6.0)
    row = found(series, hours=9).iloc[0]
    assert row["end_hour"] == 9
    assert found(series, hours=0).empty


def test_a_sampled_day_is_not_taken_for_a_strange_one():
    """Today one log in fifty was kept: weighted counts are right on average, and coarse."""
    for seed in range(4):
        series = world(20 + seed)
        rng = np.random.default_rng(seed)
        kept = rng.binomial(series.today.astype(int), 1 / 50) * 50.0
        weight = np.where(kept.sum(axis=1) > 0, 50.0, np.nan)
        sampled = replace(series, today=kept, today_weight=weight, window_weight=np.ones(series.window.shape[:2]))
        assert found(sampled).empty


def test_no_series_give_no_anomalies():
    nothing = Series(
        pd.DataFrame(columns=list(KEYS)), (DAY - timedelta(days=1),), np.zeros((0, 24)), np.zeros((0, 1, 24))
    )
    for detector in DETECTORS.values():
        assert list(detector(nothing, team_id=7, day=DAY).columns) == list(ANOMALIES)
    no_window = Series(world(0).keys, (), world(0).today, np.zeros((36, 0, 24)))
    assert found(no_window).empty


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="0 to 24"):
        found(world(0), hours=25)
    with pytest.raises(ValueError, match="must end before"):
        detect(world(0), team_id=7, day=DAY - timedelta(days=1))
    with pytest.raises(ValueError, match="window"):
        Series(world(0).keys, (), world(0).today, world(0).window)


def test_the_order_of_series_changes_nothing():
    series = world(15)
    put(series, "p1", slice(15, 18), 6.0)
    put(series, "p3", slice(0, 24), 0.0, service="s2")
    shuffled = np.random.default_rng(0).permutation(len(series.keys))
    other = Series(
        series.keys.iloc[shuffled].reset_index(drop=True),
        series.days,
        series.today[shuffled],
        series.window[shuffled],
    )
    a, b = found(series), found(other)
    assert len(a) >= 2
    assert a.round(9).astype(str).equals(b.round(9).astype(str))


def test_the_window_is_learnt_with_its_days_of_the_week():
    """On a Sunday at Sunday's level nothing is strange; on a Wednesday the same counts are a drop."""
    sunday = date(2026, 3, 22)
    series = world(16, day=sunday, means=(300.0, 200.0), dispersion=0.01)
    assert detect(series, team_id=7, day=sunday).empty
    kind = np.array([{"service": 0, "severity": 1, "pattern": 2}[s] for s in series.keys["scope"]])
    expectation = expect(series.window, series.days, sunday, np.arange(len(kind)), kind)
    i = index(series, "service")
    weekdays = np.array([d.weekday() < 5 for d in series.days])
    assert expectation.mean[i].sum() < 0.6 * series.window[i, weekdays].sum(axis=1).mean()


def tails(
    counts: np.ndarray, mean: float, mean_weight: float, dispersion: float, df: float, *, upper: bool
) -> tuple[np.ndarray, np.ndarray]:
    alike = np.ones(len(counts))
    return statistics.tail(
        counts, mean * alike, mean_weight * alike, dispersion * alike, df * alike, log_weight=alike, upper=upper
    )


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 500), st.floats(0.001, 2), st.floats(0.03, 1), st.floats(1, 80))
def test_tails_are_proper_probabilities(mean, dispersion, mean_weight, df):
    """A count and those beyond it: p falls as the count moves away, and never under what a known rate would give."""
    counts = np.arange(0, 60) * mean / 10
    up, z = tails(counts, mean, mean_weight, dispersion, df, upper=True)
    down, _ = tails(counts, mean, mean_weight, dispersion, df, upper=False)
    assert ((up >= 0) & (up <= 1) & (down >= 0) & (down <= 1)).all()
    assert (np.diff(up) <= 1e-12).all()
    assert (np.diff(down) >= -1e-12).all()
    assert (np.diff(z) >= -1e-9).all()
    far = counts > 2 * mean + 5
    assert (up[far] >= stats.poisson.sf(np.ceil(counts[far]) - 1, mean) * (1 - 1e-9)).all()


def test_short_history_makes_tails_wider():
    short, _ = tails(np.array([400.0]), 100.0, 1 / 3, 0.1, 6.0, upper=True)
    long, _ = tails(np.array([400.0]), 100.0, 1 / 28, 0.1, 80.0, upper=True)
    assert short[0] > 100 * long[0]


def test_tails_hold_their_level_where_the_mean_is_only_estimated():
    """Poisson counts with three days of history: a true rate would be passed at 1%, the estimate must not be more."""
    rng = np.random.default_rng(4)
    past, today = rng.poisson(8, (40_000, 3)), rng.poisson(8, 40_000)
    n = len(today)
    p, _ = statistics.tail(
        today.astype(float), past.mean(axis=1), np.full(n, 1 / 3), np.zeros(n), np.full(n, 1e9), np.ones(n), upper=True
    )
    assert 0.004 < (p <= 0.01).mean() <= 0.0115
    assert (stats.poisson.sf(today - 1, past.mean(axis=1)) <= 0.01).mean() > 0.02


def test_false_discovery_is_benjamini_hochberg_and_weights_shift_it():
    p = np.array([0.001, 0.008, 0.039, 0.041, 0.6])
    assert statistics.false_discovery(p, np.ones(5)) == pytest.approx(stats.false_discovery_control(p))
    weighed = statistics.false_discovery(p, np.array([0.5, 0.5, 3.0, 0.5, 0.5]))
    assert weighed[2] < 0.039
    assert weighed[0] > 0.001


def test_confidence_rises_as_the_q_value_falls():
    values = [confidence(q) for q in (1.0, 0.01, 1e-4, 1e-8, 0.0)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[-1] == 1
    assert values[1] == pytest.approx(0.684, abs=0.001)


def test_plain_rules_grade_by_ratio_and_by_z():
    window = np.full((1, 6, 24), 100.0) + np.tile([-5.0, 5.0], 3)[None, :, None]
    today = np.full((1, 24), 100.0)
    today[0, 3], today[0, 8], today[0, 12], today[0, 20] = 210, 320, 520, 20
    keys = pd.DataFrame([("s", "prod", "service", "", "")], columns=list(KEYS))
    series = Series(keys, tuple(DAY - timedelta(days=n) for n in range(6, 0, -1)), today, window)
    by_hour = ratio_rule(series, team_id=7, day=DAY).set_index("start_hour")
    assert by_hour["severity"].to_dict() == {3: "low", 8: "medium", 12: "high", 20: "high"}
    assert by_hour["kind"].to_dict() == {3: "rate_spike", 8: "rate_spike", 12: "rate_spike", 20: "rate_drop"}
    assert set(zscore_rule(series, team_id=7, day=DAY)["start_hour"]) == {3, 8, 12, 20}
    today[:] = 120
    assert ratio_rule(series, team_id=7, day=DAY).empty
    assert zscore_rule(series, team_id=7, day=DAY).empty


@pytest.mark.parametrize("rule", [ratio_rule, zscore_rule])
def test_plain_rules_judge_from_one_day_on(rule):
    series = world(21, days=1, dispersion=0.01)
    assert found(series).empty
    put(series, "p0", slice(3, 9), 50.0)
    told = rule(series, team_id=7, day=DAY)
    assert ((told["subject"] == "p0") & (told["severity"] == "high")).any()
    series.window[:] = np.nan
    assert rule(series, team_id=7, day=DAY).empty


def test_the_ratio_rule_says_how_far_off_an_hour_is_and_no_chance():
    series = world(21, days=6, dispersion=0.01)
    put(series, "p0", slice(3, 5), 8.0)
    by_ratio, by_z = (rule(series, team_id=7, day=DAY).query("subject == 'p0'") for rule in (ratio_rule, zscore_rule))
    hour = by_ratio[by_ratio["start_hour"] == 3]["z"].iloc[0]
    assert hour == pytest.approx(by_z[by_z["start_hour"] == 3]["z"].iloc[0])
    assert hour > 3
    assert by_ratio["p_value"].isna().all()
    assert by_z["p_value"].between(0, 1).all()


@pytest.mark.parametrize("first_days", ["ratio", "zscore"])
def test_a_plain_rule_judges_the_first_days_where_it_is_asked_to(first_days):
    detector = Detector(first_days=first_days)
    short, long = world(12, days=2), world(12, days=3)
    for series in (short, long):
        put(series, "p0", slice(3, 9), 50.0)
    rule = DETECTORS[first_days](short, team_id=7, day=DAY)
    pd.testing.assert_frame_equal(detect_by(short, team_id=7, day=DAY, detector=detector), rule)
    pd.testing.assert_frame_equal(detect_by(long, team_id=7, day=DAY, detector=detector), found(long))
    assert detect_by(short, team_id=7, day=DAY).empty
    row = summarise(short, rule, detector=detector)
    assert (row["learning"], row["series"], row["anomalies"]) == (True, len(short.keys), len(rule))


def test_a_plain_rule_that_is_set_judges_every_day_and_learns_from_one():
    detector = Detector("ratio")
    series = world(12, days=1)
    put(series, "p0", slice(3, 9), 50.0)
    told = detect_by(series, team_id=7, day=DAY, detector=detector)
    assert len(told) > 0
    assert summarise(series, told, detector=detector)["learning"] is False
    series.window[:] = np.nan
    row = summarise(series, detect_by(series, team_id=7, day=DAY, detector=detector), detector=detector)
    assert (row["learning"], row["series"]) == (True, 0)


def test_three_days_are_enough_for_five_times_the_rate():
    """Two of the busy hours of a pattern of some hundred logs an hour, on a Friday after three working days."""
    friday = date(2026, 3, 20)
    told = 0
    for seed in range(6):
        series = world(seed, days=3, dispersion=0.03, day=friday)
        busy = min(int(series.window[index(series, "pattern", "p0")].sum(axis=0).argmax()), 22)
        put(series, "p0", slice(busy, busy + 2), 5.0)
        told += bool(detect(series, team_id=7, day=friday)["service"].eq("s0").any())
    assert told >= 5


@pytest.mark.parametrize("days", [3, 4, 5])
def test_the_first_saturday_of_a_team_is_not_taken_for_a_drop(days):
    saturday = date(2026, 3, 21)
    for seed in range(4):
        series = world(seed, days=days, day=saturday)
        assert detect(series, team_id=7, day=saturday).empty


def test_a_sunday_in_a_short_history_does_not_hide_a_spike_on_wednesday():
    hits = []
    for seed in range(6):
        series = world(seed, days=3, means=(20_000.0,))
        assert series.days[0].weekday() == 6
        series.window[:, 0] = np.round(series.window[:, 0] / 4)
        put(series, "p0", slice(10, 11), 5.0)
        services = found(series)["service"]
        assert (services == "s0").all()
        hits.append(len(services) > 0)
    assert sum(hits) >= 5


def only_on(series: Series, working: np.ndarray, share: float, seed: int, service: str = "s0") -> None:
    """Thin a service to a share of its logs on the days of the window that are not ``working``."""
    rng = np.random.default_rng(seed)
    for i in np.flatnonzero(series.keys["service"] == service).tolist():
        series.window[i, ~working] = rng.binomial(series.window[i, ~working].astype(int), share)


@pytest.mark.parametrize("days", [7, 14, 28])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("day", [date(2026, 3, 21), date(2026, 3, 22), date(2026, 3, 23)])
def test_a_service_of_working_days_is_not_missed_at_weekends_nor_news_on_mondays(days, share, day):
    series = world(40, day=day, days=days)
    only_on(series, np.array([d.weekday() < 5 for d in series.days]), share, days)
    if day.weekday() >= 5:
        of = (series.keys["service"] == "s0").to_numpy()
        series.today[of] = np.random.default_rng(days).binomial(series.today[of].astype(int), share)
    assert detect(series, team_id=7, day=day).empty


@pytest.mark.parametrize("silent", [(5, 6), (6,), (2,)])
def test_a_pattern_with_silent_weekdays_vanishes_only_on_the_others(silent):
    """Each day of a week: silent as it always is, or silent where it never was."""
    for day in (date(2026, 3, 16) + timedelta(days=n) for n in range(7)):
        series = world(7, day=day)
        window = np.random.default_rng(3).poisson(20, (14, 24)).astype(float)
        window[[d.weekday() in silent for d in series.days]] = 0
        kinds = detect(with_pattern(series, np.zeros(24), window), team_id=7, day=day)["kind"].tolist()
        yesterday = (day.weekday() - 1) % 7
        if day.weekday() in silent:
            assert kinds == [], day
        elif yesterday not in silent or silent == (5, 6):
            assert kinds == ["vanished_pattern"], day


def test_a_pattern_of_working_days_has_history_though_the_window_begins_on_a_weekend():
    saturday = date(2026, 3, 21)
    series = world(7, day=saturday)
    window = np.random.default_rng(3).poisson(20, (14, 24)).astype(float)
    window[[d.weekday() >= 5 for d in series.days]] = 0
    series = with_pattern(series, np.zeros(24), window)
    extra = index(series, "pattern", "extra")
    assert history(series.window, parents(series), series.days)[extra].all()
    series.window[extra, :9] = 0
    assert history(series.window, parents(series), series.days)[extra].tolist() == [False] * 9 + [True] * 5


def without_errors(seed: int) -> tuple[Series, int]:
    series = world(seed)
    errors = index(series, "severity", "error")
    series.window[errors] = 0
    series.today[errors] = 0
    return series, errors


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4])
def test_errors_out_of_none_or_few_days_of_them_are_a_surge(before):
    series, errors = without_errors(3)
    rng = np.random.default_rng(1)
    for d in range(1, before + 1):
        series.window[errors, -d] = rng.poisson(3, 24)
    series.today[errors, 8:12] = 400
    row = only(found(series))
    assert (row["kind"], row["scope"], row["severity"]) == ("error_surge", "severity", "high")
    assert (row["start_hour"], row["end_hour"]) == (8, 12)


@pytest.mark.parametrize("logs", [1, 2, 3, 8])
@pytest.mark.parametrize("days_ago", [1, 2, 7])
def test_a_few_errors_lately_do_not_hide_a_surge(logs, days_ago):
    series, errors = without_errors(3)
    series.window[errors, -days_ago, 5] = logs
    series.today[errors, 8:12] = 400
    assert only(found(series))["kind"] == "error_surge"


def test_many_new_errors_of_a_few_logs_each_are_a_surge_of_the_service():
    series, errors = without_errors(5)
    for i in range(40):
        series = with_pattern(series, hours(slice(10, 11), 5), np.zeros((14, 24)), error_share=1.0)
        series.keys.loc[len(series.keys) - 1, "subject"] = f"extra{i}"
        series.today[errors, 10] += 5
    row = only(found(series)[lambda a: a["scope"] == "severity"])
    assert (row["kind"], row["severity"], row["observed"]) == ("error_surge", "high", 200)


def test_few_errors_out_of_none_are_no_surge():
    series, errors = without_errors(3)
    series.today[errors, [3, 9, 17]] = 3
    assert found(series).empty


@pytest.mark.parametrize("yesterday", [3, 5, 9])
def test_a_pattern_that_began_too_small_to_tell_is_told_on_the_day_it_is_large(yesterday):
    window = np.zeros((14, 24))
    window[-1, 23] = yesterday
    today = np.random.default_rng(2).poisson(200, 24).astype(float)
    row = only(found(with_pattern(world(5), today, window))[lambda a: a["scope"] == "pattern"])
    assert (row["kind"], row["subject"], row["severity"]) == ("rate_spike", "extra", "medium")


def test_a_pattern_that_began_yesterday_goes_on_without_a_word():
    """All of yesterday or its last hour: it was told then, and today is no more than that."""
    rng = np.random.default_rng(2)
    for since in (0, 12, 23):
        window = np.zeros((14, 24))
        window[-1, since:] = rng.poisson(200, 24 - since)
        series = with_pattern(world(5), rng.poisson(200, 24).astype(float), window)
        assert "extra" not in found(series)["subject"].tolist()


@pytest.mark.parametrize("days_ago", range(10))
def test_a_service_that_stopped_is_told_once(days_ago):
    series = world(100)
    of_service = (series.keys["service"] == "s0").to_numpy()
    series.today[of_service] = 0
    if days_ago:
        series.window[of_service, -days_ago:] = 0
        assert found(series).empty
        return
    row = only(found(series))
    assert (row["kind"], row["scope"], row["severity"]) == ("rate_drop", "service", "high")


def test_a_service_that_is_back_from_silence_is_as_it_was():
    for off in (1, 2, 5, 9):
        series = world(300)
        series.window[:, -off:] = 0
        assert found(series).empty
        put(series, "p1", slice(15, 18), 8.0)
        assert "rate_spike" in found(series)["kind"].tolist()


def test_the_hours_before_a_service_is_back_are_no_drop():
    series = world(300)
    of_service = (series.keys["service"] == "s0").to_numpy()
    series.window[of_service, -2:] = 0
    series.today[of_service, :10] = 0
    assert found(series).empty


def test_later_hours_of_an_open_day_change_nothing():
    """Neither their counts, nor what their logs stand for, nor that they are errors."""
    series = with_pattern(world(5), hours(slice(2, 6), 40), np.zeros((14, 24)))
    n = len(series.keys)
    weight, share = np.ones((n, 24)), np.zeros((n, 24))
    plain = replace(series, today_weight=weight.copy(), error_share=share.copy())
    weight[:, 12:20], share[:, 12:20] = 50, 1
    today = series.today.copy()
    today[:, 12:20] += 500
    later = replace(series, today=today, today_weight=weight, error_share=share)
    expected = found(plain, hours=9)
    assert only(expected)["kind"] == "new_pattern"
    pd.testing.assert_frame_equal(found(later, hours=9), expected)


def test_a_pattern_sampled_away_today_has_not_vanished():
    """Of 120 logs at a hundredth as a rule one is kept, none in a third of the days; another pattern shows the rate."""
    series = world(7, means=(20_000.0, 5.0))
    weight = np.ones((len(series.keys), 24))
    weight[index(series, "pattern", "p0")] = 100
    rare = index(series, "pattern", "p1")
    series.today[rare] = 0
    assert found(replace(series, today_weight=np.ones_like(weight)))["kind"].tolist() == ["vanished_pattern"]
    weight[rare] = np.nan
    assert found(replace(series, today_weight=weight)).empty
    of_errors = np.zeros(weight.shape)
    of_errors[rare] = 1
    kept = replace(series, today_weight=weight, error_share=of_errors)
    assert found(kept)["kind"].tolist() == ["vanished_pattern"]


@pytest.mark.parametrize("seed", range(3))
def test_the_incidents_of_the_demo_are_found_and_nothing_else_is_high(seed):
    until = date(2026, 9, 10) + timedelta(days=3 * seed)
    happened = [i for i in incidents(until, 15) if i.day == until]
    for team in team_ids():
        anomalies = detect(series_of(team, until, days=15, seed=seed), team_id=team, day=until)
        rows = list(anomalies.itertuples())
        of_team = [i for i in happened if i.team_id == team]
        for incident in of_team:
            assert any(row.kind == incident.kind and tells_of(row, incident) for row in rows), incident
        for row in rows:
            assert row.severity != "high" or any(tells_of(row, i) for i in of_team), row.explanation


def finding(observed: float, expected: float) -> Finding:
    return Finding(0, RATE_SPIKE, 3, 5, observed, expected, 1e-9, 1e-9, 9.0, (3, 4), 14)


def test_next_to_nothing_expected_makes_no_multiple():
    nothing = finding(1000.0, 6.8e-24)
    assert nothing.ratio is None
    assert explanation(nothing, "shop", "", "service", "", "") == (
        "shop logged 1,000 from 03:00 to 05:00 UTC, where none were expected."
    )
    assert severity(nothing, "service", "") == "high"
    assert finding(1000.0, 0.1).ratio == pytest.approx(10_000)


def test_four_times_is_four_times_for_all_that_floats_make_of_it():
    just = finding(4 * 0.3, 0.1 + 0.2)
    assert just.observed / just.expected < 4
    assert severity(just, "service", "") == "high"
    assert severity(finding(3.9, 1.0), "service", "") == "medium"


def test_neither_rule_nor_report_tells_of_astronomic_multiples():
    series = world(0, days=14)
    i = index(series, "pattern", "p6")
    series.window[i] = 0
    series.window[i, :, 3] = 1e-23
    series.today[i, 3] = 600
    for told in (found(series), ratio_rule(series, team_id=7, day=DAY)):
        row = told[told["subject"] == "p6"].iloc[0]
        assert np.isnan(row["ratio"])
        assert len(row["explanation"]) < 200


@pytest.mark.parametrize("at", [5, 12, 19])
def test_a_pattern_that_spikes_at_another_time_than_its_service_is_told_beside_it(at):
    series = world(1)
    for i in range(7):
        put(series, f"p{i}", slice(14, 17), 5.0)
    put(series, "p3", slice(at, at + 3), 5.0)
    told = found(series)
    assert set(zip(told["scope"], told["subject"], strict=True)) == {("service", ""), ("pattern", "p3")}
