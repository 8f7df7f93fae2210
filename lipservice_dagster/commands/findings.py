"""What a team-day holds, for people: logs, patterns, anomalies, policies and what they would save."""

from __future__ import annotations

from datetime import date

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lipservice_dagster.commands.terminal import console, line
from lipservice_dagster.core.frames import HOURS
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import materializations
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import read

__all__ = ["console", "line", "print_day"]

_MOST_ANOMALIES = 12
_MOST_PATTERNS = 8
_COLOURS = {"high": "bold red", "medium": "yellow", "low": "dim"}


def print_day(console: Console, database: Database, settings: Settings, team_id: int, day: date) -> None:
    """Print what was found on a team-day."""
    at = TeamDay(team_id, day)
    patterns = read(database, "signatures", [at])
    families = read(database, "clusters", [at], ["size"])
    console.rule(f"[bold]{escape(settings.team_name(team_id))}[/bold], {day}")
    _problem(console, database, at)
    logs, octets = int(patterns["logs"].sum()), int(patterns["bytes"].sum())
    console.print(
        f"[bold]{logs:,}[/bold] logs ({octets / 1e6:,.1f} MB) of {patterns['service'].nunique()} services are"
        f" [bold]{patterns['signature'].nunique():,}[/bold] patterns in {len(families):,} families"
    )
    if not patterns.empty:
        console.print(_patterns(patterns, logs, console.width - 36))
    _print_anomalies(console, database, at)
    _print_policies(console, database, settings, at)
    _print_backtests(console, database, at)


def _problem(console: Console, database: Database, at: TeamDay) -> None:
    entry = materializations.of(database, "raw_logs", [at]).get(at)
    if entry is not None and entry.problem:
        console.print(f"[bold red]This day keeps its old content:[/] {escape(entry.problem)}")


def _patterns(patterns: pd.DataFrame, logs: int, longest: int) -> Table:
    table = Table(header_style="bold", title="most frequent patterns", title_justify="left")
    table.add_column("share", justify="right", no_wrap=True, min_width=6)
    table.add_column("service", max_width=22)
    table.add_column("pattern")
    for row in patterns.sort_values(["logs", "template"], ascending=[False, True]).head(_MOST_PATTERNS).itertuples():
        table.add_row(f"{row.logs / logs:.1%}", line(row.service, 22) or "(none)", line(row.template, longest))
    return table


def _print_anomalies(console: Console, database: Database, at: TeamDay) -> None:
    report = read(database, "anomaly_reports", [at])
    anomalies = read(database, "anomalies", [at])
    if report.empty:
        console.print("no anomaly report yet")
        return
    hours = int(report["hours"].iloc[0])
    read_until = "" if hours == HOURS else f"; the day is open and was read until {hours:02}:00 UTC"
    if report["learning"].iloc[0] and not report["series"].iloc[0]:
        console.print(f"anomalies: still learning ({report['window_days'].iloc[0]} days of history){read_until}")
        return
    rank = anomalies["severity"].map({"high": 0, "medium": 1, "low": 2})
    anomalies = anomalies.assign(rank=rank).sort_values(["rank", "p_value", "service", "start_hour"])
    counted = "anomaly" if len(anomalies) == 1 else "anomalies"
    console.print(
        f"[bold]{len(anomalies)}[/bold] {counted} against {report['window_days'].iloc[0]} days before,"
        f" {report['high'].iloc[0]} of them high{read_until}"
    )
    for row in anomalies.head(_MOST_ANOMALIES).itertuples():
        colour = _COLOURS[row.severity]
        console.print(f"  [{colour}]{row.severity:<6}[/] {row.kind:<17} {escape(row.explanation)}", highlight=False)
    if (more := len(anomalies) - _MOST_ANOMALIES) > 0:
        console.print(f"  … and {more} more")


def _print_policies(console: Console, database: Database, settings: Settings, at: TeamDay) -> None:
    rows = read(database, "policies", [at], ["service", "environment", "version", "bytes", "kept_bytes"])
    total, kept = float(rows["bytes"].sum()), float(rows["kept_bytes"].sum())
    if not total:
        return
    saved = (total - kept) / 1e9
    console.print(
        f"[bold]{len(rows)}[/bold] policies would save [bold]{1 - kept / total:.0%}[/bold] of the bytes:"
        f" {saved:,.3f} GB a day, {saved * 30 * settings.price_per_gb:,.2f} a month at {settings.price_per_gb} a GB"
    )


def _print_backtests(console: Console, database: Database, at: TeamDay) -> None:
    rows = read(database, "backtests", [at], ["service", "environment", "passed", "learning", "why"])
    if rows.empty:
        return
    failed = rows[~rows["passed"] & ~rows["learning"]]
    console.print(
        f"backtests: [bold]{int(rows['passed'].sum())}[/bold] services pass the gate, {len(failed)} fail,"
        f" {int(rows['learning'].sum())} have too few days yet"
    )
    for row in failed.itertuples(index=False):
        name = " ".join(filter(None, (row.service, row.environment)))
        console.print(f"  {line(name) or '(none)'}: {line(row.why, 400)}", highlight=False)
