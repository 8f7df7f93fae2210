"""Backfills through Dagster's daemon, a team-day of ten million logs, and a thousand teams × ninety days of partitions.

Every stack is one of its own in a scratch folder: embedded PostgreSQL, embedded log store, a daemon in a process.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import scale_dagster, scale_ticks
from benchmarks.measure import Measured, table, work

_HERE = "benchmarks.scale"
LAST = date(2026, 9, 30)
BACKFILLS = ((20, 30), (60, 10))
LOGS = 10_000
PEER_TEAMS = 8
DBT_ROWS = 100_000
LARGE = 10_000_000
TEAMS, DAYS = 1_000, 90
CHANGED_TEAMS = 20
VOLUME_DAYS = 15  # what the spike sensor compares


def run(_data: Path | None) -> str:
    """The section of docs/benchmarks.md."""
    scratch = Path(tempfile.mkdtemp(prefix="lipservice-scale-"))
    scratch.chmod(0o755)  # as root the server runs as another user, who must get in
    load = os.getloadavg()
    try:
        parts = [_backfills(scratch), _large(scratch), _many(scratch)]
    finally:
        shutil.rmtree(scratch)
    shown = f"The machine's load (1, 5, 15 minutes) was {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f} before"
    after = os.getloadavg()
    return "\n\n".join(["## Scale", f"{shown} and {after[0]:.1f}, {after[1]:.1f}, {after[2]:.1f} after.", *parts])


def _backfills(scratch: Path) -> str:
    rows, marts = [], ""
    for teams, days in BACKFILLS:
        home = scratch / f"{teams}x{days}"
        print(f"demo logs of {teams} teams × {days} days …")
        logs = work(f"{_HERE}:fill", str(home), teams, days).answer
        first = LAST - timedelta(days=days - 1)
        print("the backfill …")
        wide = _backfilled(home, f"1-{teams}", first, LAST)
        print(f"a run a partition, {PEER_TEAMS} of them …")
        peer = _backfilled(home, f"1-{PEER_TEAMS}", LAST, LAST, LIPSERVICE_BACKFILL_PARTITIONS_PER_RUN="1")
        rates = teams * days / wide.answer["runs_seconds"] * 60, PEER_TEAMS / peer.answer["runs_seconds"] * 60
        rows.append(
            [
                f"{teams} × {days}",
                f"{logs:,}",
                f"{wide.answer['runs']}",
                f"{wide.seconds:.0f}",
                f"{wide.answer['runs_seconds']:.0f}",
                f"{wide.answer['processor_seconds']:.0f}",
                f"{rates[0]:.0f}",
                f"{rates[1]:.1f}",
                f"{rates[0] / rates[1]:.1f}",
            ]
        )
        if not marts:
            print("the marts of what was made …")
            marts = _marts(home, first)
        shutil.rmtree(home)
    header = ["teams × days", "logs", "runs", "seconds", "of runs", "of processor"]
    header += ["partitions a minute", "a run each", "ratio"]
    return (
        f"Backfills of every asset through the daemon ({LOGS:,} logs a team-day). Seconds are those of the whole"
        " command, from the first look at PostgreSQL to the last tick of the daemon; of runs, from the first run's"
        f" launch to the last one's end. The peer, in the same stack, makes {PEER_TEAMS} with a run each:\n\n"
        + table(header, rows)
        + f"\n\n{marts}"
    )


def _marts(home: Path, first: date) -> str:
    with _environment(LIPSERVICE_HOME=str(home), LIPSERVICE_FIRST_DAY=str(LAST - timedelta(days=99))):
        made = work(f"{_HERE}:marts", str(first), str(LAST)).answer
    return (
        f"dbt's build of the marts of {DBT_ROWS:,} source rows and more (what the first backfill made, for as many"
        f" teams as it takes: {made['rows']:,} rows), with its tests: in"
        f" {made['seconds']:.1f} s, {made['processor_seconds']:.1f} s of processor without PostgreSQL's (a run of"
        " Dagster, dbt's start included)."
    )


def _backfilled(home: Path, teams: str, first: date, last: date, **environment: str) -> Measured:
    # Settings are the environment's, in the measured process as in the daemon that it starts.
    with _environment(LIPSERVICE_HOME=str(home), LIPSERVICE_FIRST_DAY=str(LAST - timedelta(days=99)), **environment):
        return work(f"{_HERE}:backfill", teams, str(first), str(last))


def _large(scratch: Path) -> str:
    print(f"a team-day of {LARGE:,} logs …")
    home = scratch / "large"
    work("benchmarks.signatures:fill_synthetic", LARGE, str(home / "log_store"))
    with _environment(LIPSERVICE_HOME=str(home), LIPSERVICE_FIRST_DAY="2026-08-01"):
        done = work(f"{_HERE}:whole_day")
    shutil.rmtree(home)
    return (
        f"One synthetic team-day of {LARGE:,} logs, from the log store to a policy and its release (all assets in one"
        f" run, in one process): {done.answer['seconds']:.1f} s, {done.answer['processor_seconds']:.1f} s of processor,"
        f" and {done.peak / 1e6:,.0f} MB at most in the process."
    )


def _many(scratch: Path) -> str:
    print(f"{TEAMS:,} teams × {DAYS} days of partitions …")
    home = scratch / "many"
    home.mkdir()
    with _environment(LIPSERVICE_HOME=str(home), LIPSERVICE_FIRST_DAY="", LIPSERVICE_HISTORY_DAYS=str(DAYS)):
        os.environ.pop("LIPSERVICE_FIRST_DAY")
        taken = [_seconds_of_loading() for _ in range(3)]
        load, used = (min(seconds) for seconds in zip(*taken, strict=True))
        told = work(f"{_HERE}:many").answer
    rows = [
        ["definitions load (the whole process, with its imports)", f"{load:.2f}", "2"],
        ["of which of processor", f"{used:.2f}", ""],
        *([f"a tick of {name}", f"{seconds:.2f}", "2"] for name, seconds in told["ticks"].items()),
        ["partitions page of an asset: the webserver's answer to its queries", f"{told['page']['then']:.2f}", "3"],
        ["the first time, when it counts what was made since", f"{told['page']['first']:.2f}", ""],
    ]
    return (
        f"{TEAMS:,} teams × {DAYS} days of partitions, all materialised ({told['rows']:,} entries of assets in"
        f" PostgreSQL, {told['buckets']:,} five-minute volumes in the embedded log store):\n\n"
        + table(["what", "seconds", "at most"], rows)
    )


def _seconds_of_loading() -> tuple[float, float]:
    """(seconds, seconds of processor) of a process that loads the code location."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from lipservice_dagster.definitions import defs; defs().get_repository_def()"
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values, LIPSERVICE_ADVISOR="rules")
    os.environ.pop("DAGSTER_HOME", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# What follows runs in processes of its own.


def fill(home: str, teams: int, days: int) -> int:
    """Demo logs; how many."""
    from lipservice_dagster.local import demo

    root = Path(home)
    return demo.fill(
        root,
        root / "log_store",
        teams=teams,
        days=days,
        until=LAST,
        logs_per_day=LOGS,
        seed=7,
        progress=lambda *_: None,
    )


def backfill(teams: str, first: str, last: str) -> dict[str, Any]:
    """`lipservice backfill` with these words, then what its runs took."""
    import dagster as dg

    from lipservice_dagster.commands import backfill as command
    from lipservice_dagster.local import backfills, stack
    from lipservice_dagster.settings import Settings

    settings = Settings()
    command.run(settings, teams, date.fromisoformat(first), date.fromisoformat(last), wait=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    with stack.dagster_home(settings), dg.DagsterInstance.get() as instance:
        newest = max(instance.get_backfills(), key=lambda b: b.backfill_timestamp)
        records = instance.get_run_records(dg.RunsFilter(tags={backfills.OF_BACKFILL: newest.backfill_id}))
        began, ended = (min(r.start_time or 0.0 for r in records), max(r.end_time or 0.0 for r in records))
    return {
        "runs": len(records),
        "runs_seconds": ended - began,
        "processor_seconds": sum(u.ru_utime + u.ru_stime for u in used),
    }


def marts(first: str, last: str) -> dict[str, float]:
    """The marts of these days in a run: how long dbt takes, and for how many rows."""
    import sqlalchemy as sa

    from lipservice_dagster.local.in_process import graph
    from lipservice_dagster.settings import Settings
    from lipservice_dagster.storage.tables import TEAM_DAY_TABLES

    sources = ("signatures", "anomalies", "policies", "backtests", "savings")
    count = " + ".join(f"(SELECT count(*) FROM {s} WHERE day BETWEEN '{first}' AND '{last}')" for s in sources)
    with graph(Settings()) as found:
        with found.database.engine.begin() as connection:
            made = rows = connection.execute(sa.text(f"SELECT {count}")).scalar_one()
            for copy in range(1, -(-DBT_ROWS // made)):
                for name in sources:
                    others = ", ".join(c.name for c in TEAM_DAY_TABLES[name].columns if c.name != "team_id")
                    connection.execute(
                        sa.text(
                            f"INSERT INTO {name} (team_id, {others}) SELECT team_id + {1000 * copy}, {others}"
                            f" FROM {name} WHERE team_id < 1000 AND day BETWEEN '{first}' AND '{last}'"
                        )
                    )
                rows += made
        start, used = time.perf_counter(), time.process_time()
        found.make_marts(date.fromisoformat(first), date.fromisoformat(last))
        seconds, used = time.perf_counter() - start, time.process_time() - used
    dbts = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"rows": rows, "seconds": seconds, "processor_seconds": used + dbts.ru_utime + dbts.ru_stime}


def whole_day() -> dict[str, float]:
    """All assets of the synthetic team-day."""
    from benchmarks.signatures import DAY, TEAM
    from lipservice_dagster.local.in_process import graph
    from lipservice_dagster.settings import Settings
    from lipservice_dagster.storage import releases

    with graph(Settings()) as found:
        start, used = time.perf_counter(), time.process_time()
        found.run(TEAM, DAY, DAY)
        seconds, used = time.perf_counter() - start, time.process_time() - used
        if not releases.in_force(found.database, TEAM):
            raise RuntimeError("the day released nothing")
    return {"seconds": seconds, "processor_seconds": used}


def many() -> dict[str, Any]:
    """Ticks and a page over many partitions that are all materialised."""
    import dagster as dg

    from lipservice_dagster.defs.discover_teams import Memory
    from lipservice_dagster.local import stack
    from lipservice_dagster.local.in_process import Graph
    from lipservice_dagster.partitions import TEAMS_NAME
    from lipservice_dagster.settings import Settings
    from lipservice_dagster.sources.clickhouse import connect

    settings = Settings()
    until = datetime.now(UTC).date()
    first = until - timedelta(days=DAYS - 1)
    with stack.dagster_home(settings) as (in_force, database), dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(TEAMS_NAME, [str(t) for t in range(1, TEAMS + 1)])
        rows = scale_dagster.fill_tables(database, in_force, first, TEAMS, DAYS)
        buckets = scale_ticks.fill(settings.embedded_logs, TEAMS, VOLUME_DAYS, until, spiking=0)
        found = Graph(in_force, database, instance)
        resources = {"log_source": connect(settings.logs_url()), "database": database}
        # At its first tick the sensor only notes the teams that there are.
        cursors = {"discover_teams": Memory(seen=tuple(instance.get_dynamic_partitions(TEAMS_NAME))).text()}
        ticks = {}
        for name in ("stale_reports", "discover_teams", "volume_spikes", "late_logs"):
            ticks[name], cursors[name] = scale_dagster.tick(found, name, resources, cursors.get(name))
        ticks["stale_reports (the first, which looks at all teams)"] = ticks.pop("stale_reports")
        scale_dagster.touch(database, until, CHANGED_TEAMS)
        named = f"stale_reports after a run over {CHANGED_TEAMS} teams"
        ticks[named], _ = scale_dagster.tick(found, "stale_reports", resources, cursors["stale_reports"])
        scale_dagster.fill_events(instance, found, first, TEAMS, DAYS)
        page = scale_dagster.page_seconds("raw_logs")
    return {
        "rows": rows,
        "buckets": buckets,
        "ticks": ticks,
        "page": page,
    }
