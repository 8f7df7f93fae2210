"""The ledger of overrides: what is in force at a moment, how it ends, and what is refused."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from lipservice_dagster.core import frames
from lipservice_dagster.core.accountable import UnaccountableError
from lipservice_dagster.core.overlay import Overlay, overlay_json
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import overrides
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.overrides import Entry, OverrideError
from lipservice_dagster.storage.served import overlays
from lipservice_dagster.storage.services import register
from lipservice_dagster.storage.tables import overrides as table
from lipservice_dagster.storage.team_days import TeamDayRows, write
from lipservice_sampler.text import signature

NOW = datetime(2026, 9, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEMPLATE = "job <*> took <*>"


@pytest.fixture
def shop(database: Database) -> Database:
    """A database that knows the service shop, in no environment and in prod."""
    day = date(2026, 9, 9)
    register(database, pd.DataFrame({"team_id": 7, "service": "shop", "environment": ["", "prod"], "day": day}))
    return database


def overlay(database: Database, team_id: int, service: str, environment: str, at: datetime) -> Overlay:
    return overlays(database, [team_id], at).of(team_id, service, environment, at)


def add(database: Database, kind: str = "never_sample", **changed: Any) -> Entry:
    values: dict[str, Any] = {"owner": "ada", "reason": "so it is", "until": NOW + HOUR, "now": NOW}
    return overrides.add(database, 7, "shop", kind, **(values | changed))


def said(database: Database, at: datetime, environment: str = "prod") -> list[int | None]:
    return [o.id for o in overlay(database, 7, "shop", environment, at).overrides]


def entries(database: Database) -> list[tuple[str, int, str, datetime]]:
    return [(e.entry, e.ends or e.id, e.actor, e.at) for e in reversed(overrides.history(database, 7))]


def test_an_override_is_in_force_from_its_entry_to_its_end(shop: Database) -> None:
    one = add(shop).id
    moments = (NOW - HOUR, NOW, NOW + HOUR / 2, NOW + HOUR)
    assert [said(shop, at) for at in moments] == [[], [one], [one], []]


def test_removing_ends_it_and_the_past_stays_as_it_was(shop: Database) -> None:
    one = add(shop, until=None).id
    before = overlay_json(overlay(shop, 7, "shop", "prod", NOW))
    overrides.remove(shop, 7, one, actor="bob", reason="over", now=NOW + HOUR)
    assert said(shop, NOW + HOUR) == []
    assert overlay_json(overlay(shop, 7, "shop", "prod", NOW)) == before
    assert entries(shop) == [("added", one, "ada", NOW), ("removed", one, "bob", NOW + HOUR)]
    with pytest.raises(OverrideError, match=f"override {one} was removed at 2026-09-10 13:00"):
        overrides.remove(shop, 7, one, actor="bob", reason="again")


def test_running_out_is_an_entry_dated_at_the_end_and_written_once(shop: Database) -> None:
    one = add(shop).id
    for _ in range(2):
        overrides.in_force(shop, 7)
    assert entries(shop) == [("added", one, "ada", NOW), ("expired", one, "ada", NOW + HOUR)]
    with pytest.raises(OverrideError, match="was expired at 2026-09-10 13:00"):
        overrides.remove(shop, 7, one, actor="bob", reason="late")


def test_the_overlay_is_of_one_service_and_environment(shop: Database) -> None:
    everywhere, prod = add(shop).id, add(shop, template=TEMPLATE, environment="prod").id
    assert said(shop, NOW, "prod") == [everywhere, prod]
    assert said(shop, NOW, "") == [everywhere]
    assert overlay(shop, 7, "cart", "prod", NOW).overrides == ()
    assert overlay(shop, 8, "shop", "prod", NOW).overrides == ()
    found = overlay(shop, 7, "shop", "prod", NOW).overrides[1]
    assert (found.signature, found.owner, found.until) == (signature("shop", TEMPLATE), "ada", NOW + HOUR)


def test_one_of_its_messages_stands_for_a_template(shop: Database) -> None:
    assert add(shop, template="job 17 took 3.5").template == TEMPLATE


def test_a_signature_stands_for_its_template(shop: Database) -> None:
    day, name = TeamDay(7, date(2026, 9, 9)), signature("shop", TEMPLATE)
    row = dict.fromkeys(frames.SIGNATURES, 1) | {
        "team_id": 7,
        "day": day.day,
        "service": "shop",
        "environment": "prod",
        "signature": name,
        "template": TEMPLATE,
        "hours": [1.0] * 24,
        "severities": [0] * 6,
        "first_seen": NOW,
        "last_seen": NOW,
        "example": "x",
    }
    other = row | {"signature": signature("shop", "job nightly took <*>"), "template": "job nightly took <*>"}
    signatures = pd.DataFrame([row, other], columns=list(frames.SIGNATURES))
    write(shop, "signatures", TeamDayRows({"signatures": signatures}, [day]), "run")
    assert add(shop, signature=name).template == TEMPLATE
    assert overrides.matched(shop, 7, "shop", TEMPLATE) == ["job <*> took <*>", "job nightly took <*>"]
    with pytest.raises(OverrideError, match="no pattern with signature 'ffff'"):
        add(shop, signature="ffff")
    with pytest.raises(OverrideError, match="not by both"):
        add(shop, signature=name, template=TEMPLATE)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"until": NOW}, "its end, 2026-09-10 12:00 UTC, is over"),
        ({"kind": "cap", "rate": 1.5}, "rate: Input should be less than 1"),
        ({"kind": "cap"}, "a cap names the most that is kept"),
        ({"kind": "cap", "rate": 0.1, "until": None}, "must name when it is over"),
        ({"kind": "sometimes"}, "kind: Input should be 'never_sample', 'cap' or 'lift_error_like'"),
        ({"kind": "lift_error_like"}, "name a pattern"),
        ({"environment": "dev"}, "no service 'shop' in environment 'dev'. It has: 'shop', 'shop' in 'prod'"),
    ],
)
def test_what_is_out_of_bounds_is_refused_and_nothing_is_written(
    shop: Database, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(OverrideError, match=message):
        add(shop, **changed)
    assert entries(shop) == []


def test_an_unknown_service_and_an_unknown_override_are_named(shop: Database) -> None:
    with pytest.raises(OverrideError, match=r"Team 7 has no service 'carts'\. It has: 'shop'"):
        overrides.add(shop, 7, "carts", "never_sample", owner="ada", reason="x")
    one = add(shop, until=None).id
    with pytest.raises(OverrideError, match=f"no override 99; in force are: {one}"):
        overrides.remove(shop, 7, 99, actor="bob", reason="x")
    with pytest.raises(OverrideError, match=f"Team 8 has no override {one}; in force are: none"):
        overrides.remove(shop, 8, one, actor="bob", reason="x")


def test_contradictions_are_refused_where_they_meet(shop: Database) -> None:
    one = add(shop, template=TEMPLATE, environment="prod").id
    for environment in (None, "prod"):
        with pytest.raises(
            OverrideError, match=re.escape(f"override {one} in force says already: pattern “{TEMPLATE}”")
        ):
            add(shop, "cap", rate=0.1, template=TEMPLATE, environment=environment)
    add(shop, "cap", rate=0.1, template=TEMPLATE, environment="")
    add(shop, "cap", rate=0.1)
    add(shop, "lift_error_like", template=TEMPLATE)
    add(shop, "cap", rate=0.1, template=TEMPLATE, environment="prod", now=NOW + HOUR, until=NOW + 2 * HOUR)


def test_of_contradictions_at_once_one_is_added(shop: Database) -> None:
    def try_to(kind: str) -> bool:
        try:
            add(shop, kind, rate=0.1 if kind == "cap" else None)
        except OverrideError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(try_to, ["never_sample", "cap"] * 2)) == 1
    with shop.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 1


def test_who_and_why_are_said_of_an_override_and_of_its_end(shop: Database) -> None:
    one = add(shop, owner=" ada ").id
    assert overrides.in_force(shop, 7, now=NOW)[0].actor == "ada"
    for blank in ({"owner": " "}, {"reason": ""}, {"owner": "\t", "reason": " "}):
        with pytest.raises(UnaccountableError, match="It does not say"):
            add(shop, "cap", rate=0.1, **blank)
    with pytest.raises(UnaccountableError, match="who decides this and why"):
        overrides.remove(shop, 7, one, actor=" ", reason="", now=NOW)
    assert [e.id for e in overrides.in_force(shop, 7, now=NOW)] == [one]
