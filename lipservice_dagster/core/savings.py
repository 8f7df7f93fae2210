"""What live policies in fact kept of a day, beside what they should have kept.

What is stored carries its weight, so a day's raw logs say both what there was (weighted) and what was kept (stored).
What should have been kept follows from the releases and the overlays in force, hour by hour, over what there was. The
stamp of a sampled log is stored with it: what there was had none, what is kept has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.effect import ratio
from lipservice_dagster.core.overlay import OverlayHours
from lipservice_dagster.core.replay import replay


@dataclass(frozen=True)
class InForce:
    """From this hour of the day on, this document; ``drops`` is false where it only reports (shadow)."""

    hour: int
    version: str
    drops: bool
    document: Mapping[str, Any]


def savings_of(
    day: date,
    raw: pd.DataFrame,
    in_force: Mapping[tuple[str, str], Sequence[InForce]],
    said: Mapping[tuple[str, str], OverlayHours],
) -> pd.DataFrame:
    """Rows of `frames.SAVINGS` of one team-day, one a service and environment where a release dropped in some hour.

    ``raw``: rows of `frames.RAW_LOGS` of the team-day. ``in_force``: by service and environment, in order of the hours.
    ``said``: the overlays of the day's hours by service and environment, decided with as the edge does.
    """
    rows = []
    for scope, part in raw.groupby(["service", "environment"], sort=True):
        key = (str(scope[0]), str(scope[1]))
        releases = in_force.get(key, ())
        ends = [*(r.hour for r in releases[1:]), frames.HOURS]
        live = sum(end - r.hour for r, end in zip(releases, ends, strict=False) if r.drops)
        if not live:
            continue
        expected, stamps = frames.hours_matrix(part), 0.0
        for release, end in zip(releases, ends, strict=True):
            if release.drops:
                hours = slice(release.hour, end)
                found = replay(part, release.document, said.get(key))
                expected[:, hours] = found.kept[:, hours]
                stamps += float(found.stamps[:, hours].sum())
        weighted = part["weighted_logs"].to_numpy(float)
        kept = expected.sum(axis=1)
        rows.append(
            {
                "team_id": part["team_id"].iloc[0],
                "day": day,
                "service": key[0],
                "environment": key[1],
                "version": releases[-1].version,
                "live_hours": live,
                "logs": float(weighted.sum()),
                "bytes": float(part["weighted_bytes"].sum()),
                "kept_logs": int(part["logs"].sum()),
                "kept_bytes": int(part["bytes"].sum()),
                "expected_logs": float(kept.sum()),
                "expected_bytes": float(kept @ ratio(part["weighted_bytes"].to_numpy(float), weighted)) + stamps,
            }
        )
    return pd.DataFrame(rows, columns=list(frames.SAVINGS)).astype({"live_hours": np.int64})
