"""Replays: what a policy would have kept of a day, by counts alone, and one draw of what it would have left."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.core import frames
from lipservice_dagster.core.overlay import Overlay, OverlayHours
from lipservice_dagster.core.replay import figures, replay, thinned
from lipservice_sampler.text import message_id, signature

DAY = date(2026, 9, 10)
READ = ["severity", "message_id", "message", "logs", "weighted_logs", "weighted_bytes", "hours"]


def row(message: str, severity: str, hours: list[float], weight: float = 1.0) -> dict[str, object]:
    filled = np.array(hours + [0.0] * (24 - len(hours)))
    return {
        "team_id": 7,
        "day": DAY,
        "service": "shop",
        "environment": "",
        "severity": severity,
        "message_id": frames.REST_ID if message == frames.REST_MESSAGE else message_id(message),
        "message": message,
        "logs": int(filled.sum() / weight),
        "weighted_logs": filled.sum(),
        "weighted_bytes": filled.sum() * 100,
        "hours": filled,
    }


def raw(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def policy(rates: dict[str, float], *, info: float = 0.1, first: int = 0) -> dict[str, object]:
    return {
        "version": "v",
        "global_rate": 0.5,
        "severity_rates": {"info": info, "error": 1.0, "fatal": 1.0},
        "pattern_rates": [{"signature": signature("shop", t), "template": t, "rate": r} for t, r in rates.items()],
        "unknown": {"first_per_hour": first},
    }


def test_rates_are_those_of_the_decision_by_template_severity_and_text() -> None:
    rows = raw(
        row("served <*>", "info", [100.0]),
        row("served <*>", "error", [10.0]),
        row("gave up: connection refused", "info", [5.0]),
        row("nobody knows this", "info", [30.0, 4.0]),
        row(frames.REST_MESSAGE, "info", [40.0]),
    )
    found = replay(rows, policy({"served <*>": 0.25}, first=10))
    assert found.kept.sum(axis=1).tolist() == pytest.approx([25.0, 10.0, 5.0, 10 + 20 * 0.1 + 4, 40.0])
    assert found.variance.tolist() == pytest.approx([100 * 0.75 / 0.25, 0.0, 0.0, 20 * 0.9 / 0.1, 0.0])


def test_messages_find_the_template_of_the_policy_and_not_that_of_their_day() -> None:
    found = replay(raw(row("user anna logged in", "info", [8.0])), policy({"user <*> logged in": 0.5}))
    assert found.rate.tolist() == [[0.5] * 24]
    assert replay(raw(row("", "info", [8.0])), policy({"other": 0.5})).rate.tolist() == [[0.1] * 24]


def test_figures_count_patterns_that_are_likely_to_be_seen_and_what_counts_lose() -> None:
    rows = raw(row("a <*>", "info", [100.0]), row("b", "info", [2.0]), row("c", "error", [3.0]))
    found = figures(rows, replay(rows, policy({"a <*>": 0.25, "b": 0.5})), np.array(["A", "B", "C"], dtype=object))
    assert (found["logs"], found["kept_logs"]) == (105.0, 29.0)
    stamps = 25 * len("lipservice.sample_rate0.25") + len("lipservice.sample_rate0.5")
    assert (found["bytes"], found["kept_bytes"]) == (10_500.0, 2_900.0 + stamps)
    assert (found["errors"], found["kept_errors"]) == (3.0, 3.0)
    assert found["patterns"] == 3
    assert found["kept_patterns"] == pytest.approx(1 + 0.75 + 1)
    assert found["pattern_error_most"] == pytest.approx(np.sqrt(2 * 0.5 / 0.5) / 2)
    assert found["count_error"] == pytest.approx(np.sqrt(300 + 2) / 105)


def test_draws_agree_with_the_expectation_and_with_the_closed_form_of_the_variance() -> None:
    rows = raw(row("a <*>", "info", [400.0, 100.5]), row("unlisted", "info", [50.0]))
    found = replay(rows, policy({"a <*>": 0.2}, first=5))
    draws = [thinned(rows, found, str(i)) for i in range(300)]
    rebuilt = np.array([d["weighted_logs"].to_numpy() for d in draws])
    stored = np.array([d["logs"].to_numpy() for d in draws])
    variance = found.variance
    assert rebuilt.mean(axis=0) == pytest.approx([500.5, 50.0], abs=4 * float(np.sqrt(variance.max() / 300)))
    assert rebuilt.var(axis=0) == pytest.approx(variance, rel=0.35)
    assert stored.mean(axis=0) == pytest.approx(found.kept.sum(axis=1), rel=0.1)


def spoken(*hours: tuple[int, dict[str, object]]) -> OverlayHours:
    scope = {"team_id": 7, "service": "shop", "environment": ""}
    return OverlayHours(DAY, tuple((h, Overlay.model_validate(scope | said)) for h, said in hours))


def test_an_overlay_is_decided_with_by_service_and_by_template_in_its_hours() -> None:
    rows = raw(
        row("served <*>", "info", [100.0, 100.0]),
        row("unlisted", "info", [100.0, 100.0]),
        row("served <*>", "error", [5.0, 5.0]),
        row(frames.REST_MESSAGE, "info", [40.0, 40.0]),
    )
    entry = {"until": "2026-09-11T00:00:00Z", "owner": "ada", "reason": "so it is"}
    whole = entry | {"kind": "never_sample", "template": "served <*>"}
    cap = entry | {"kind": "cap", "rate": 0.05}
    found = replay(rows, policy({"served <*>": 0.2}, first=10), spoken((0, {"overrides": [whole, cap]}), (1, {})))
    # The rest-row and the first logs of an unlisted pattern are capped too; errors are not.
    assert found.kept[:, 0].tolist() == pytest.approx([100.0, 5.0, 5.0, 2.0])
    assert found.kept[:, 1].tolist() == pytest.approx([20.0, 10 + 90 * 0.1, 5.0, 40.0])


def test_an_overlay_that_says_nothing_changes_nothing() -> None:
    rows = raw(row("served <*>", "info", [100.0]), row("unlisted", "info", [50.0]))
    document = policy({"served <*>": 0.2}, first=10)
    assert np.array_equal(replay(rows, document, spoken((0, {}))).kept, replay(rows, document).kept)


def test_what_is_sampled_already_keeps_its_weight() -> None:
    rows = raw(row("a <*>", "info", [400.0], weight=4.0))
    left = thinned(rows, replay(rows, policy({"a <*>": 0.5})), "seed")
    assert left["weighted_logs"].iloc[0] / left["logs"].iloc[0] == pytest.approx(8.0)


MESSAGES = st.sampled_from(["a <*>", "b", "c d", "an error happened", "unlisted", frames.REST_MESSAGE])
ROWS = st.lists(
    st.tuples(MESSAGES, st.sampled_from(frames.SEVERITIES), st.lists(st.integers(0, 60), min_size=1, max_size=4)),
    min_size=1,
    max_size=8,
    unique_by=lambda r: (r[0], r[1]),
)
RATES = st.dictionaries(st.sampled_from(["a <*>", "b", "c d"]), st.floats(0.01, 1.0))


@given(ROWS, RATES, st.floats(0.01, 1.0), st.integers(0, 20), st.randoms())
def test_no_more_is_kept_than_was_seen_errors_stay_whole_and_order_changes_nothing(rows, rates, info, first, random):
    listed = [row(m, s, [float(h) for h in hours]) for m, s, hours in rows]
    table = raw(*listed)
    found = replay(table, policy(rates, info=info, first=first))
    assert (found.kept <= found.seen + 1e-9).all()
    assert (found.kept >= 0).all()
    errors = table["severity"].isin(frames.ERROR_SEVERITIES).to_numpy()
    assert np.array_equal(found.kept[errors], found.seen[errors])
    left = thinned(table, found, "seed")
    again = left[left["severity"].isin(frames.ERROR_SEVERITIES)]["weighted_logs"].sum()
    assert again == pytest.approx(table["weighted_logs"][errors].sum())
    assert (left["logs"] <= table["logs"].loc[left.index] + 1e-9).all()
    pd.testing.assert_frame_equal(left, thinned(table, found, "seed"))
    order = list(range(len(listed)))
    random.shuffle(order)
    shuffled = replay(raw(*(listed[i] for i in order)), policy(rates, info=info, first=first))
    assert np.array_equal(shuffled.kept, found.kept[order])
