"""What the cap on a team-day's messages moves into rest-rows must not look like a change of the patterns they left."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from lipservice_dagster.core.anomalies import detect, ratio_rule, zscore_rule
from lipservice_dagster.core.frames import REST_ID, REST_MESSAGE
from lipservice_dagster.core.series import Series, build_series
from lipservice_sampler.text import message_id, signature

TODAY = date(2026, 3, 18)
DAYS = [TODAY - timedelta(days=n) for n in range(14, 0, -1)]
JOB, CART = "job of batch finished", "cart of customer opened"


def rows(day: date, logs: dict[tuple[str, str], float], rng: np.random.Generator) -> pd.DataFrame:
    """Raw logs of a day with so many logs an hour of each (severity, message)."""
    made = []
    for (severity, message), mean in logs.items():
        hours = rng.poisson(mean, 24).astype(float)
        name = REST_ID if message == REST_MESSAGE else message_id(message)
        if hours.sum():
            made.append((day, "shop", "prod", severity, name, message, hours.sum(), hours.sum(), hours))
    columns = ["day", "service", "environment", "severity", "message_id", "message", "logs", "weighted_logs", "hours"]
    return pd.DataFrame(made, columns=columns)


def series_of(job_before: float, rest_before: float, job: float, rest: float, severity: str = "info") -> Series:
    """Two weeks and a day of a steady pattern and of a job, parts of which (or all) are in info rest-rows."""

    def logs(own: float, of_rest: float) -> dict[tuple[str, str], float]:
        return {("info", CART): 300, (severity, JOB): own, ("info", REST_MESSAGE): of_rest}

    rng = np.random.default_rng(5)
    window = pd.concat([rows(day, logs(job_before, rest_before), rng) for day in DAYS], ignore_index=True)
    today = rows(TODAY, logs(job, rest), rng)
    texts = [JOB, CART]
    members = pd.DataFrame(
        [("shop", message_id(t), signature("shop", t)) for t in texts], columns=["service", "message_id", "signature"]
    )
    signatures = pd.DataFrame(
        [("shop", signature("shop", t), t) for t in texts], columns=["service", "signature", "template"]
    )
    return build_series(today, window, DAYS, members, signatures, lambda _, messages: [None] * len(messages))


def kinds(series: Series) -> list[tuple[str, str]]:
    found = detect(series, team_id=1, day=TODAY)
    return list(zip(found["scope"], found["kind"], strict=True))


MOVED = {
    "drop": (100, 0, 20, 80),
    "vanished": (100, 0, 0, 100),
    "spike": (20, 80, 100, 0),
    "new": (0, 100, 100, 0),
}


@pytest.mark.parametrize("kind", MOVED)
def test_logs_that_moved_into_rest_rows_or_out_of_them_are_no_anomaly(kind: str):
    assert kinds(series_of(*MOVED[kind])) == []
    before, _, now, _ = MOVED[kind]
    assert kinds(series_of(before, 0, now, 0)) != []  # the same change, with nothing that could hide it


@pytest.mark.parametrize("rule", [ratio_rule, zscore_rule])
@pytest.mark.parametrize("kind", ["drop", "spike"])
def test_plain_rules_know_of_rest_rows_too(rule, kind: str):
    found = rule(series_of(*MOVED[kind]), team_id=1, day=TODAY)
    assert (found["template"] != JOB).all()


def test_what_rest_rows_cannot_explain_is_found():
    assert ("pattern", "rate_drop") in kinds(series_of(100, 10, 5, 10))
    assert ("pattern", "vanished_pattern") in kinds(series_of(100, 10, 0, 10))
    assert ("pattern", "rate_spike") in kinds(series_of(20, 10, 120, 10))
    assert ("pattern", "new_pattern") in kinds(series_of(0, 10, 60, 10))


def test_rest_rows_of_info_hide_no_error():
    assert ("pattern", "new_pattern") in kinds(series_of(0, 100, 60, 100, severity="error"))


def test_the_service_counts_its_rest_rows():
    series = series_of(100, 0, 20, 80)
    service = series.today[(series.keys["scope"] == "service").to_numpy()][0]
    assert 24 * 360 < service.sum() < 24 * 440
