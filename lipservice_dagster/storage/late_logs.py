"""Team-days whose stored logs are not what the log store holds by now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

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

_CHANGED = """
SELECT m.team_id, m.day, source.logs,
       EXISTS (SELECT FROM analysis_runs AS a WHERE a.team_id = m.team_id AND a.status = 'running'
                  AND a.started_at > now() - CAST(:longest_run AS interval)) AS busy
  FROM unnest(CAST(:teams AS int[]), CAST(:days AS date[]), CAST(:logs AS bigint[])) AS source (team_id, day, logs)
  JOIN materializations AS m ON (m.asset, m.team_id, m.day) = ('raw_logs', source.team_id, source.day)
 WHERE m.fingerprint IS NOT NULL AND m.kept IS NULL AND m.checked_at < :made_before
   AND (m.logs IS DISTINCT FROM source.logs OR m.hours < :whole)
 ORDER BY m.day, m.team_id
"""


def changed(
    database: Database, source: Mapping[TeamDay, int], *, made_before: datetime, longest_run: timedelta
) -> list[Stale]:
    """Of these closed team-days those that were made before, from another number of logs or while they were open.

    ``source``: the logs that the store holds, by its volumes; these may outlast the logs, so days that were found
    expired are left alone. In one query, the earliest day first. A run that began longer than
    ``longest_run`` ago and never told its end is not at work any more.
    """
    ordered = sorted(source)
    statement = sa.text(_CHANGED).bindparams(
        sa.bindparam("teams", type_=pg.ARRAY(sa.Integer)),
        sa.bindparam("days", type_=pg.ARRAY(sa.Date)),
        sa.bindparam("logs", type_=pg.ARRAY(sa.BigInteger)),
    )
    values = {
        "teams": [d.team_id for d in ordered],
        "days": [d.day for d in ordered],
        "logs": [source[d] for d in ordered],
        "made_before": made_before,
        "longest_run": longest_run,
        "whole": HOURS,
    }
    with database.engine.connect() as connection:
        rows = connection.execute(statement, values).all()
    return [Stale(TeamDay(r.team_id, r.day), str(r.logs), ASSETS, r.busy) for r in rows]
