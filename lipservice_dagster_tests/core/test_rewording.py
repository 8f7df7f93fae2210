from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from lipservice_dagster.core.anomalies import detect
from lipservice_dagster.core.backtest import found_again
from lipservice_dagster.core.frames import RAW_LOGS, REPLAYS, empty
from lipservice_dagster.core.rewording import likeness
from lipservice_dagster.core.series import Series
from lipservice_dagster.core.templates import mine
from lipservice_dagster.core.window import day_series
from lipservice_sampler.text import message_id, signature

TODAY = date(2026, 3, 18)
DAYS = [TODAY - timedelta(days=n) for n in range(14, 0, -1)]

Line = tuple[str, str, float, slice]
"""(severity, message, logs an hour, hours)"""

ALL_DAY = slice(0, 24)
BASE: list[Line] = [
    ("info", "cart opened for checkout", 100, ALL_DAY),
    ("info", "order placed by customer", 100, ALL_DAY),
    ("warn", "slow query on replica", 60, ALL_DAY),
]


def line(message: str, logs: float = 20, severity: str = "info", hours: slice = ALL_DAY) -> Line:
    return severity, message, logs, hours


def rows(day: date, lines: list[Line], rng: np.random.Generator) -> pd.DataFrame:
    made = []
    for severity, message, logs, at in lines:
        hours = np.zeros(24)
        hours[at] = rng.poisson(logs, 24)[at]
        total = hours.sum()
        made.append((day, "shop", "prod", severity, message_id(message), message, total, total, hours))
    columns = ["day", "service", "environment", "severity", "message_id", "message", "logs", "weighted_logs", "hours"]
    return pd.DataFrame(made, columns=columns) if made else empty(RAW_LOGS)[columns]


def named(today: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    messages = sorted(set(today["message"]))
    mined = mine(messages)
    of = {m: mined.templates[i] for m, i in zip(messages, mined.assignment, strict=True)}
    members = pd.DataFrame(
        [("shop", message_id(m), signature("shop", t)) for m, t in of.items()],
        columns=["service", "message_id", "signature"],
    )
    texts = {("shop", signature("shop", t), t) for t in of.values()}
    return members, pd.DataFrame(sorted(texts), columns=["service", "signature", "template"])


def series_of(before: list[Line] | Callable[[date], list[Line]], now: list[Line]) -> Series:
    """A day with ``now`` after two weeks of ``before``, beside other patterns."""
    rng = np.random.default_rng(0)
    window = pd.concat([rows(d, [*BASE, *(before(d) if callable(before) else before)], rng) for d in DAYS])
    today = rows(TODAY, [*BASE, *now], rng)
    return day_series(today, window.reset_index(drop=True), DAYS, *named(today))


def told(before: list[Line] | Callable[[date], list[Line]], now: list[Line]) -> list[tuple[str, str, str]]:
    found = detect(series_of(before, now), team_id=1, day=TODAY)
    return sorted(zip(found["scope"], found["kind"], found["severity"], strict=True))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["user bob logged in from console"], ["user ann logged in from console"]),
        (["tenant acme synced", "tenant globex synced"], [f"tenant {t} synced" for t in ("acme", "globex", "initech")]),
        (["worker alpha ready", "worker beta ready"], [f"worker {w} ready" for w in ("alpha", "beta", "gamma")]),
        (["connection closed by remote peer"], ["connection terminated by remote peer"]),
        (["connection closed by remote peer"], ["connection was closed by remote peer"]),
        (["connection was closed by remote peer"], ["connection closed by remote peer"]),
        (["job done."], ["job done!"]),
        (["stage one: done, next (two)"], ["stage one done - next two"]),
        ([f"tenant {t}" for t in ("acme", "globex", "initech")], [f"tenant {t}" for t in ("acme", "globex", "hooli")]),
        ([f"{n} entered lobby" for n in ("ann", "bob", "eve")], [f"{n} entered lobby" for n in ("ann", "bob", "kim")]),
        (
            ["call from desk taken over by bob the builder of london office"],
            ["call from desk taken over by ann van dyke of london office"],
        ),
    ],
)
def test_a_reworded_constant_or_a_new_name_is_no_news(before: list[str], now: list[str]):
    assert told([line(m) for m in before], [line(m) for m in now]) == []


def test_another_name_every_day_is_no_news():
    names = ["bob", "eve", "joe", "kim", "lea", "max", "ned"]

    def before(day: date) -> list[Line]:
        return [line(f"user {names[day.toordinal() % 7]} logged in from console")]

    assert told(before, [line("user ann logged in from console")]) == []


def test_a_wording_that_rolls_out_during_a_day_is_no_news_then_nor_the_day_after():
    old, new = "connection closed by remote peer", "connection terminated by remote peer"
    midday = [line(old, hours=slice(0, 14)), line(new, hours=slice(12, 24))]
    assert told([line(old)], midday) == []
    assert told(lambda d: midday if d == DAYS[-1] else [line(old)], [line(new)]) == []


