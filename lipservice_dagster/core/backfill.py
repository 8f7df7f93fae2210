"""Which teams of a backfill share a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from math import ceil


def blocks(order: Sequence[int], wanted: Collection[int], days: int, most: int, parallel: int) -> list[list[int]]:
    """The teams of each run: neighbours in ``order``, since a run covers a range of teams × a range of days.

    A run holds all ``days`` of its teams, so that each day finds its window made, in order and at once; only teams are
    shared out. ``most`` is how many team-days a run holds, at least those of one team. Runs are of one size where
    neighbours allow it, and ``parallel`` or more where there are as many teams. Each wanted team is in exactly one
    block; raises ValueError for one that is not in ``order``.
    """
    if missing := sorted(set(wanted) - set(order)):
        raise ValueError(f"team {missing[0]} is not among the teams")
    teams = len(set(wanted))
    if not teams:
        return []
    runs = max(ceil(teams * days / most), min(parallel, teams))
    found = []
    for stretch in _stretches(order, set(wanted)):
        parts = max(ceil(len(stretch) / max(most // days, 1)), min(ceil(len(stretch) * runs / teams), len(stretch)))
        cuts = [round(len(stretch) * i / parts) for i in range(parts + 1)]
        found += [stretch[a:b] for a, b in pairwise(cuts)]
    return found


def _stretches(order: Sequence[int], wanted: set[int]) -> Iterator[list[int]]:
    """The wanted teams, cut where another team stands between them."""
    stretch: list[int] = []
    for team in order:
        if team in wanted:
            stretch.append(team)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def teams_of(text: str) -> list[int]:
    """The teams of ``1,4-6``, ascending: [1, 4, 5, 6]. Raises ValueError that says what is wrong."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part.strip()!r} names no team; teams read 7, or 1,4-6, or all")
        a, b = int(first), int(last or first)
        if not a <= b < 2**31:
            raise ValueError(f"{part.strip()!r} is no range of teams")
        if b - a >= 100_000:
            raise ValueError(f"{part.strip()!r} names {b - a + 1:,} teams")
        found.update(range(a, b + 1))
    return sorted(found)


def shown_teams(teams: Collection[int]) -> str:
    """Teams as `teams_of` reads them, neighbours as ranges: ``1,4-6``."""
    parts: list[list[int]] = []
    for team in sorted(teams):
        if parts and team == parts[-1][1] + 1:
            parts[-1][1] = team
        else:
            parts.append([team, team])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
