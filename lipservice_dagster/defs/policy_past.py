"""What a team's new policies take from what was there: the policies of days before, and the overrides in force.

The days before are read from the stored policies of the ramp's window, and those that the same run made are taken from
it; so it is no dependency in Dagster's graph, and a range of days need not be run a day at a time. It need not be one:
the ramp follows from goals, which a day has by itself (`core.ramp`), so making an old day again changes what was stored
for it and asks for no chain of others; a day of the window that is not there yet makes rates higher, never lower, and
the policy holds the fingerprint of what it was counted from, by which it is found (`storage.windows.stale_policies`)
and made again once the days before are others.

Declared, it would be a dependency of `policies` on themselves. Dagster 1.13 then starts no partition of a backfill in
one run with the assets it is made from, while these are asked for in the same tick ("Self-dependant assets cannot be
materialized in the same run as other assets"), and lets it wait for each earlier partition of the backfill that is
neither materialised nor in the same run (`_get_cant_run_because_of_parent_reason` in asset_backfill.py). A team-day
would no longer be one run, and a day that fails would hold up all that follow.

Overrides are taken as they stood when the day ended, so that a day made again has the same policy; what people said
since holds all the same, first in the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from lipservice_dagster.core.policy import Policy, parse
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.ramp import window_days
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import served
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import read


class Past:
    """Of one team, for the days of a run, which are made in ascending order."""

    def __init__(self, database: Database, team_id: int, days: Sequence[date], settings: PolicySettings) -> None:
        self._database, self._team_id, self._days = database, team_id, set(days)
        self._span = window_days(settings.fall_a_day, settings.min_rate)
        self._made: dict[tuple[str, str], list[Policy]] = {}
        wanted = {day - timedelta(days=back) for day in days for back in range(1, self._span + 1)} - self._days
        stored = read(database, "policies", [TeamDay(team_id, d) for d in sorted(wanted)], ["document"])
        for document in stored["document"]:
            self.add(parse(str(document)))

    def add(self, policy: Policy) -> None:
        """Remember a policy that this run made."""
        self._made.setdefault((policy.service, policy.environment), []).append(policy)

    def before(self, service: str, environment: str, day: date) -> list[Policy]:
        """The policies of a service and environment of the ramp's window before a day."""
        return [
            policy
            for policy in self._made.get((service, environment), [])
            if timedelta() < day - policy.day <= timedelta(days=self._span)
        ]

    def overlays(self, day: date) -> tuple[served.Overlays, datetime]:
        """The overrides in force when a day ended, and that moment."""
        end = datetime.combine(day, time(), UTC) + timedelta(days=1)
        return served.overlays(self._database, [self._team_id], end), end
