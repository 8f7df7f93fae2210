"""Anomalies as a frame.

What belongs here: the columns of `frames.ANOMALIES`, filled and in order, whichever detector found the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from lipservice_dagster.core.anomalies_text import HIGH, LOW, MEDIUM
from lipservice_dagster.core.frames import ANOMALIES, empty
from lipservice_dagster.core.series import KEYS, Series


def key_columns(series: Series, s: int) -> dict[str, str]:
    """Service, environment, scope, subject and template of a series."""
    return {column: str(series.keys[column].iloc[s]) for column in KEYS}


def frame(rows: Sequence[dict[str, object]], team_id: int, day: date) -> pd.DataFrame:
    """The rows with their team-day, the gravest first: by severity, then confidence, name and hour."""
    if not rows:
        return empty(ANOMALIES)
    anomalies = pd.DataFrame(rows).assign(team_id=team_id, day=day)[list(ANOMALIES)]
    grave = anomalies["severity"].map({HIGH: 0, MEDIUM: 1, LOW: 2})
    return (
        anomalies.assign(grave=grave, doubt=-anomalies["confidence"])
        .sort_values(["grave", "doubt", "service", "environment", "scope", "subject", "kind", "start_hour"])
        .drop(columns=["grave", "doubt"])
        .reset_index(drop=True)
    )
