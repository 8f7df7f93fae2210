"""The band is the tests' own distribution read backwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lipservice_dagster.core.anomalies import detect
from lipservice_dagster.core.anomalies_band import bands
from lipservice_dagster.core.anomalies_report import DetectorSettings, Report
from lipservice_dagster.core.anomalies_statistics import tail
from lipservice_dagster_tests.core.test_anomalies import DAY, world


def of_every_series(series) -> pd.DataFrame:
    return series.keys[["service", "environment", "scope", "subject"]]


def test_an_hour_lies_outside_exactly_where_its_own_tail_is_that_unlikely():
    series = world(3)
    series.today[::3] = np.round(series.today[::3] * 2.5)
    report = Report.read(series, DAY, 24, DetectorSettings())
    outside = 0
    for s, band in enumerate(bands(series, of_every_series(series), day=DAY, coverage=0.98)):
        e = report.expectation
        for hour in range(24):
            arguments = e.mean[s, hour], e.mean_weight[s], e.dispersion[s, 0], e.df[s, 0], report.log_weight[s]
            up, down = (float(tail(band.observed[hour], *arguments, upper)[0]) for upper in (True, False))
            assert (band.observed[hour] > band.high[hour]) == (up < 0.01)
            assert (band.observed[hour] < band.low[hour]) == (down < 0.01)
            outside += up < 0.01 or down < 0.01
        assert (band.low <= band.expected + 1).all()
        assert (band.expected <= band.high + 1).all()
    assert outside > 100


@pytest.mark.parametrize("days", [14, 4])
def test_hours_of_a_clean_day_lie_within_as_often_as_said(days):
    inside = []
    for seed in range(6):
        series = world(seed, days=days)
        found = bands(series, of_every_series(series), day=DAY, coverage=0.9)
        inside += [np.mean((band.low <= band.observed) & (band.observed <= band.high)) for band in found]
    # Counts are whole: the band of a quiet hour covers more than was asked for.
    assert 0.9 <= np.mean(inside) <= 0.98


def test_a_sampled_series_has_a_wider_band_in_its_weighted_logs():
    series = world(5)
    plain = bands(series, of_every_series(series), day=DAY)
    kept = np.random.default_rng(5).binomial(series.today.astype(int), 0.1) * 10.0
    sampled = replace(series, today=kept, today_weight=np.full(len(series.keys), 10.0))
    wide = bands(sampled, of_every_series(sampled), day=DAY)
    for a, b in zip(plain, wide, strict=True):
        assert (b.high >= a.high).all()
        assert np.allclose(b.high % 10, 0)


def test_of_an_open_day_hours_to_come_are_not_observed_but_expected():
    series = world(1)
    series.today[0, 5:8] *= 8
    found = detect(series, team_id=1, day=DAY, hours=9)
    assert len(found)
    first = bands(series, found, day=DAY, hours=9)[0]
    assert np.isnan(first.observed[9:]).all()
    assert not np.isnan(first.observed[:9]).any()
    assert (first.expected > 0).all()
    row = found.iloc[0]
    hours = slice(row["start_hour"], row["end_hour"])
    assert (first.observed[hours] > first.high[hours]).all()


def test_no_anomalies_have_no_bands_and_a_series_that_is_not_there_is_an_error():
    series = world(1)
    assert bands(series, of_every_series(series).iloc[:0], day=DAY) == []
    with pytest.raises(KeyError):
        bands(series, of_every_series(series).iloc[:1].assign(service="another"), day=DAY)
