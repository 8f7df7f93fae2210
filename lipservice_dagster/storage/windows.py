"""The windows that anomaly reports read, and what of the graph was made from something else than there is now.

What belongs here: the one definition of a window's fingerprint, and the questions for what is stale. They are SQL, so
that a question about all reports of all teams is one query, and what a report stores is what it is later compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage.database import Database

# Of these teams alone, where some are named: what is stale of a team follows from its own rows.
_OF_TEAMS = "(CAST(:teams AS int[]) IS NULL OR team_id = ANY(CAST(:teams AS int[])))"
_BUSY = """EXISTS (SELECT FROM analysis_runs AS a WHERE a.team_id = {0}.team_id AND a.status = 'running'
                  AND a.started_at > now() - CAST(:longest_run AS interval)) AS busy"""

# What a report depends on: the raw logs of its window and its own day, each with the whole hours they cover (a day that
# was read while it was open is left out of the window, also where its content stays the same afterwards), and its own
# day's signatures. A sum of hashes, since PostgreSQL moves a sum along the days: a window costs what a day does.
_WINDOWS = """
raw AS (
    SELECT team_id, day, hashtextextended(concat_ws(' ', day, fingerprint, hours), 0)::numeric AS hash
      FROM materializations
     WHERE asset = 'raw_logs' AND fingerprint IS NOT NULL AND team_id IN (SELECT team_id FROM reports)
       AND day BETWEEN (SELECT min(day) FROM reports) - CAST(:window_days AS int) AND (SELECT max(day) FROM reports)
), sums AS (
    SELECT team_id, day, stored, asked, sum(hash) OVER (
             PARTITION BY team_id ORDER BY day
             RANGE BETWEEN make_interval(days => CAST(:window_days AS int)) PRECEDING AND CURRENT ROW
           ) AS hash
      FROM (SELECT team_id, day, 0 AS hash, stored, true AS asked FROM reports
            UNION ALL SELECT team_id, day, hash, NULL, false FROM raw) AS days
), windows AS (
    SELECT sums.team_id, sums.day, stored, mined.written_at AS mined_at,
           left(encode(sha256(convert_to(concat_ws(' ', hash, mined.fingerprint), 'UTF8')), 'hex'), 16) AS fingerprint
      FROM sums
      LEFT JOIN materializations AS mined
             ON (mined.asset, mined.team_id, mined.day) = ('signatures', sums.team_id, sums.day)
     WHERE asked
)
"""

_OF = f"""
WITH reports AS (
    SELECT team_id, day, NULL::text AS stored
      FROM unnest(CAST(:teams AS int[]), CAST(:days AS date[])) AS r (team_id, day)
), {_WINDOWS}
SELECT team_id, day, fingerprint FROM windows
"""

# Signatures or families that are older than what they are made of come before the report is made again.
_STALE = f"""
WITH reports AS (
    SELECT team_id, day, window_fingerprint AS stored FROM anomaly_reports
     WHERE day >= :first_day AND {_OF_TEAMS}
), {_WINDOWS}
SELECT w.team_id, w.day, w.fingerprint,
       NOT coalesce(raw.written_at < w.mined_at AND w.mined_at < families.written_at, false) AS whole_day,
       {_BUSY.format("w")}
  FROM windows AS w
  LEFT JOIN materializations AS raw ON (raw.asset, raw.team_id, raw.day) = ('raw_logs', w.team_id, w.day)
  LEFT JOIN materializations AS families
         ON (families.asset, families.team_id, families.day) = ('clusters', w.team_id, w.day)
 WHERE w.fingerprint <> w.stored
 ORDER BY w.day, w.team_id
