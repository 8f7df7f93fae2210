"""Team-days whose stored logs are not what the log store holds by now, or that were never made whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.windows import Stale

ASSETS = (
    "raw_logs",
    "signatures",
    "clusters",
    "anomaly_reports",
    "policies",
    "replays",
    "backtests",
    "policy_releases",
    "policy_exports",
    "savings",
)
"""A day made again is made again whole."""

_NOTED = [a for a in ASSETS if a not in ("policy_releases", "policy_exports")]
"""Those that fill tables by team-day, which ``materializations`` tells of."""

_ORDER = "ORDER BY source.day, source.team_id"

_SOURCE = """
SELECT source.team_id, source.day, source.logs,
       EXISTS (SELECT FROM analysis_runs AS a WHERE a.team_id = source.team_id AND a.status = 'running'
                  AND a.started_at > now() - CAST(:longest_run AS interval)) AS busy
  FROM unnest(CAST(:teams AS int[]), CAST(:days AS date[]), CAST(:logs AS bigint[])) AS source (team_id, day, logs)
"""

_CHANGED = """  JOIN materializations AS m ON (m.asset, m.team_id, m.day) = ('raw_logs', source.team_id, source.day)
 WHERE m.fingerprint IS NOT NULL AND m.kept IS NULL AND m.checked_at < :made_before
   AND (m.logs IS DISTINCT FROM source.logs OR m.hours < :whole)
"""

_UNMADE = """ WHERE EXISTS (SELECT FROM materializations AS m
                WHERE (m.asset, m.team_id) = ('raw_logs', source.team_id) AND m.fingerprint IS NOT NULL)
   AND (SELECT count(*) FROM materializations AS m
         WHERE (m.team_id, m.day) = (source.team_id, source.day) AND m.asset = ANY(:assets)
           AND (m.fingerprint IS NOT NULL OR m.kept IS NOT NULL)) < cardinality(:assets)
"""


def changed(
    database: Database, source: Mapping[TeamDay, int], *, made_before: datetime, longest_run: timedelta
) -> list[Stale]:
    """Of these closed team-days those that were made before, from another number of logs or while they were open.

    ``source``: the logs that the store holds, by its volumes; these may outlast the logs, so days that were found
    expired are left alone. In one query, the earliest day first. A run that began longer than
    ``longest_run`` ago and never told its end is not at work any more.
    """
    values = {"made_before": made_before, "longest_run": longest_run, "whole": HOURS}
    return _found(database, _CHANGED, source, values)


def unmade(database: Database, source: Mapping[TeamDay, int], *, longest_run: timedelta) -> list[Stale]:
    """Of these closed team-days with logs those that were not made, or not all of whose tables were.

    Only of teams of which some day was made: a new team's days are filled by who discovers it. The other arguments are
    those of `changed`.
    """
    return _found(database, _UNMADE, source, {"longest_run": longest_run, "assets": _NOTED})


def _found(
    database: Database, statement: str, source: Mapping[TeamDay, int], values: Mapping[str, object]
) -> list[Stale]:
    ordered = sorted(source)
    text = f"{_SOURCE} {statement} {_ORDER}"
    typed = [("teams", sa.Integer), ("days", sa.Date), ("logs", sa.BigInteger), ("assets", sa.Text)]
    used: list[sa.BindParameter[Any]] = [
        sa.bindparam(name, type_=pg.ARRAY(kind)) for name, kind in typed if f":{name}" in text
    ]
    of_source = {
        "teams": [d.team_id for d in ordered],
        "days": [d.day for d in ordered],
        "logs": [source[d] for d in ordered],
    }
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text(text).bindparams(*used), {**of_source, **values}).all()
    return [Stale(TeamDay(r.team_id, r.day), str(r.logs), ASSETS, r.busy) for r in rows]
