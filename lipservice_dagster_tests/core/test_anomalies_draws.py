"""What sampling leaves to chance is read off the counts: little where draws were even, all where it was one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lipservice_dagster.core.anomalies_draws import left_to_chance
from lipservice_dagster.core.anomalies_expectation import expect
from lipservice_dagster.core.anomalies_report import DetectorSettings, Report, parents
from lipservice_dagster.core.series import Series
from lipservice_dagster_tests.core.test_anomalies import DAY, found, index, put, world

ONE_IN = 20.0
MEANS = (3000.0, 2000.0, 1000.0, 800.0, 600.0, 300.0)


def busy(seed: int, dispersion: float = 0.003) -> Series:
    """Days of services that log so much that one log in twenty tells."""
    return world(seed, means=MEANS, services=3, dispersion=dispersion)


def one_by_one(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.binomial(counts.astype(int), 1 / ONE_IN) * ONE_IN


def evenly(counts: np.ndarray, rng: np.random.Generator, processes: int = 4) -> np.ndarray:
    """Of logs that so many processes write at random, each keeps one in twenty, (…, hours)."""
    share = rng.multinomial(counts.astype(int), np.full(processes, 1 / processes))
    ends = np.cumsum(share, axis=-2) / ONE_IN + rng.random((*counts.shape[:-1], 1, processes))
    kept: np.ndarray = np.diff(np.floor(ends), axis=-2, prepend=0).sum(axis=-1) * ONE_IN
    return kept


def sampled(series: Series, draw, seed: int, *, window: bool = False) -> Series:
    """Its patterns thinned, and its services with them; errors are kept."""
    rng = np.random.default_rng(seed)
    today, before = series.today.copy(), series.window.copy()
    weight = np.ones(len(series.keys))
    for s in sorted(set(series.keys["service"])):
        of = (series.keys["service"] == s) & (series.keys["scope"] == "pattern")
        rows = np.flatnonzero(of)
        today[rows] = draw(today[rows], rng)
        if window:
            before[rows] = draw(before[rows], rng)
        whole = index(series, "service", service=s)
        today[whole], before[whole] = today[rows].sum(axis=0), before[rows].sum(axis=0)
        weight[[*rows, whole]] = ONE_IN
    of_window = np.repeat(weight[:, None], before.shape[1], axis=1) if window else np.ones(before.shape[:2])
    return replace(series, today=today, window=before, today_weight=weight, window_weight=of_window)


def part(series: Series, hours: int = 24) -> np.ndarray:
    """What is left to chance of each sampled series, as the day's first hours tell it."""
    parent = parents(series)
    assert series.today_weight is not None
    kind = np.zeros(len(parent), dtype=np.int64)
    expectation = expect(series.window, series.days, DAY, parent, kind, series.window_weight)
    weight = (
        series.today_weight if series.today_weight.ndim == 2 else np.repeat(series.today_weight[:, None], 24, axis=1)
    )
    found = left_to_chance(series.today[:, :hours], expectation, weight[:, :hours], parent)
    return found[(weight > 1).any(axis=1)]


def test_draws_one_by_one_leave_all_to_chance():
    parts = np.concatenate([part(sampled(busy(seed), one_by_one, seed)) for seed in range(8)])
    assert (parts == 1).mean() > 0.75
    assert (parts > 0.5).mean() > 0.95


