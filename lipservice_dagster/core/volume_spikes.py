"""Volume spikes: which services log far more in the last half hour than at these hours of the days before.

What belongs here: when five-minute volumes are worth a look. It is a cheap question about everybody, asked every few
minutes; what comes of it is a report, which judges properly and by pattern. So the rule asks for much, of few figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field


class SpikeSettings(BaseModel):
    """What counts as a spike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float = Field(default=3.0, gt=1, description="So many times what was to be expected, at least.")
    score: float = Field(default=6.0, gt=0, description="So many standard deviations above it, at least.")
    least_logs: int = Field(default=500, ge=1, description="Fewer logs than these are no spike.")
    least_errors: int = Field(default=50, ge=1, description="Fewer errors than these are no surge.")
    least_days: int = Field(default=3, ge=2, description="Days that a team must be known for.")


@dataclass(frozen=True, order=True)
class Spike:
    """A service's logs, or its errors, over what was to be expected."""

    team_id: int
    service: str
    environment: str
    errors: bool
    observed: int
    expected: float

    @property
    def reason(self) -> str:
        """In a sentence without what is in the logs."""
        where = f"{self.service or '(no service)'}{f' ({self.environment})' if self.environment else ''}"
        what = "errors" if self.errors else "logs"
        return f"{where}: {self.observed:,} {what} where {self.expected:,.0f} were to be expected"


def spikes(volumes: pd.DataFrame, share: float, settings: SpikeSettings) -> list[Spike]:
    """The spikes among services, by their key; at most one of logs and one of errors a service.

    ``volumes``: columns team_id, service, environment, logs_now, errors_now, logs_before and errors_before (arrays of
    the same hours of the days before, the nearest first); ``share``: how long now is, of what those arrays count. A
    day counts from the first on which the team logged anything; the team of too few such days is still learning. The
    score is that of a count with the days' own variance, and at least Poisson's: (k - m) / √(max(m, 1) + s²(1 + 1/n)).
    Stored logs are compared, as only these are known of now: where a policy has changed meanwhile, the report that is
    asked for, which reads weights, has the last word.
    """
    if volumes.empty:
        return []
    before = np.stack(volumes["logs_before"].to_numpy()).astype(float)
    days = before.shape[1]
    # The oldest day of a service on which it logged; of a team the oldest of its services'.
    oldest = np.where(before > 0, np.arange(1, days + 1), 0).max(axis=1)
    known = pd.Series(oldest).groupby(volumes["team_id"].to_numpy()).transform("max").to_numpy()
    found = []
    for errors, name, least in ((False, "logs", settings.least_logs), (True, "errors", settings.least_errors)):
        now = volumes[f"{name}_now"].to_numpy().astype(float)
        past = np.stack(volumes[f"{name}_before"].to_numpy()).astype(float) * share
        counted = np.arange(1, days + 1) <= known[:, None]
        n = np.maximum(known, 1)
        mean = np.where(counted, past, 0).sum(axis=1) / n
        variance = np.where(counted, (past - mean[:, None]) ** 2, 0).sum(axis=1) / np.maximum(n - 1, 1)
        score = (now - mean) / np.sqrt(np.maximum(mean, 1) + variance * (1 + 1 / n))
        is_spike = (
            (known >= settings.least_days)
            & (now >= least)
            & (now >= settings.factor * mean)
            & (score >= settings.score)
        )
        for i in np.flatnonzero(is_spike):
            row = volumes.iloc[i]
            found.append(
                Spike(int(row["team_id"]), row["service"], row["environment"], errors, int(now[i]), float(mean[i]))
            )
    return sorted(found)
