"""Which teams share a run, and how teams are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.core.backfill import blocks, shown_teams, teams_of

ORDERS = st.lists(st.integers(1, 200), min_size=1, max_size=60, unique=True)


@given(ORDERS, st.data(), st.integers(1, 100), st.integers(1, 500), st.integers(1, 8))
def test_every_team_is_in_one_run_of_neighbours_that_is_not_too_wide(order, data, days, most, parallel):
    wanted = data.draw(st.sets(st.sampled_from(order)))
    found = blocks(order, wanted, days, most, parallel)
    assert sorted(t for block in found for t in block) == sorted(wanted)
    for block in found:
        start = order.index(block[0])
        assert block == order[start : start + len(block)]
        assert len(block) == 1 or len(block) * days <= most
    assert len(found) >= min(parallel, len(wanted))


def test_runs_are_as_few_and_as_even_as_they_may_be():
    teams = list(range(1, 21))
    assert [len(b) for b in blocks(teams, teams, 30, 200, 2)] == [5, 5, 5, 5]
    assert [len(b) for b in blocks(teams, teams, 1, 200, 2)] == [10, 10]
    assert [len(b) for b in blocks(teams, teams, 300, 200, 2)] == [1] * 20
    assert blocks(teams, [3, 4, 9], 30, 200, 1) == [[3, 4], [9]]
    assert blocks(teams, [], 30, 200, 2) == []


def test_a_team_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="team 7"):
        blocks([1, 2], [1, 7], 3, 10, 1)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_teams_are_read_as_they_are_shown(teams):
    assert teams_of(shown_teams(teams)) == sorted(teams)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "3-1", "-1", "1-", "1-999999", "99999999999"])
def test_what_names_no_teams_is_refused(text):
    with pytest.raises(ValueError, match="team"):
        teams_of(text)


def test_teams_may_be_written_as_ranges_in_any_order():
    assert teams_of("7, 1-3,2") == [1, 2, 3, 7]
    assert shown_teams([3, 7, 1, 2]) == "1-3,7"
