"""From masked messages to signatures: nothing lost, and what does not matter changes nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.core import frames
from lipservice_dagster.core.signatures import matched_share, signatures_of
from lipservice_sampler.masks import mask
from lipservice_sampler.text import message_id, repair, signature

DAY = date(2026, 9, 1)
AT = datetime(2026, 9, 1, tzinfo=UTC)
VERBS = ("opened", "closed", "moved", "failed")


def raw(messages: list[tuple[str, str, str, int]]) -> pd.DataFrame:
    """Rows of raw_logs out of (service, severity, message, logs); equal ones are summed."""
    summed: dict[tuple[str, str, str], int] = {}
    for service, severity, message, logs in messages:
        key = (service, severity, mask(repair(message)))
        summed[key] = summed.get(key, 0) + logs
    rows = [
        {
            "team_id": 7, "day": DAY, "service": service, "environment": "", "severity": severity,
            "message_id": message_id(text), "message": text, "logs": logs, "bytes": 10 * logs,
            "weighted_logs": 1.5 * logs, "weighted_bytes": 15.0 * logs,
            "hours": np.eye(24)[len(text) % 24] * 1.5 * logs, "first_seen": AT, "last_seen": AT, "example": text,
        }
        for (service, severity, text), logs in summed.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(frames.RAW_LOGS))


lines = st.tuples(
    st.sampled_from(["shop", "pay"]),
    st.sampled_from(frames.SEVERITIES),
    st.builds(
        lambda verb, name, n: f"file {name} {verb} after {n} ms",
        st.sampled_from(VERBS),
        st.text(alphabet="abcdefgh", min_size=1, max_size=3),
        st.integers(0, 9999),
    ),
    st.integers(1, 50),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(lines, min_size=1, max_size=60))
def test_counts_are_conserved(messages: list[tuple[str, str, str, int]]) -> None:
    rows = raw(messages)
    found, members = signatures_of(rows)
    assert list(found.columns) == list(frames.SIGNATURES)
    for column in ("logs", "bytes"):
        assert found[column].sum() == rows[column].sum()
    for column in ("weighted_logs", "weighted_bytes"):
        assert found[column].sum() == pytest.approx(rows[column].sum())
    assert np.allclose(frames.hours_matrix(found).sum(axis=0), frames.hours_matrix(rows).sum(axis=0))
    assert np.stack(found["severities"].to_list()).sum() == rows["logs"].sum()
    assert found["messages"].sum() == len(members)
    assert set(members["message_id"]) == set(rows["message_id"])
    for row in found.itertuples():
        assert row.signature == signature(row.service, row.template)


@settings(max_examples=30, deadline=None)
@given(st.lists(lines, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_order_and_other_services_change_no_signature(
    messages: list[tuple[str, str, str, int]], random: object
) -> None:
    rows = raw(messages)
    found, _ = signatures_of(rows)
    shuffled, _ = signatures_of(rows.sample(frac=1, random_state=random.randrange(2**31)))  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(found, shuffled)
    for service in set(rows["service"]):
        alone, _ = signatures_of(rows[rows["service"] == service])
        same = found[found["service"] == service].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, same)


def test_rest_rows_keep_their_text_and_take_no_part_in_mining() -> None:
    rows = raw([("shop", "info", "file a opened after 3 ms", 5)])
    rest = rows.assign(message_id=frames.REST_ID, message=frames.REST_MESSAGE, logs=9)
    found, members = signatures_of(pd.concat([rows, rest], ignore_index=True))
    assert dict(zip(found["template"], found["logs"], strict=True))[frames.REST_MESSAGE] == 9
    assert found["logs"].sum() == 14
    assert frames.REST_ID in set(members["message_id"])


def test_the_share_that_other_templates_match_counts_logs() -> None:
    yesterday, _ = signatures_of(raw([("shop", "info", f"file {n} opened after {n} ms", 1) for n in "abcdefgh"]))
    today = raw([("shop", "info", "file z opened after 7 ms", 30), ("shop", "info", "the moon is full", 10)])
    assert matched_share(today, yesterday[["service", "template"]]) == 0.75
    assert matched_share(today, yesterday[["service", "template"]].iloc[:0]) == 0.0
    assert matched_share(today.iloc[:0], yesterday[["service", "template"]]) == 1.0


def test_no_logs_give_no_signatures() -> None:
    found, members = signatures_of(frames.empty(frames.RAW_LOGS))
    assert (list(found.columns), len(found)) == (list(frames.SIGNATURES), 0)
    assert (list(members.columns), len(members)) == (list(frames.SIGNATURE_MEMBERS), 0)
