"""The demo's counts as series, and which anomaly tells of which of its incidents."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from lipservice_dagster.core.series import KEYS, SEVERITY_CLASSES, Series
from lipservice_dagster.local.demo_logs import Incident, counts
from lipservice_dagster.local.demo_text import outline


def series_of(team_id: int, until: date, *, days: int, seed: int) -> Series:
    """A team's last day and the days before it, every pattern known for what it is; environments as logs have them."""
    axis = [until - timedelta(days=back) for back in reversed(range(days))]
    found: dict[tuple[str, ...], np.ndarray] = defaultdict(lambda: np.zeros((days, 24)))
    errors: dict[tuple[str, ...], np.ndarray] = defaultdict(lambda: np.zeros((days, 24)))
    rng = np.random.default_rng([seed, team_id])
    for i, day in enumerate(axis):
        for service, pattern, by_hour in counts(team_id, day, until=until, days=days, seed=seed):
            staging = rng.binomial(by_hour, service.staging)
            for environment, part in (("production", by_hour - staging), ("staging", staging)):
                if environment == "staging" and not service.staging:
                    continue
                scopes = [("service", "", ""), ("pattern", pattern.text, outline(pattern.text))]
                if pattern.severity in SEVERITY_CLASSES:
                    scopes.append(("severity", SEVERITY_CLASSES[pattern.severity], ""))
                for scope, subject, template in scopes:
                    key = (service.name, environment, scope, subject, template)
                    found[key][i] += part
                    if pattern.severity in ("error", "fatal"):
                        errors[key][i] += part
    rows = sorted(found)
    array = np.stack([found[k] for k in rows])
    error = np.array([errors[k].sum() if k in errors else 0.0 for k in rows])
    return Series(
        pd.DataFrame(rows, columns=list(KEYS)),
        tuple(axis[:-1]),
        array[:, -1].copy(),
        array[:, :-1].copy(),
        error_share=error / np.maximum(array.sum(axis=(1, 2)), 1),
    )


def tells_of(anomaly: Any, incident: Incident) -> bool:
    """Whether a row of an anomaly frame is about the incident: its service, hours, and pattern if it has one."""
    overlaps = min(anomaly.end_hour, incident.end_hour) > max(anomaly.start_hour, incident.start_hour)
    about = anomaly.scope != "pattern" or not incident.pattern or anomaly.template == incident.pattern
    return bool(anomaly.service == incident.service and overlaps and about)
