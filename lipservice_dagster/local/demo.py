"""The demo's logs in the embedded log store, and which teams are the demo's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from lipservice_dagster.local.demo_logs import generate, team_ids
from lipservice_dagster.local.log_store import LogStoreError, LogWriter

_OWNED = "demo_teams.json"


def owned_teams(home: Path) -> set[int]:
    """The teams of this home whose logs are the demo's."""
    path = home / _OWNED
    return set(json.loads(path.read_text())) if path.exists() else set()


def fill(
    home: Path,
    store: Path,
    *,
    teams: int,
    days: int,
    until: date,
    logs_per_day: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> int:
    """Write the demo teams' days in place of what the demo wrote before; returns how many logs.

    ``progress`` gets the team-days done and the logs so far. Raises LogStoreError where a demo team has logs that the
    demo did not write: they would be lost.
    """
    wanted = team_ids(teams)
    owned = owned_teams(home)
    for team_id in wanted:
        if team_id not in owned and any((store / "logs" / f"team_id={team_id}").glob("day=*/*.parquet")):
            raise LogStoreError(
                f"Team {team_id} has logs in {store} that the demo did not write, and the demo would replace them:"
                f" give the demo a home of its own, LIPSERVICE_HOME={home.parent / '.lipservice-demo'} make demo"
            )
    home.mkdir(parents=True, exist_ok=True)
    aside = home / f"{_OWNED}.new"
    aside.write_text(json.dumps(sorted(owned | set(wanted))))
    aside.replace(home / _OWNED)
    done = logs = 0
    with LogWriter(store, replace=True) as writer:
        for team_id in wanted:
            for back in reversed(range(days)):
                table = generate(
                    team_id,
                    until - timedelta(days=back),
                    until=until,
                    days=days,
                    teams=teams,
                    seed=seed,
                    logs_per_day=logs_per_day,
                )
                writer.add(team_id, table)
                done, logs = done + 1, logs + table.num_rows
                progress(done, logs)
    return logs
