"""From masked messages to signatures: mining per service, and the counts of each signature."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lipservice_dagster.core import frames
from lipservice_dagster.core.templates import mine
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import signature

_KEY = ["team_id", "day", "service", "environment", "signature"]


def signatures_of(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Signatures and members of any number of team-days, from rows of `frames.RAW_LOGS`.

    Templates are mined from the distinct masked messages of each service of each team-day; a rest-row keeps its own
    text as template. Returns frames with the columns of `frames.SIGNATURES` and `frames.SIGNATURE_MEMBERS`, sorted by
    their keys; Σ logs is that of ``raw``.
    """
    if raw.empty:
        return frames.empty(frames.SIGNATURES), frames.empty(frames.SIGNATURE_MEMBERS)
    members = pd.concat(
        [
            _members(messages).assign(team_id=team_id, day=day, service=service)
            for (team_id, day, service), messages in _messages(raw).groupby(["team_id", "day", "service"], sort=True)
        ],
        ignore_index=True,
    )
    rows = raw.merge(members, on=["team_id", "day", "service", "message_id"], validate="many_to_one")
    counted = _count(rows)
    keys = ["team_id", "day", "service", "message_id"]
    return counted, members[list(frames.SIGNATURE_MEMBERS)].sort_values(keys, ignore_index=True)


def matched_share(raw: pd.DataFrame, templates: pd.DataFrame) -> float:
    """The share, in [0, 1], of the logs of ``raw`` that match one of their service's templates; 1.0 of no logs.

    ``raw`` are rows of `frames.RAW_LOGS`, ``templates`` has the columns service and template, of another day say.
    """
    logs = raw["logs"].sum()
    matchers = {service: Matcher(set(part)) for service, part in templates.groupby("service")["template"]}
    messages = raw.groupby(["service", "message"], as_index=False)["logs"].sum()
    hit = [
        service in matchers and matchers[service].match(message) is not None
        for service, message in zip(messages["service"], messages["message"], strict=True)
    ]
    return float(messages["logs"][hit].sum() / logs) if logs else 1.0


def _messages(raw: pd.DataFrame) -> pd.DataFrame:
    """Distinct masked messages of each service with their logs over environments and severities."""
    keys = ["team_id", "day", "service", "message_id"]
    return raw.groupby(keys, sort=True, as_index=False).agg(message=("message", "first"), logs=("logs", "sum"))


def _members(messages: pd.DataFrame) -> pd.DataFrame:
    """message_id, signature and template of one service's messages."""
    service = messages["service"].iloc[0]
    rest = (messages["message_id"] == frames.REST_ID).to_numpy()
    minable = messages[~rest]
    mined = mine(minable["message"].tolist(), minable["logs"].tolist())
    templates = messages["message"].to_numpy(dtype=object).copy()
    templates[~rest] = np.asarray(mined.templates, dtype=object)[mined.assignment] if len(minable) else []
    ids = {t: signature(service, t) for t in set(templates)}
    return pd.DataFrame(
        {
            "message_id": messages["message_id"].to_numpy(),
            "signature": [ids[t] for t in templates],
            "template": templates,
        }
    )


def _count(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum raw rows by signature; rows are sorted first, so that floating sums do not depend on how they came."""
    rows = rows.sort_values([*_KEY, "severity", "message_id"], ignore_index=True)
    groups = rows.groupby(_KEY, sort=True)
    group = groups.ngroup().to_numpy()
    counted = groups.agg(
        template=("template", "first"),
        logs=("logs", "sum"),
        bytes=("bytes", "sum"),
        weighted_logs=("weighted_logs", "sum"),
        weighted_bytes=("weighted_bytes", "sum"),
        messages=("message_id", "nunique"),
        first_seen=("first_seen", "min"),
        last_seen=("last_seen", "max"),
        example=("example", "min"),
    ).reset_index()
    hours = np.zeros((len(counted), frames.HOURS))
    np.add.at(hours, group, frames.hours_matrix(rows))
    severities = np.zeros((len(counted), len(frames.SEVERITIES)), dtype=np.int64)
    rank = rows["severity"].map({s: i for i, s in enumerate(frames.SEVERITIES)}).to_numpy()
    np.add.at(severities, (group, rank), rows["logs"].to_numpy())
    counted["hours"] = list(hours)
    counted["severities"] = list(severities)
    return counted[list(frames.SIGNATURES)]
