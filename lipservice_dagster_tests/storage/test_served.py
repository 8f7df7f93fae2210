"""What is served: the policy in force and one overlay of people's overrides and incidents' boosts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.core.overlay import overlay_document, parse_overlay
from lipservice_dagster.storage import boosts, overrides, releases
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import LIVE, SHADOW, Release, UnknownPolicyError
from lipservice_dagster.storage.served import Overlays, Scope, day_overlays, overlays, served, served_of
from lipservice_dagster.storage.services import register
from lipservice_dagster.storage.tables import releases as ledger
from lipservice_sampler.decision import decide
from lipservice_sampler.text import signature

DAY = date(2026, 9, 10)
NOON = datetime(2026, 9, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEMPLATE = "job <*> took <*>"
POLICY = {"version": "v", "global_rate": 0.05, "severity_rates": {}, "pattern_rates": []}


@pytest.fixture
def shop(database: Database) -> Database:
    """A database that knows the services shop (in no environment and in prod) and cart of team 7."""
    names = {"service": ["shop", "shop", "cart"], "environment": ["", "prod", ""]}
    register(database, pd.DataFrame({"team_id": 7, "day": DAY} | names))
    return database


def release(database: Database, service: str, environment: str = "", *, at: datetime, **changed: Any) -> Release:
    values: dict[str, Any] = {"day": DAY, "version": "v", "state": LIVE} | changed
    found = releases.add_by_hand(
        database,
        Release(7, service, environment, document=POLICY, actor="ada", reason="so it is", **values),
    )
    with database.engine.begin() as connection:
        connection.execute(sa.update(ledger).where(ledger.c.id == found.id).values(released_at=at))
    return found


def override(database: Database, kind: str = "cap", *, now: datetime = NOON, **changed: Any) -> int:
    values: dict[str, Any] = {"rate": 0.02, "until": NOON + 3 * HOUR, "owner": "ada", "reason": "so it is"} | changed
    return overrides.add(database, 7, changed.pop("service", "shop"), kind, now=now, **values).id


def boost(hour: int, hours: int, factor: float = 10.0, template: str = "", environment: str = "") -> Boost:
    start = datetime(2026, 9, 10, hour, tzinfo=UTC)
    name = signature("shop", template) if template else ""
    return Boost(7, "shop", environment, name, start, start + timedelta(hours=hours), factor, template, "a spike")


def said(database: Database, at: datetime, environment: str = "") -> tuple[list[Any], list[tuple[Any, float, int]]]:
    found = overlays(database, [7], at).of(7, "shop", environment, at)
    return [o.id for o in found.overrides], [(b.template, b.factor, b.until.hour) for b in found.boosts]


def test_overrides_and_boosts_stand_in_one_document_that_the_decision_reads(shop: Database) -> None:
    release(shop, "shop", at=NOON - HOUR)
    override(shop, template=TEMPLATE)
    boosts.add(shop, [boost(10, 4), boost(10, 4, template=TEMPLATE)], now=NOON - HOUR)
    found = served(shop, 7, "shop", "", NOON)
    assert (found.mode, found.version, found.document) == (LIVE, "v", POLICY)
    plain = overlay_document(found.overlay)
    assert parse_overlay(plain) == found.overlay
    assert decide(found.document, "info", None, False, overlay=plain, masked="x", at=NOON) == (0.5, "boost")
    assert decide(found.document, "info", None, False, overlay=plain, masked="job 1 took 2", at=NOON) == (
        0.02,
        "override",
    )


def test_what_is_served_at_a_moment_is_what_the_ledgers_held_then(shop: Database) -> None:
    release(shop, "shop", at=NOON - HOUR, version="old", state=SHADOW)
    release(shop, "shop", at=NOON, version="new")
    with pytest.raises(UnknownPolicyError, match="no release of 'shop' by 2026-09-10 10:59 UTC"):
        served(shop, 7, "shop", "", NOON - HOUR - timedelta(minutes=1))
    assert [served(shop, 7, "shop", "", at).version for at in (NOON - HOUR, NOON, NOON + HOUR)] == ["old", "new", "new"]
    one = override(shop)
    overrides.remove(shop, 7, one, actor="bob", reason="over", now=NOON + HOUR)
    boosts.add(shop, [boost(11, 4)], now=NOON + HOUR / 2)
    moments = [NOON + HOUR * n / 2 for n in range(4)]
    assert [said(shop, at) for at in moments] == [
        ([one], []),
        ([one], [(None, 10.0, 15)]),
        ([], [(None, 10.0, 15)]),
        ([], [(None, 10.0, 15)]),
    ]
    assert said(shop, NOON + 3 * HOUR) == ([], [])


def test_boosts_are_added_once_and_one_that_another_outdoes_and_outlasts_is_left_out(shop: Database) -> None:
    assert boosts.add(shop, [boost(10, 4), boost(10, 4, template=TEMPLATE)], now=NOON) == 2
    assert boosts.add(shop, [boost(10, 4), boost(10, 6), boost(11, 2, 20.0)], now=NOON) == 2
    assert boosts.add(shop, []) == 0
    assert said(shop, NOON)[1] == [(None, 20.0, 13), (None, 10.0, 16), (TEMPLATE, 10.0, 14)]
    assert said(shop, NOON + HOUR)[1] == [(None, 10.0, 16), (TEMPLATE, 10.0, 14)]
    assert said(shop, NOON - HOUR)[1] == []  # not added yet
    assert said(shop, NOON, "prod")[1] == []


def test_many_services_are_asked_for_at_once_and_each_is_served_as_by_itself(shop: Database) -> None:
    scopes = [Scope(7, "shop", ""), Scope(7, "shop", "prod"), Scope(7, "cart", ""), Scope(8, "shop", "")]
    for scope in scopes[:3]:
        release(shop, scope.service, scope.environment, at=NOON - HOUR)
    override(shop)
    override(shop, environment="prod", template=TEMPLATE)
    boosts.add(shop, [boost(10, 4)], now=NOON)
    found = served_of(shop, scopes, NOON)
    assert found == {scope: served(shop, *scope, NOON) for scope in scopes[:3]}
    assert [len(found[s].overlay.overrides) for s in scopes[:3]] == [1, 2, 0]
    assert [len(found[s].overlay.boosts) for s in scopes[:3]] == [1, 0, 0]
    assert served_of(shop, [], NOON) == {}


def test_the_hours_of_a_day_are_decided_by_what_was_in_force_when_they_began(shop: Database) -> None:
    one = override(shop, now=NOON - HOUR / 2, until=NOON + 2 * HOUR)
    found = day_overlays(shop, [7], DAY).during(7, "shop", "", DAY)
    assert [(hour, [o.id for o in o.overrides]) for hour, o in found.hours] == [(0, []), (12, [one]), (14, [])]
    assert [(hours.start, hours.stop, at.hour) for hours, at, _ in found.spans] == [
        (0, 12, 0),
        (12, 14, 12),
        (14, 24, 14),
    ]
    assert not found.boosted
    raised = day_overlays(shop, [7], DAY).with_boosts([boost(0, 13)]).during(7, "shop", "", DAY)
    assert [(hour, len(o.overrides), len(o.boosts)) for hour, o in raised.hours] == [
        (0, 0, 1),
        (12, 1, 1),
        (13, 1, 0),
        (14, 0, 0),
    ]
    assert raised.boosted
    assert [o.boosts for _, o in raised.without_boosts().hours] == [()] * 4


def test_a_day_is_asked_for_in_the_same_way_as_each_of_its_hours(shop: Database) -> None:
    override(shop, now=NOON - timedelta(days=2), until=NOON)
    override(shop, "never_sample", now=NOON + HOUR, rate=None, until=None, template=TEMPLATE)
    boosts.add(shop, [boost(3, 4), boost(5, 9, 2.0)], now=NOON - 8 * HOUR)
    found: Overlays = day_overlays(shop, [7], DAY)
    for hour in range(24):
        at = datetime(2026, 9, 10, hour, tzinfo=UTC)
        assert found.of(7, "shop", "", at) == overlays(shop, [7], at).of(7, "shop", "", at)
