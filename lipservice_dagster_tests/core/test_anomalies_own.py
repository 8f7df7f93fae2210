"""Series that are no negative binomial around a rhythm: honest about them, and not blind for what happens there."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from benchmarks.anomalies import SPORADIC, sporadic_report
from lipservice_dagster.core.anomalies import detect
from lipservice_dagster.core.series import Series

REPORTS = 15


@pytest.mark.parametrize("name", SPORADIC)
def test_a_pattern_that_comes_and_goes_at_any_hour_is_no_news(name):
    """Fifteen reports of twenty such patterns: at a level of 0.01, none or by bad luck one tells of anything."""
    told = [
        len(detect(series, team_id=1, day=day)) for series, day in (sporadic_report(name, s) for s in range(REPORTS))
    ]
    assert sum(n > 0 for n in told) <= 1


@pytest.mark.parametrize("name", SPORADIC)
def test_what_happens_in_such_a_pattern_is_found(name):
    """A day on which one of them logs for six hours in a row, each ten times as full as its fullest."""
    found = []
    for seed in range(5):
        series, day = sporadic_report(name, seed)
        add(series, 3, slice(9, 15), 10 * series.window[3].max())
        rows = detect(series, team_id=1, day=day)
        of_it = rows[rows["subject"] == "p03"]
        found.append(len(of_it) == 1 and of_it["kind"].iloc[0] == "rate_spike")
    assert sum(found) >= 4


def add(series: Series, i: int, hours: slice, logs: float) -> None:
    series.today[i, hours] += logs
    series.today[-1, hours] += logs


def test_a_silent_day_of_a_pattern_of_two_or_three_hours_a_day_is_no_end():
    told = []
    for seed in range(5):
        series, day = sporadic_report("10% of hours active, gamma(½, 400)", seed)
        series.today[-1] -= series.today[1:-1].sum(axis=0)
        series.today[1:-1] = 0
        told += detect(series, team_id=1, day=day)["kind"].tolist()
    assert told == []


@pytest.mark.parametrize("hours", [[3], [3, 4, 15]])
def test_a_job_that_runs_at_its_times_of_the_day_has_ended_when_it_does_not(hours):
    series, day = sporadic_report("5% of hours active, Poisson(50)", 1)
    rng = np.random.default_rng(1)
    for counts in (series.window, series.today):
        counts[-1] -= counts[2]
        counts[2] = 0
    series.window[2][:, hours] = rng.poisson(200, (14, len(hours)))
    series.window[-1] += series.window[2]
    rows = detect(series, team_id=1, day=day)
    assert rows["subject"].tolist() == ["p02"]
    assert rows["kind"].tolist() == ["vanished_pattern"]


@pytest.mark.parametrize(("before", "told"), [(1, True), (4, False)])
def test_one_incident_in_the_window_is_none_to_judge_by_and_several_are(before, told):
    rng = np.random.default_rng(3)
    series, day = sporadic_report("5% of hours active, Poisson(50)", 2, patterns=3)
    series.window[1], series.today[1] = rng.poisson(20, (14, 24)), rng.poisson(20, 24)
    for d in range(before):
        series.window[1, 3 * d + 1, 2 + 5 * d : 4 + 5 * d] = 300
    series.today[1, 20:22] = 250
    rows = detect(series, team_id=1, day=day)
    assert ("p01" in rows["subject"].tolist()) == told
    assert day == date(2026, 3, 16)
