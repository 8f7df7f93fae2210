"""Boosts: while something is out of the ordinary, more is kept of what it is about.

What belongs here: which anomalies raise a boost, by how much and for how long. A boost is an overlay: it multiplies
rates (up to 1.0) between its start and its end, and the base policy stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from lipservice_dagster.core.anomalies_text import ERROR_SURGE, HIGH, LOW, MEDIUM, NEW_PATTERN, RATE_SPIKE

_RANK = {LOW: 0, MEDIUM: 1, HIGH: 2}
_OF_PATTERNS = "pattern"


class BoostSettings(BaseModel):
    """Which anomalies raise a boost, and what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float = Field(default=10.0, ge=1.0, allow_inf_nan=False, description="Rates are multiplied by this.")
    hours: int = Field(default=6, ge=0, description="Hours that a boost lasts after the anomaly's last hour.")
    severity: str = Field(default=MEDIUM, pattern="^(low|medium|high)$", description="Least severity that raises one.")

    @property
    def reach_days(self) -> int:
        """How many days after its own a boost may still be in force."""
        return -(-self.hours // 24)


@dataclass(frozen=True)
class Boost:
    """Rates × ``factor``, up to 1.0, in [starts_at, ends_at) UTC.

    ``signature`` and ``template`` name the pattern; both are '' where it is the whole service.
    """

    team_id: int
    service: str
    environment: str
    signature: str
    starts_at: datetime
    ends_at: datetime
    factor: float
    template: str
    reason: str


def boosts_of(anomalies: pd.DataFrame, settings: BoostSettings) -> list[Boost]:
    """The boosts that anomalies (rows of `frames.ANOMALIES`) raise, by their key; of equal keys the first.

    Spikes, error surges and new patterns raise one: there is more to see. What fell silent has nothing to keep.
    """
    rising = anomalies[
        anomalies["kind"].isin([RATE_SPIKE, ERROR_SURGE, NEW_PATTERN])
        & (anomalies["severity"].map(_RANK) >= _RANK[settings.severity]).astype(bool)
    ]
    found: dict[tuple[object, ...], Boost] = {}
    for a in rising.itertuples(index=False):
        midnight = datetime(a.day.year, a.day.month, a.day.day, tzinfo=UTC)
        of_pattern = a.scope == _OF_PATTERNS
        boost = Boost(
            team_id=int(a.team_id),
            service=a.service,
            environment=a.environment,
            signature=a.subject if of_pattern else "",
            starts_at=midnight + timedelta(hours=int(a.start_hour)),
            ends_at=midnight + timedelta(hours=int(a.end_hour) + settings.hours),
            factor=settings.factor,
            template=a.template if of_pattern else "",
            reason=a.explanation,
        )
        key = (boost.team_id, boost.service, boost.environment, boost.signature, boost.starts_at, boost.ends_at)
        if key not in found or boost.reason < found[key].reason:
            found[key] = boost
    return [found[key] for key in sorted(found)]
