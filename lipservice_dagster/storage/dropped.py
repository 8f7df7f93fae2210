"""What was dropped, for those who read the logs: by pattern and hour, seen, kept and rate.

Nothing of it is stored by itself: what there was and what is left both stand in ``raw_logs``.
"""

from __future__ import annotations

from datetime import date

import pandas as pd
import sqlalchemy as sa

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import raw_logs, signature_members, signatures


def dropped(
    database: Database, team_id: int, day: date, service: str | None = None, environment: str | None = None
) -> pd.DataFrame:
    """Columns service, environment, signature, template, hour (0 to 23), seen, kept, rate; hours with logs only.

    ``seen`` are weighted logs: an estimate of what there was; ``kept`` are stored logs and ``rate`` is kept / seen.
    Over a day ``kept`` is exact. Within it the logs of a masked message at a severity are taken as kept at their mean
    rate of the day, since stored logs are counted by day.
    """
    r, m, s = raw_logs.c, signature_members.c, signatures.c
    by_hour = sa.func.unnest(r.hours).table_valued("value", with_ordinality="place").render_derived()
    share = sa.case((r.weighted_logs > 0, r.logs / r.weighted_logs), else_=sa.literal(0.0))
    member = sa.and_(m.team_id == r.team_id, m.day == r.day, m.service == r.service, m.message_id == r.message_id)
    pattern = sa.and_(
        s.team_id == r.team_id,
        s.day == r.day,
        s.service == r.service,
        s.environment == r.environment,
        s.signature == m.signature,
    )
    key = [r.service, r.environment, m.signature, s.template]
    hour, seen, kept = by_hour.c.place - 1, sa.func.sum(by_hour.c.value), sa.func.sum(by_hour.c.value * share)
    statement = (
        sa.select(*key, hour.label("hour"), seen.label("seen"), kept.label("kept"), (kept / seen).label("rate"))
        .select_from(raw_logs)
        .join(signature_members, member)
        .join(signatures, pattern)
        .join(by_hour, by_hour.c.value > 0)
        .where(r.team_id == team_id, r.day == day)
        .group_by(*key, hour)
        .order_by(*key, hour)
    )
    for column, wanted in ((r.service, service), (r.environment, environment)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    with database.engine.connect() as connection:
        return pd.read_sql(statement, connection)
