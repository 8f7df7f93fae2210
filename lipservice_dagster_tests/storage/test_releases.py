"""The ledgers: what people do is never undone by the graph, and what expires is out of force."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from lipservice_dagster.core import frames
from lipservice_dagster.core.accountable import UnaccountableError
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import releases
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import (
    LIVE,
    PINNED,
    SHADOW,
    NotPinnedError,
    PinnedError,
    Release,
    UnknownPolicyError,
    UnprovenError,
)
from lipservice_dagster.storage.team_days import TeamDayRows, write

DAY = date(2026, 9, 10)


def entry(days: int = 0, state: str = SHADOW, **more: str) -> Release:
    values = {"service": "shop", "actor": "graph", "reason": "passed", "version": f"v{days}"} | more
    return Release(
        7, values["service"], "", DAY + timedelta(days=days), values["version"], state, {"version": values["version"]},
        values["actor"], values["reason"],
    )  # fmt: skip


def test_the_graph_adds_only_over_what_it_has_seen(database: Database) -> None:
    first = releases.add_from_graph(database, entry(), over=None)
    assert first is not None
    assert releases.add_from_graph(database, entry(1), over=None) is None
    pinned = releases.add_by_hand(database, replace(first, state=PINNED, actor="ada"))
    assert releases.add_from_graph(database, entry(1), over=first.id) is None
    assert releases.in_force(database, 7) == [pinned]


def test_the_graph_adds_a_day_once_and_no_earlier_one(database: Database) -> None:
    first = releases.add_from_graph(database, entry(1), over=None)
    assert first is not None
    for days in (0, 1):
        assert releases.add_from_graph(database, entry(days, version="other"), over=first.id) is None
    assert releases.add_from_graph(database, entry(2), over=first.id) is not None


def test_a_rollback_takes_the_last_that_dropped_by_another_version_or_the_one_named(database: Database) -> None:
    for days, state in enumerate((SHADOW, LIVE, LIVE, LIVE)):
        releases.add_by_hand(database, entry(days, state, version=f"v{min(days, 2)}"))
    back = releases.roll_back(database, 7, "shop", "", actor="ada", reason="no")
    assert (back.version, back.state, back.day) == ("v1", PINNED, DAY + timedelta(days=1))
    named = releases.roll_back(database, 7, "shop", "", version="v2", actor="ada", reason="no")
    assert (named.version, named.state) == ("v2", PINNED)
    with pytest.raises(UnknownPolicyError, match="v2 of 2026-09-13 \\(live\\)"):
        releases.roll_back(database, 7, "shop", "", version="v9", actor="ada", reason="no")


def test_without_an_earlier_release_that_dropped_there_is_nothing_to_roll_back_to(database: Database) -> None:
    releases.add_by_hand(database, entry())
    releases.add_by_hand(database, entry(1, LIVE))
    with pytest.raises(UnknownPolicyError, match="policy shadow"):
        releases.roll_back(database, 7, "shop", "", actor="ada", reason="no")


def test_who_rolls_back_second_does_not_bring_back_what_the_first_went_back_from(database: Database) -> None:
    for days in range(3):
        releases.add_by_hand(database, entry(days, LIVE))

    def back(who: str) -> str:
        try:
            return releases.roll_back(database, 7, "shop", "", actor=who, reason="too few").version
        except PinnedError as error:
            return str(error)

    with ThreadPoolExecutor(2) as people:
        first, second = sorted(people.map(back, ("ada", "bob")), reverse=True)
    assert first == "v1"
    assert re.search(r"pinned at version v1 of 2026-09-11 by (ada|bob) \(too few\): it is rolled back already", second)
    assert [e.version for e in releases.history(database, 7, "shop", "")] == ["v1", "v2", "v1", "v0"]
    further = releases.roll_back(database, 7, "shop", "", day=DAY, actor="ada", reason="still too few")
    assert (further.version, further.state) == ("v0", PINNED)


def test_what_was_only_in_shadow_is_rolled_back_to_where_its_policy_passed(database: Database) -> None:
    kept_all = releases.add_from_graph(database, entry(), over=None)
    for days, state in ((1, SHADOW), (2, LIVE)):
        releases.add_by_hand(database, entry(days, state))
    with pytest.raises(UnprovenError, match=r"only in shadow.*has no backtest yet"):
        releases.roll_back(database, 7, "shop", "", version="v1", actor="ada", reason="no")
    assert releases.in_force(database, 7)[0].version == "v2"
    back = releases.roll_back(database, 7, "shop", "", version="v0", actor="ada", reason="no")
    assert kept_all is not None
    assert (back.version, back.state) == (kept_all.version, PINNED)


def test_a_version_is_named_by_a_beginning_that_no_other_has(database: Database) -> None:
    for days, version in enumerate(("ab01", "ab02", "ab02", "cd03")):
        releases.add_by_hand(database, entry(days, LIVE, version=version))
    for beginning, said in (("ab", "Several versions begin with ab: ab01, ab02$"), ("", "The version is empty")):
        with pytest.raises(UnknownPolicyError, match=said):
            releases.roll_back(database, 7, "shop", "", version=beginning, actor="ada", reason="no")
        with pytest.raises(UnknownPolicyError, match=said):
            releases.named(database, 7, "shop", "", beginning)
    back = releases.roll_back(database, 7, "shop", "", version="ab02", actor="ada", reason="no")
    assert (back.version, back.day) == ("ab02", DAY + timedelta(days=2))


def test_a_computed_policy_is_named_by_a_beginning_that_no_other_has(database: Database) -> None:
    days = [TeamDay(7, DAY + timedelta(days=n)) for n in range(3)]
    columns = dict.fromkeys(frames.POLICIES, "") | {"team_id": 7, "service": "shop", "document": "{}"}
    columns |= dict.fromkeys(("logs", "bytes", "kept_logs", "kept_bytes"), 0.0)
    made = pd.DataFrame(columns | {"day": [d.day for d in days], "version": ["ab01", "ab01", "ab02"]})
    write(database, "policies", TeamDayRows({"policies": made}, days), "run")
    assert releases.computed(database, 7, "shop", "", version="ab01")[:2] == (DAY + timedelta(days=1), "ab01")
    assert releases.computed(database, 7, "shop", "", version="ab", day=DAY)[1] == "ab01"
    for beginning, said in (("ab", "Several versions begin with ab: ab01, ab02$"), ("", "The version is empty")):
        with pytest.raises(UnknownPolicyError, match=said):
            releases.computed(database, 7, "shop", "", version=beginning)
    with pytest.raises(
        UnknownPolicyError, match=r"no policy for 'shop' .*version zz. The newest of the service: ab02 of"
    ):
        releases.computed(database, 7, "shop", "", version="zz")


def test_only_what_is_pinned_is_unpinned(database: Database) -> None:
    with pytest.raises(NotPinnedError, match="has no release"):
        releases.unpin(database, 7, "shop", "", actor="ada", reason="fine")
    releases.add_by_hand(database, entry(0, LIVE))
    with pytest.raises(NotPinnedError, match="is live"):
        releases.unpin(database, 7, "shop", "", actor="ada", reason="fine")


def test_nothing_is_made_live_over_a_pin_until_it_is_unpinned(database: Database) -> None:
    for days in (0, 1):
        releases.add_by_hand(database, entry(days, LIVE))
    back = releases.roll_back(database, 7, "shop", "", actor="ada", reason="too few")
    with pytest.raises(PinnedError, match=r"pinned at version v0 of 2026-09-10 by ada \(too few\).*policy unpin"):
        releases.add_by_hand(database, entry(2, LIVE, actor="bob"))
    assert releases.in_force(database, 7) == [back]
    releases.add_by_hand(database, replace(entry(2, LIVE), service="cart"))  # another service is free
    releases.unpin(database, 7, "shop", "", actor="ada", reason="fine")
    assert releases.add_by_hand(database, entry(2, LIVE, actor="bob")).state == LIVE


def test_dropping_is_stopped_over_a_pin_too(database: Database) -> None:
    releases.add_by_hand(database, entry(0, PINNED))
    assert releases.add_by_hand(database, entry(0, SHADOW)).state == SHADOW


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ({"actor": "", "reason": "fine"}, "who decides this:"),
        ({"actor": "ada", "reason": " \t"}, "say why:"),
        ({"actor": " ", "reason": ""}, "who decides this and why"),
    ],
)
def test_who_and_why_are_said_of_whatever_a_person_does(database: Database, by: dict[str, Any], said: str) -> None:
    for days in (0, 1):
        releases.add_by_hand(database, entry(days, LIVE))
    with pytest.raises(UnaccountableError, match=said):
        releases.add_by_hand(database, entry(2, LIVE, **by))
    with pytest.raises(UnaccountableError, match=said):
        releases.roll_back(database, 7, "shop", "", **by)
    releases.add_by_hand(database, entry(0, PINNED))
    with pytest.raises(UnaccountableError, match=said):
        releases.unpin(database, 7, "shop", "", **by)
    assert releases.in_force(database, 7)[0].state == PINNED