@pytest.mark.parametrize("processes", [1, 4, 16])
def test_even_draws_leave_little(processes: int):
    def draw(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return evenly(counts, rng, processes)

    assert np.median(np.concatenate([part(sampled(busy(seed), draw, seed)) for seed in range(4)])) < 0.4
    assert np.median(np.concatenate([part(sampled(busy(seed, 0.02), draw, seed)) for seed in range(4)])) < 0.8


def test_what_is_not_sampled_is_as_it_was():
    series = busy(1)
    assert (left_to_chance(series.today, _expected(series), np.ones(series.today.shape), parents(series)) == 1).all()
    assert found(series).equals(found(replace(series, today_weight=np.ones(len(series.keys)))))


def _expected(series: Series):
    return expect(series.window, series.days, DAY, parents(series), np.zeros(len(series.keys), dtype=np.int64))


@pytest.mark.parametrize("draw", [one_by_one, evenly])
@pytest.mark.parametrize("window", [False, True])
def test_however_it_was_drawn_sampling_raises_hardly_an_alarm(draw, window: bool):
    false = [len(found(sampled(busy(seed, 0.02), draw, seed, window=window))) for seed in range(30)]
    assert sum(n > 0 for n in false) <= 2


@pytest.mark.parametrize("window", [False, True])
def test_a_doubling_that_is_lost_among_draws_one_by_one_is_found_among_even_ones(window: bool):
    def hits(draw) -> int:
        times = 0
        for seed in range(10):
            series = busy(seed)
            put(series, "p5", slice(10, 11), 2.4)
            report = found(sampled(series, draw, seed, window=window))
            times += ((report["subject"] == "p5") & (report["service"] == "s0")).any()
        return times

    assert hits(evenly) >= hits(one_by_one) + 3


def test_a_day_that_is_busier_as_a_whole_tells_as_well_as_others():
    usual, busier = (
        np.median(part(sampled(replace(busy(2), today=np.round(factor * busy(2).today)), evenly, 2)))
        for factor in (1.0, 1.3)
    )
    assert busier < usual + 0.1


def test_a_few_hours_or_a_few_logs_an_hour_tell_nothing():
    thinned = sampled(busy(1), evenly, 1)
    assert (part(thinned) < 1).any()
    assert (part(thinned, hours=7) == 1).all()
    rare = world(1, means=(40.0, 30.0), services=3, dispersion=0.003)
    assert (part(sampled(rare, evenly, 1)) == 1).all()


def test_a_day_with_another_rhythm_counts_as_drawn_one_by_one():
    series = busy(2)
    shifted = replace(series, today=np.roll(series.today, 9, axis=1))
    assert (part(sampled(shifted, evenly, 2)) == 1).mean() > 0.9


def test_a_day_that_is_silent_for_most_of_its_hours_counts_as_drawn_one_by_one():
    """The silence strays from itself by nothing; the other hours do."""
    for seed in range(4):
        series = busy(seed)
        series.today[:, :14] = 0
        assert (part(sampled(series, one_by_one, seed)) == 1).all()


def test_hours_before_a_policy_began_tell_nothing_of_its_draws():
    """They stray by less than what all hours' weight would let them, however the others were drawn."""
    weights = []
    for seed in range(6):
        series = busy(seed, 0.0005)
        thinned = sampled(series, one_by_one, seed)
        thinned.today[:, :13] = series.today[:, :13]
        assert thinned.today_weight is not None
        by_hour = np.repeat(thinned.today_weight[:, None], 24, axis=1)
        by_hour[:, :13] = 1
        report = Report.read(replace(thinned, today_weight=by_hour), DAY, 24, DetectorSettings())
        weights.append(report.log_weight[thinned.today_weight > 1])
    assert (np.concatenate(weights) > 4.5).mean() > 0.9


def test_a_series_that_strays_more_than_its_service_has_more_left_to_chance():
    """As one has whose logs all carry a trace: these are kept one by one."""
    rng = np.random.default_rng(3)
    strays = []
    for seed in range(12):
        thinned = sampled(series := busy(seed), evenly, seed)
        rows = [index(series, "pattern", "p2", service) for service in ("s0", "s1", "s2")]
        thinned.today[rows] = one_by_one(series.today[rows], rng)
        assert thinned.today_weight is not None
        strays += part(thinned)[np.searchsorted(np.flatnonzero(thinned.today_weight > 1), rows)].tolist()
    assert np.mean(np.array(strays) == 1) > 0.7
    assert np.mean(np.array(strays) > 0.5) > 0.9


def test_even_draws_of_the_window_are_not_taken_for_unsteadiness():
    series = sampled(busy(4), evenly, 4, window=True)
    report = Report.read(series, DAY, 24, DetectorSettings())
    rows = np.flatnonzero(series.keys["scope"] == "pattern")
    assert np.median(report.log_weight[rows]) < 0.5 * ONE_IN
    assert np.median(report.expectation.dispersion[rows, 0]) < 0.02