"""


# A policy follows from its day, from the goals of the policies of the ramp's window (`core.ramp`, whose fingerprint is
# counted here in the same way), and from the budget that is asked for. Of the day age decides; another budget counts
# for the days that a verdict of the newest one still reads: those before stay as they were made.
_STALE_POLICIES = f"""
WITH found AS (
    SELECT team_id, day, service, environment, budget, window_fingerprint AS stored,
           left(encode(sha256(convert_to(coalesce(string_agg(day || ' ' || goals_fingerprint, ';') OVER (
             PARTITION BY team_id, service, environment ORDER BY day
             RANGE BETWEEN make_interval(days => CAST(:span AS int)) PRECEDING AND interval '1 day' PRECEDING
           ), ''), 'UTF8')), 'hex'), 16) AS fingerprint,
           max(day) OVER (PARTITION BY team_id) AS newest,
           coalesce(own.asked, :asked) AS asked
      FROM policies
      LEFT JOIN unnest(CAST(:with_budgets AS int[]), CAST(:budgets AS text[])) AS own (team, asked) ON team = team_id
     WHERE day >= CAST(:first_day AS date) - CAST(:span AS int) AND {_OF_TEAMS}
), days AS (
    SELECT team_id, day,
           bool_or(fingerprint <> stored OR budget <> asked AND day >= newest - CAST(:backtest_days AS int)) AS other,
           string_agg(fingerprint || asked, ';' ORDER BY service, environment) AS print
      FROM found GROUP BY team_id, day
), made AS (
    SELECT team_id, day, max(written_at) FILTER (WHERE asset = 'policies') AS written_at,
           max(written_at) FILTER (WHERE asset <> 'policies') AS inputs_at
      FROM materializations
     WHERE asset IN ('signatures', 'clusters', 'anomaly_reports', 'policies') AND day >= :first_day AND {_OF_TEAMS}
     GROUP BY team_id, day
)
SELECT made.team_id, made.day,
       left(encode(sha256(convert_to(concat_ws(' ', print, extract(epoch FROM inputs_at)), 'UTF8')), 'hex'), 16)
         AS fingerprint,
       {_BUSY.format("made")}
  FROM made LEFT JOIN days ON (days.team_id, days.day) = (made.team_id, made.day)
 WHERE written_at IS NOT NULL AND (coalesce(other, false) OR written_at < inputs_at)
 ORDER BY made.day, made.team_id
