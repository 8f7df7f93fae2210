from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from lipservice_dagster.core.frames import RAW_LOGS, REST_ID, REST_MESSAGE, empty
from lipservice_dagster.core.series import Series, build_series
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import message_id, signature

TODAY = date(2026, 3, 18)
DAYS = [TODAY - timedelta(days=n) for n in (5, 3, 2, 1)]  # the fourth day before was not materialised

Row = tuple[date, str, str, str, int, int]


def raw(rows: list[Row], weight: float = 1.0) -> pd.DataFrame:
    """Rows of (day, service, severity, message, hour, logs)."""
    if not rows:
        return empty(RAW_LOGS)
    frame = pd.DataFrame(rows, columns=["day", "service", "severity", "message", "hour", "logs"])
    frame["environment"] = "prod"
    frame["message_id"] = [REST_ID if m == REST_MESSAGE else message_id(m) for m in frame["message"]]
    frame["weighted_logs"] = frame["logs"] * weight
    frame["hours"] = [np.eye(24)[h] * n * weight for h, n in zip(frame["hour"], frame["logs"], strict=True)]
    return frame.drop(columns="hour")


def named(templates: dict[tuple[str, str], str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Members and signatures from (service, message) → template."""
    members = pd.DataFrame(
        [(s, message_id(m), signature(s, t)) for (s, m), t in templates.items()],
        columns=["service", "message_id", "signature"],
    )
    texts = {signature(s, t): t for (s, _), t in templates.items()}
    return members, pd.DataFrame(texts.items(), columns=["signature", "template"])


TEMPLATES = {
    ("api", "login of ann failed"): "login of <*> failed",
    ("api", "login of bob failed"): "login of <*> failed",
    ("api", "started"): "started",
    ("web", "started"): "started",
}
MATCHERS = {"api": Matcher(["login of <*> failed", "started"]), "web": Matcher(["started"])}

TODAY_ROWS: list[Row] = [
    (TODAY, "api", "error", "login of ann failed", 3, 4),
    (TODAY, "api", "fatal", "login of bob failed", 3, 2),
    (TODAY, "api", "info", "started", 0, 1),
    (TODAY, "web", "info", "started", 0, 5),
]
WINDOW_ROWS: list[Row] = [
    (DAYS[0], "api", "error", "login of ann failed", 3, 7),
    (DAYS[1], "api", "error", "login of eve failed", 4, 8),  # a message of no member of today: matched
    (DAYS[3], "api", "warn", "disk sda is full", 5, 9),  # a message of no template of today: mined
    (DAYS[3], "api", "warn", "disk sdb is full", 5, 1),
    (DAYS[3], "web", "info", "started", 0, 6),
]


def match(service: str, messages: list[str]) -> list[str | None]:
    return MATCHERS[service].match_many(messages)


def mine(service: str, messages: list[str]) -> list[str]:
    return ["disk <*> is full" for _ in messages]


def build(today: list[Row] = TODAY_ROWS, window: list[Row] = WINDOW_ROWS, weight: float = 1.0) -> Series:
    members, signatures = named(TEMPLATES)
    return build_series(raw(today, weight), raw(window), DAYS, members, signatures, match, mine)


def at(series: Series, service: str, scope: str, subject: str) -> int:
    keys = series.keys
    hit = keys[(keys["service"] == service) & (keys["scope"] == scope) & (keys["subject"] == subject)]
    assert len(hit) == 1
    return int(hit.index[0])


def test_a_service_a_severity_and_a_pattern_are_series_of_their_own():
    series = build()
    assert series.today[at(series, "api", "service", "")].tolist() == [1, 0, 0, 6, *[0] * 20]
    assert series.today[at(series, "api", "severity", "error"), 3] == 6
    assert series.window[at(series, "api", "severity", "warn"), -1, 5] == 10
    login = at(series, "api", "pattern", signature("api", "login of <*> failed"))
    assert series.keys["template"][login] == "login of <*> failed"
    assert series.today[login].sum() == 6
    assert series.error_share is not None
    assert (series.error_share[login] == 1).all()
    assert series.error_share[at(series, "api", "service", ""), [0, 3]].tolist() == [0, 1]


def test_a_message_of_the_window_counts_towards_the_template_of_today_that_matches_it():
    series = build()
    login = at(series, "api", "pattern", signature("api", "login of <*> failed"))
    assert series.window[login, 0, 3] == 7
    assert series.window[login, 2, 4] == 8


def test_messages_that_match_nothing_of_today_are_mined_into_one_pattern():
    series = build()
    disk = at(series, "api", "pattern", signature("api", "disk <*> is full"))
    assert series.keys["template"][disk] == "disk <*> is full"
    assert series.today[disk].sum() == 0
    assert series.window[disk, -1, 5] == 10


def test_without_mining_such_messages_are_patterns_of_their_own():
    members, signatures = named(TEMPLATES)
    series = build_series(raw(TODAY_ROWS), raw(WINDOW_ROWS), DAYS, members, signatures, match)
    assert series.window[at(series, "api", "pattern", signature("api", "disk sdb is full")), -1, 5] == 1


def test_only_distinct_messages_that_are_no_members_are_matched():
    asked: list[tuple[str, list[str]]] = []

    def recording(service: str, messages: list[str]) -> list[str | None]:
        asked.append((service, messages))
        return match(service, messages)

    members, signatures = named(TEMPLATES)
    twice = [*WINDOW_ROWS, (DAYS[2], "api", "info", "login of eve failed", 9, 1)]
    build_series(raw(TODAY_ROWS), raw(twice), DAYS, members, signatures, recording, mine)
    assert [(s, sorted(m)) for s, m in asked] == [
        ("api", ["disk sda is full", "disk sdb is full", "login of eve failed"])
    ]


def test_a_day_that_was_not_materialised_is_unknown_and_one_without_logs_is_zero():
    series = build()
    assert series.days == tuple(TODAY - timedelta(days=n) for n in (5, 4, 3, 2, 1))
    assert np.isnan(series.window[:, 1]).all()
    assert (series.window[:, 3] == 0).all()
    assert not np.isnan(series.window[:, [0, 2, 3, 4]]).any()


def test_the_same_text_in_two_services_is_two_patterns():
    series = build()
    assert series.today[at(series, "web", "pattern", signature("web", "started"))].sum() == 5
    assert series.today[at(series, "api", "pattern", signature("api", "started"))].sum() == 1


def test_every_log_is_in_one_service_and_one_pattern():
    series = build()
    scope = series.keys["scope"].to_numpy()
    for counts, rows in ((series.today, TODAY_ROWS), (np.nan_to_num(series.window), WINDOW_ROWS)):
        total = sum(row[5] for row in rows)
        assert counts[scope == "service"].sum() == total
        assert counts[scope == "pattern"].sum() == total


def test_rest_rows_count_in_their_service_and_are_no_pattern():
    rest_today, rest_window = (
        (TODAY, "api", "error", REST_MESSAGE, 2, 40),
        (DAYS[0], "api", "info", REST_MESSAGE, 2, 30),
    )
    series = build([*TODAY_ROWS, rest_today], [*WINDOW_ROWS, rest_window])
    assert series.today[at(series, "api", "service", ""), 2] == 40
    assert series.window[at(series, "api", "service", ""), 0, 2] == 30
    assert len(series.keys) == len(build().keys)


def test_what_a_stored_log_stands_for_is_kept():
    series = build(weight=4.0)
    assert series.today_weight is not None
    assert series.window_weight is not None
    login = at(series, "api", "pattern", signature("api", "login of <*> failed"))
    assert series.today[login].sum() == 24
    assert np.unique(series.today_weight[login][series.today[login] > 0]).tolist() == [4]
    assert np.isnan(series.today_weight[login][series.today[login] == 0]).all()
    assert series.window_weight[login, 0] == 1
    assert np.isnan(series.window_weight[login, 4])


def test_the_order_of_rows_changes_nothing():
    rng = np.random.default_rng(3)
    members, signatures = named(TEMPLATES)
    today, window = raw(TODAY_ROWS, 1 / 3), raw(WINDOW_ROWS, 1 / 7)
    a = build_series(today, window, DAYS, members, signatures, match, mine)
    today, window = today.iloc[rng.permutation(len(today))], window.iloc[rng.permutation(len(window))]
    b = build_series(today, window, DAYS[::-1], members[::-1], signatures[::-1], match, mine)
    pd.testing.assert_frame_equal(a.keys, b.keys)
    assert np.array_equal(a.today, b.today)
    assert np.array_equal(a.window, b.window, equal_nan=True)


def test_empty_days_and_windows_give_empty_series():
    members, signatures = named(TEMPLATES)
    nothing = build_series(raw([]), raw([]), DAYS, members, signatures, match, mine)
    assert len(nothing.keys) == 0
    assert nothing.window.shape == (0, 5, 24)
    first = build_series(raw(TODAY_ROWS), raw([]), [], members, signatures, match, mine)
    assert first.window.shape == (len(first.keys), 0, 24)
    gone = build_series(raw([]), raw(WINDOW_ROWS), DAYS, members, signatures, match, mine)
    assert gone.today.sum() == 0
    assert len(gone.keys) > 0


def test_wrong_input_is_refused():
    members, signatures = named(TEMPLATES)
    with pytest.raises(ValueError, match="not materialised"):
        build_series(raw(TODAY_ROWS), raw(WINDOW_ROWS), DAYS[1:], members, signatures, match)
    with pytest.raises(ValueError, match="in no signature"):
        build_series(raw(TODAY_ROWS), raw([]), [], members[1:], signatures, match)
    with pytest.raises(ValueError, match="answered 1"):
        build_series(raw(TODAY_ROWS), raw(WINDOW_ROWS), DAYS, members, signatures, lambda s, m: [None], mine)