def test_counts_go_on_over_a_rewording_so_a_rise_with_it_is_found():
    found = told([line("connection closed by remote peer")], [line("connection terminated by remote peer", 200)])
    assert [kind for _, kind, _ in found] == ["rate_spike"]


def test_a_spike_of_patterns_that_are_counted_together_names_them():
    series = series_of([line("tenant acme synced")], [line("tenant acme synced"), line("tenant initech synced", 300)])
    (row,) = detect(series, team_id=1, day=TODAY).query("scope == 'pattern'").itertuples()
    assert row.template == "tenant initech synced"
    assert "Counted with “tenant acme synced”" in row.explanation


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("payment of order <*> succeeded", "payment of order <*> failed"),
        ("request accepted by the gateway", "request rejected by the gateway"),
        ("link to switch is up", "link to switch is down"),
        ("config of tenant is valid", "config of tenant is not valid"),
        ("sync of mailbox done", "sync of mailbox hit timeout"),
        ("read of block: IOException in flush", "read of block: ChecksumException in flush"),
    ],
)
def test_a_word_that_tells_what_happened_is_news(old: str, new: str):
    assert likeness(old, new) is None
    assert [kind for _, kind, _ in told([line(old)], [line(old), line(new)])] == ["new_pattern"]
    assert [kind for _, kind, _ in told([line(old)], [line(new)])] == ["new_pattern", "vanished_pattern"]


def test_another_event_beside_an_old_one_is_news_though_only_one_word_differs():
    """Names come and go; a participle in the place of another, both at once, is another event."""
    captured, refunded = "payment captured for order <*>", "payment refunded for order <*>"
    assert [kind for _, kind, _ in told([line(captured)], [line(captured), line(refunded)])] == ["new_pattern"]


@pytest.mark.parametrize("severity", ["info", "error"])
def test_what_stands_in_a_place_of_names_is_news_if_it_tells_or_is_an_error(severity: str):
    before = [line(f"disk {d}", severity=severity) for d in ("alpha", "beta", "gamma")]
    new = "delta" if severity == "error" else "failed"
    told_now = told(before, [*before, line(f"disk {new}", 30, severity)])
    assert ("pattern", "new_pattern") in [(scope, kind) for scope, kind, _ in told_now]


def test_an_error_is_no_rewording_of_what_was_none():
    old = line("upstream alpha answered the probe")
    found = told([old], [old, line("upstream omega answered the probe", 30, "error")])
    assert "new_pattern" in [kind for _, kind, _ in found]


def test_a_name_that_stops_is_still_told():
    before = [line("tenant acme synced", 60), line("tenant globex synced", 60)]
    assert [kind for _, kind, _ in told(before, before[:1])] == ["vanished_pattern"]


def test_patterns_that_are_counted_together_are_found_again_together():
    """What was left of a spike is looked for in the same series, also where the pattern that names it is all gone."""
    now = [line("tenant acme synced", 280), line("tenant initech synced", 300)]
    series = series_of([line("tenant acme synced")], now)
    today = rows(TODAY, [*BASE, *now], np.random.default_rng(1))
    members, signatures = named(today)
    anomalies = detect(series, team_id=1, day=TODAY)
    assert len(anomalies) > 0
    of = {"team_id": 1, "day": TODAY, "service": "shop", "environment": "prod"}
    replays = pd.DataFrame([dict.fromkeys(REPLAYS, 0) | of])
    left = today[today["message"] != "tenant initech synced"]
    again = found_again(replays, left, series, members, signatures, anomalies[anomalies["scope"] == "pattern"])
    assert again["anomalies_found"].tolist() == [1]


def test_counts_are_the_same_however_the_patterns_are_joined():
    series = series_of([line("tenant acme synced")], [line("tenant acme synced"), line("tenant initech synced")])
    scope = series.keys["scope"].to_numpy()
    assert series.joined
    assert series.today[scope == "pattern"].sum() == series.today[scope == "service"].sum()
    assert series.window[scope == "pattern"].sum() == series.window[scope == "service"].sum()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("payment of order <*> succeeded", "payment of order <*> failed"),
        ("INFO request for basket <*> finished", "ERROR request for basket <*> finished"),
        ("payment captured for order <*>", "payment refunded for order <*>"),
    ],
)
def test_a_new_error_is_grave_whatever_it_resembles(old: str, new: str):
    found = told([line(old, 100)], [line(old, 100), line(new, 100, "error", slice(8, 12))])
    assert ("pattern", "new_pattern", "high") in found


def test_what_tells_of_another_outcome_resembles_nothing_and_another_event_in_the_same_words_does():
    captured, refunded, failed = (f"payment {w} for order <*>" for w in ("captured", "refunded", "failed"))
    assert told([line(captured)], [line(captured), line(refunded)]) == [("pattern", "new_pattern", "low")]
    assert told([line(captured)], [line(captured), line(failed)]) == [("pattern", "new_pattern", "medium")]
