"""`lipservice backfill`: any teams × any days through Dagster's daemon, with progress."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from datetime import date
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lipservice_dagster.commands.findings import console as standard_console
from lipservice_dagster.core.backfill import shown_teams, teams_of
from lipservice_dagster.local import backfills, daemon
from lipservice_dagster.local.backfills import Wanted
from lipservice_dagster.local.in_process import Graph, RunError, graph
from lipservice_dagster.partitions import TEAMS_NAME
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.connect import source_of
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.source_requests import take

_LOOK_SECONDS = 1.0


def run(settings: Settings, teams: str, first: date, last: date, *, wait: bool) -> None:
    """Ask for the backfill, or go on with it, and show its progress until it has ended.

    Raises RunError where days are no partitions, no team is known, or runs failed.
    """
    embedded = "DAGSTER_HOME" not in os.environ
    console = standard_console()
    with graph(settings) as found:
        found.require_partitions(first, last)
        wanted = Wanted(tuple(_teams(teams, found, first, last)), first, last)
        backfill_id, part = backfills.ask(
            found.definitions,
            found.instance,
            wanted,
            most=settings.backfill_partitions_per_run,
            parallel=settings.concurrent_runs,
        )
        console.print(f"backfill {backfill_id}: every asset of {part}", highlight=False)
        if part != wanted:
            console.print(f"Others were made before; left are teams {shown_teams(part.teams)}", highlight=False)
        if not wait:
            console.print(
                "The daemon makes it (`lipservice dev`); the same command without --no-wait shows how far it is"
            )
            return
        others = partial(daemon.runs, settings, found.instance, embedded=embedded)
        ended = None
        while ended is None:  # a daemon that others ran has ended: one of our own goes on with it
            with daemon.running(settings, found.instance, embedded=embedded, say=console.print) as own:
                try:
                    ended = _follow(found, backfill_id, own, console, others)
                except KeyboardInterrupt:
                    console.print(_AFTER_STOP if own else _AFTER_LEAVING, highlight=False)
                    raise
        kept = materializations.kept(found.database, part.teams, first, last)
        if kept:
            console.print(
                f"{len(kept)} partitions keep what is stored, for their logs are leaving the log store, or have:"
            )
            console.print(*(f"  {at}" for at in kept[:_MOST_SHOWN]), sep="\n", highlight=False)
        if not ended.succeeded:
            failed = "\n".join(backfills.failures(found.instance, backfill_id)) or "its page in the UI says why"
            raise RunError(
                f"Backfill {backfill_id} ended as {ended.status.lower().replace('_', ' ')}, with"
                f" {ended.done:,} of {ended.total:,} partitions made.\n{failed}\nThe same command makes what is left"
            )
        console.print(f"all {ended.total:,} partitions are made")


_MOST_SHOWN = 20
_AFTER_STOP = "\nStopped. The next `lipservice dev`, or the same command, goes on with it"
_AFTER_LEAVING = "\nIt goes on in the daemon: the same command shows how far it is, the UI (Runs, Backfills) cancels it"


def _teams(text: str, found: Graph, first: date, last: date) -> list[int]:
    known = {int(t) for t in found.instance.get_dynamic_partitions(TEAMS_NAME)}
    if text.strip() == "all":
        wanted = sorted(t for t in known if found.settings.takes(t))
        if not wanted:
            raise RunError("No team is known yet: name them, --teams 1,4-6")
        return wanted
    wanted = teams_of(text)
    if denied := [t for t in wanted if not found.settings.takes(t)]:
        raise RunError(
            f"The settings leave out teams {shown_teams(denied)}: see LIPSERVICE_TEAMS and LIPSERVICE_TEAMS_DENIED"
        )
    if new := set(wanted) - known:
        source = source_of(found.settings, budget=partial(take, found.database))
        silent = new - {at.team_id for at in source.day_volumes(first, last)}
        if silent:
            raise RunError(
                f"Nobody knows teams {shown_teams(silent)}, and the log store holds nothing of them from {first} to"
                f" {last}: are their numbers right?"
            )
    return wanted


def _follow(
    found: Graph, backfill_id: str, own: subprocess.Popen[bytes] | None, console: Console, others: Callable[[], bool]
) -> backfills.Progress | None:
    """Show the progress until the backfill has ended; None where the daemon of others has ended before it.

    ``others``: whether some daemon runs.
    """
    columns = (TextColumn("partitions of assets"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as shown:
        bar = shown.add_task("waiting for the daemon", total=None)
        while True:
            now = backfills.progress(found.instance, found.database, found.definitions, backfill_id)
            runs = ", ".join(f"{n} {status.lower()}" for status, n in sorted(now.runs.items()))
            shown.update(bar, completed=now.done, total=now.total, description=f"runs: {runs or 'not begun'}")
            if now.ended:
                return now
            if own is not None and own.poll() is not None:
                raise RunError(f"The Dagster daemon ended with exit code {own.returncode}: see its log")
            if own is None and not others():
                return None
            time.sleep(_LOOK_SECONDS)
