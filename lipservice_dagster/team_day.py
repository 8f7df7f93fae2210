"""A team's day, the value that every room speaks of, and what of a set of them is read. Imports no Dagster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True, order=True)
class TeamDay:
    """One team's day: [00:00, 24:00) UTC."""

    team_id: int
    day: date

    @classmethod
    def parse(cls, key: str) -> TeamDay:
        """From a partition key, ``2026-09-10|42`` (dimensions in alphabetical order: day, team).

        Raises ValueError where the key is no team-day.
        """
        day, _, team = str(key).partition("|")
        try:
            return cls(int(team), date.fromisoformat(day))
        except ValueError:
            raise ValueError(
                f"{key!r} is no team-day: keys read 2026-09-10|42, a day and the number of a team"
            ) from None

    @property
    def key(self) -> dg.MultiPartitionKey:
        """The partition key."""
        import dagster as dg

        return dg.MultiPartitionKey({"day": self.day.isoformat(), "team": str(self.team_id)})

    def __str__(self) -> str:
        return f"{self.day.isoformat()}|{self.team_id}"


def team_days(keys: Iterable[str]) -> list[TeamDay]:
    """The team-days of these partition keys, sorted."""
    return sorted(TeamDay.parse(k) for k in keys)


@dataclass(frozen=True)
class Bounds:
    """What of a set of team-days is read: rows observed until ``as_of``, of an open day only the whole hours.

    Aggregate and independent count carry the same bounds, so rows that arrive meanwhile cannot make them differ.
    """

    as_of: datetime

    @classmethod
    def now(cls) -> Bounds:
        """Until this moment."""
        return cls(datetime.now(UTC))

    @property
    def open_until(self) -> datetime:
        """The start of the hour that is not over yet: no log at or after it is read."""
        return self.as_of.replace(minute=0, second=0, microsecond=0)

    def hours(self, day: date) -> int:
        """Whole hours of the day that are over, 0 to 24."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return int(min(max((self.open_until - start) // timedelta(hours=1), 0), 24))


def is_product(days: Sequence[TeamDay]) -> bool:
    """Whether the team-days are all of their teams × all of their days."""
    return len(set(days)) == len({d.team_id for d in days}) * len({d.day for d in days})
