"""Volumes of the last half hour are spikes where they stand out of the same hours of the days before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lipservice_dagster.core.volume_spikes import Spike, SpikeSettings, spikes

SHARE = 0.2
RULE = SpikeSettings()


def volumes(now: int, before: list[int], **columns: Any) -> dict[str, Any]:
    """A service; ``before`` in logs of as long a span as now."""
    days = np.array(before, dtype=np.uint64) * round(1 / SHARE)
    usual = {"team_id": 1, "service": "shop", "environment": "", "errors_now": 0, "errors_before": days * 0}
    return usual | {"logs_now": now, "logs_before": days} | columns


def found(*rows: dict[str, Any]) -> list[Spike]:
    return spikes(pd.DataFrame(rows), SHARE, RULE)


def test_a_multiple_of_what_is_usual_at_these_hours_is_a_spike_and_says_by_how_much() -> None:
    assert found(volumes(4000, [1000, 1100, 900, 1000])) == [Spike(1, "shop", "", False, 4000, 1000.0)]
    assert found(volumes(4000, [1000] * 4))[0].reason == "shop: 4,000 logs where 1,000 were to be expected"
    assert found(volumes(2900, [1000, 1100, 900, 1000])) == []
    assert found(volumes(400, [10, 10, 10, 10])) == []  # too few to matter


def test_what_comes_on_some_days_is_no_spike_and_what_never_came_is_one() -> None:
    weekly = [0, 0, 0, 0, 0, 0, 6000] * 2
    assert found(volumes(6000, weekly)) == []
    assert len(found(volumes(6000, [0] * 14), volumes(10, [10] * 14, service="old"))) == 1


def test_a_team_is_known_from_its_first_day_on_and_until_then_learning() -> None:
    assert found(volumes(9000, [100, 100, 0, 0])) == []
    three = found(volumes(9000, [100, 100, 100, 0, 0, 0]))
    assert three[0].expected == 100  # the days before its first are no zeros
    assert found(volumes(9000, [100, 0, 0, 0], service="new"), volumes(5, [5] * 4, team_id=2)) == []


def test_errors_surge_on_their_own() -> None:
    surge = volumes(10_000, [10_000] * 5, errors_now=300, errors_before=np.array([50, 60, 40, 50, 50]))
    assert [(s.errors, s.observed, s.expected) for s in found(surge)] == [(True, 300, 10.0)]


def test_no_volumes_are_no_spikes() -> None:
    empty = pd.DataFrame(columns=["team_id", "logs_now", "logs_before"])
    assert spikes(empty, SHARE, RULE) == []
