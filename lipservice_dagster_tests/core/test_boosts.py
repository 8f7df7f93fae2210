"""Boosts: which anomalies raise one, of what, and until when."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.boosts import BoostSettings, boosts_of


def anomaly(kind: str, severity: str, scope: str = "service", subject: str = "") -> dict[str, object]:
    return dict.fromkeys(frames.ANOMALIES) | {
        "team_id": 7, "day": date(2026, 9, 10), "service": "shop", "environment": "", "scope": scope,
        "subject": subject, "template": subject and "a <*>", "kind": kind, "severity": severity,
        "start_hour": 22, "end_hour": 24, "explanation": "why",
    }  # fmt: skip


def test_what_rises_is_boosted_until_some_hours_after_its_end() -> None:
    (boost,) = boosts_of(pd.DataFrame([anomaly("rate_spike", "high")]), BoostSettings(factor=5, hours=6))
    assert (boost.signature, boost.factor) == ("", 5)
    assert boost.starts_at == datetime(2026, 9, 10, 22, tzinfo=UTC)
    assert boost.ends_at == datetime(2026, 9, 11, 6, tzinfo=UTC)


def test_a_pattern_is_boosted_by_itself() -> None:
    (boost,) = boosts_of(pd.DataFrame([anomaly("new_pattern", "medium", "pattern", "s1")]), BoostSettings())
    assert (boost.signature, boost.template) == ("s1", "a <*>")


def test_what_fell_silent_or_is_slight_is_not_boosted_and_a_service_only_once() -> None:
    rows = [
        anomaly("rate_drop", "high"),
        anomaly("vanished_pattern", "medium", "pattern", "s1"),
        anomaly("rate_spike", "low"),
        anomaly("rate_spike", "high"),
        anomaly("error_surge", "high", "severity", "error"),
    ]
    assert len(boosts_of(pd.DataFrame(rows), BoostSettings())) == 1
    assert boosts_of(frames.empty(frames.ANOMALIES), BoostSettings()) == []