"""

# Backtests read what may be made out of order too: the policy of the day before, and the replays of the days before.
# Here age decides: what was made anew with the same content costs a verdict, and nothing reads verdicts further on.
_STALE_VERDICTS = f"""
WITH days AS (
    SELECT team_id, day, max(written_at) FILTER (WHERE asset = 'raw_logs') AS read_at,
           max(written_at) FILTER (WHERE asset = 'anomaly_reports') AS reported_at,
           max(written_at) FILTER (WHERE asset = 'policies') AS policies_at,
           max(written_at) FILTER (WHERE asset IN ('raw_logs', 'signatures', 'anomaly_reports', 'policies')) AS day_at,
           max(written_at) FILTER (WHERE asset = 'replays') AS replayed_at,
           max(written_at) FILTER (WHERE asset = 'backtests') AS judged_at,
           max(written_at) FILTER (WHERE asset = 'savings') AS saved_at
      FROM materializations
     WHERE day >= CAST(:first_day AS date) - greatest(CAST(:boost_days AS int), CAST(:days AS int), 1) AND {_OF_TEAMS}
     GROUP BY team_id, day
), verdicts AS (
    SELECT *, greatest(
             day_at,
             max(policies_at) OVER (teams RANGE BETWEEN interval '1 day' PRECEDING AND interval '1 day' PRECEDING),
             max(reported_at) OVER (
               teams RANGE BETWEEN make_interval(days => CAST(:boost_days AS int)) PRECEDING AND CURRENT ROW)
           ) AS to_replay_at,
           max(replayed_at) OVER (
             teams RANGE BETWEEN make_interval(days => CAST(:days AS int) - 1) PRECEDING AND CURRENT ROW
           ) AS to_judge_at
      FROM days WINDOW teams AS (PARTITION BY team_id ORDER BY day)
)
SELECT v.team_id, v.day, replayed_at < to_replay_at AS replay,
       replayed_at < to_replay_at OR judged_at < to_judge_at AS verdict, saved_at < read_at AS savings,
       to_char(greatest(to_replay_at, to_judge_at, read_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS since,
       {_BUSY.format("v")}
  FROM verdicts AS v
 WHERE day >= :first_day AND judged_at IS NOT NULL AND replayed_at IS NOT NULL
   AND (replayed_at < to_replay_at OR judged_at < to_judge_at OR saved_at < read_at)
 ORDER BY v.day, v.team_id
"""

# A transaction that began before the mark has ended by then, and what it wrote is seen from then on; written_at is when
# a transaction began, so one that ends after the mark is younger than it.
_MARK = """
SELECT least(now(), (SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database()))
"""
_CHANGED = "SELECT DISTINCT team_id FROM materializations WHERE written_at >= :since ORDER BY team_id"

REPORT, WHOLE_DAY = ("anomaly_reports", "policies"), ("signatures", "clusters", "anomaly_reports", "policies")
POLICY, SAVINGS = ("policies",), ("savings",)
VERDICT = ("backtests", "policy_releases", "policy_exports")
REPLAY = ("replays", *VERDICT)


@dataclass(frozen=True)
class Stale:
    """A partition that was made from something else than there is now.

    ``fingerprint``: of what there is to read (of a verdict: since when). ``assets``: what has to be made again: a
    report and the policies made from it (`REPORT`); where the day's own signatures or families are older than what they
    are made of, these first (`WHOLE_DAY`); policies alone (`POLICY`); a verdict (`VERDICT`), or the replay it reads too
    (`REPLAY`), and `SAVINGS`, with them or alone. ``busy``: a run is at work on the team, maybe on this very partition.
    """

    team_day: TeamDay
    fingerprint: str
    assets: tuple[str, ...]
    busy: bool = False


def window_fingerprints(database: Database, team_days: Collection[TeamDay], window_days: int) -> dict[TeamDay, str]:
    """For each of these reports a hash of what it reads: its own day and the ``window_days`` before it, as stored."""
    ordered = sorted(team_days)
    statement = sa.text(_OF).bindparams(
        sa.bindparam("teams", type_=pg.ARRAY(sa.Integer)), sa.bindparam("days", type_=pg.ARRAY(sa.Date))
    )
    values = {"teams": [d.team_id for d in ordered], "days": [d.day for d in ordered], "window_days": window_days}
    with database.engine.connect() as connection:
        return {TeamDay(t, d): fingerprint for t, d, fingerprint in connection.execute(statement, values)}


def mark(database: Database) -> datetime:
    """A moment from which on `changed_teams` tells all that is not to be seen yet."""
    with database.engine.connect() as connection:
        found: datetime = connection.execute(sa.text(_MARK)).scalar_one()
        return found


def changed_teams(database: Database, since: datetime) -> list[int]:
    """The teams of which something was written since a `mark`. What is stale of the others is what was so then."""
    with database.engine.connect() as connection:
        return list(connection.execute(sa.text(_CHANGED), {"since": since}).scalars())


def stale_reports(
    database: Database,
    window_days: int,
    first_day: date,
    longest_run: timedelta = timedelta(hours=1),
    teams: Collection[int] | None = None,
) -> list[Stale]:
    """The reports from ``first_day`` on whose window, or own day, has been made anew since with another content.

    In one query over all teams (or these), the earliest day first. A run that began longer than ``longest_run`` ago and
    never told its end is not at work any more.
    """
    values = {"window_days": window_days, "first_day": first_day, "longest_run": longest_run} | _these(teams)
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text(_STALE), values).all()
    return [Stale(TeamDay(r.team_id, r.day), r.fingerprint, WHOLE_DAY if r.whole_day else REPORT, r.busy) for r in rows]


def stale_policies(
    database: Database,
    *,
    budget: str,
    team_budgets: Mapping[int, str],
    span: int,
    backtest_days: int,
    first_day: date,
    longest_run: timedelta = timedelta(hours=1),
    teams: Collection[int] | None = None,
) -> list[Stale]:
    """The days from ``first_day`` on whose policies were made from something else than there is now.

    That is: from other goals of the ``span`` days before (days made out of order, a day made again), for another budget
    (the latest ``backtest_days`` + 1 days of a team), or before what else they are made from. ``budget`` and
    ``team_budgets`` (of teams with one of their own) are keys as `core.budget.key_of` makes them. In one query over all
    teams (or these), the earliest day first.
    """
    values = {
        "asked": budget,
        "with_budgets": list(team_budgets),
        "budgets": list(team_budgets.values()),
        "span": span,
        "backtest_days": backtest_days,
        "first_day": first_day,
        "longest_run": longest_run,
        **_these(teams),
    }
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text(_STALE_POLICIES), values).all()
    return [Stale(TeamDay(r.team_id, r.day), r.fingerprint, POLICY, r.busy) for r in rows]


def stale_verdicts(
    database: Database,
    days: int,
    first_day: date,
    *,
    boost_days: int = 1,
    longest_run: timedelta = timedelta(hours=1),
    teams: Collection[int] | None = None,
) -> list[Stale]:
    """The backtests from ``first_day`` on that are older than what they, or the replay of their day, were made from,
    and the savings that are older than their day's logs.

    A verdict reads the replays of its day and of the ``days`` - 1 before, a replay the reports of its day and of the
    ``boost_days`` before. In one query over all teams (or these), the earliest day first.
    """
    values = {"days": days, "boost_days": boost_days, "first_day": first_day, "longest_run": longest_run}
    values |= _these(teams)
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text(_STALE_VERDICTS), values).all()
    return [
        Stale(
            TeamDay(r.team_id, r.day),
            r.since,
            (REPLAY if r.replay else VERDICT if r.verdict else ()) + (SAVINGS if r.savings else ()),
            r.busy,
        )
        for r in rows
    ]


def _these(teams: Collection[int] | None) -> dict[str, Any]:
    return {"teams": None if teams is None else sorted(teams)}
