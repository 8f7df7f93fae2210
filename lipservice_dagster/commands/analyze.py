"""`lipservice analyze`: what somebody's own log files hold, and what a policy would save of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from lipservice_dagster.commands.terminal import console as standard_console
from lipservice_dagster.commands.terminal import line
from lipservice_dagster.core import frames
from lipservice_dagster.core.budget import DAYS_A_MONTH, GB
from lipservice_dagster.core.policy import Policy
from lipservice_dagster.ingest.files import notes, shown
from lipservice_dagster.local.analysis import Analysis, analyse
from lipservice_dagster.local.interrupts import interruptible
from lipservice_dagster.settings import Settings

_MOST_SERVICES = 15
_MOST_PATTERNS = 15
_MOST_ANOMALIES = 12
_MOST_POLICIES = 5
_MOST_RATES = 8
_FEW_A_DAY = 1_000
_COLOURS = {"high": "bold red", "medium": "yellow", "low": "dim"}


def run(
    settings: Settings,
    files: Sequence[Path],
    service: str | None,
    environment: str,
    day: date | None,
    year: int | None,
    as_json: bool,
) -> None:
    """Analyse and print what was found."""
    piped = not files or list(files) == [Path("-")]
    if piped and sys.stdin.isatty():
        raise click.UsageError("name the files to analyse, or pipe logs in")
    with interruptible(), Console(stderr=True).status("reading and analysing …"):
        found = analyse(
            sys.stdin.buffer if piped else files,
            settings,
            service=service,
            environment=environment,
            day=day,
            year=year,
            now=datetime.now(UTC),
        )
    if as_json:
        click.echo(json.dumps(document(found, settings.price_per_gb), indent=2, ensure_ascii=False))
        return
    print_analysis(standard_console(), found, settings.price_per_gb)


def document(found: Analysis, price_per_gb: float) -> dict[str, Any]:
    """An analysis as JSON: times in ISO 8601, logs and bytes of the whole span; savings of an average day."""
    summary = found.summary
    total, kept = found.savings()
    return {
        "lines": {
            "read": summary.read,
            "logs": summary.stored,
            "joined": summary.joined,
            "blank": summary.blank,
            "unreadable": {reason: lines.lines for reason, lines in summary.unreadable.items()},
            "bytes": summary.bytes,
            "without_time": summary.without_timestamp,
            "without_severity": summary.without_severity,
        },
        "left_out": [shown(name) for name in summary.left_out]
        + [shown(known.name) for known in summary.known if known.whole],
        "span": {
            "first": found.first.isoformat(),
            "last": found.last.isoformat(),
            "days": [day.isoformat() for day in found.days],
            "years_assumed": sorted(set(summary.years)),
        },
        "severities": dict(found.severities()),
        "services": _records(found.services()),
        "patterns": [
            record | {"severities": dict(zip(frames.SEVERITIES, map(int, severities), strict=True))}
            for record, severities in zip(
                _records(found.patterns.drop(columns=["team_id", "day", "hours", "severities"])),
                found.patterns["severities"],
                strict=True,
            )
        ],
        "families": len(found.families),
        "anomalies": {
            "judged": [day.isoformat() for day in found.judged],
            "found": _records(found.anomalies.drop(columns="team_id").assign(day=found.anomalies["day"].map(str))),
        },
        "savings": {
            "bytes_a_day": round(total),
            "kept_bytes_a_day": round(kept),
            "share": round(1 - kept / total, 4) if total else 0.0,
            "saved_a_month": round((total - kept) / GB * DAYS_A_MONTH * price_per_gb, 2),
            "price_per_gb": price_per_gb,
        },
        "policies": [policy.model_dump(mode="json") for policy in found.policies],
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", date_format="iso", date_unit="us"))
    return records


def print_analysis(console: Console, found: Analysis, price_per_gb: float) -> None:
    """Print an analysis for people."""
    summary = found.summary
    for text, style in notes(summary):
        console.print(text, style=style, markup=False, highlight=False)
    days = len(found.days)
    a_day = f", {summary.stored / days:,.0f} on an average one" if days > 1 else ""
    console.print(
        f"[bold]{summary.stored:,}[/bold] logs from [bold]{found.first:%Y-%m-%d %H:%M:%S}[/bold] to"
        f" [bold]{found.last:%Y-%m-%d %H:%M:%S}[/bold] UTC, on {days:,} {_plural('day', days)}{a_day}",
        highlight=False,
    )
    severities = ", ".join(f"{severity} {logs:,}" for severity, logs in found.severities().items())
    console.print(f"severities: {severities}", highlight=False)
    console.print(_services(found))
    console.print(
        f"[bold]{len(found.patterns):,}[/bold] patterns in {len(found.families):,} families; the most frequent:",
        highlight=False,
    )
    console.print(_patterns(found, console.width - 50))
    _print_anomalies(console, found)
    _print_policies(console, found, price_per_gb)


def _services(found: Analysis) -> Table:
    services = found.services()
    table = Table("service", header_style="bold")
    if environments := bool((services["environment"] != "").any()):
        table.add_column("environment")
    for name in ("logs", "MB", "errors", "patterns"):
        table.add_column(name, justify="right")
    table.add_column("first (UTC)", no_wrap=True)
    table.add_column("last (UTC)", no_wrap=True)
    for row in services.head(_MOST_SERVICES).itertuples(index=False):
        table.add_row(
            line(row.service, 40) or "(none)",
            *([line(row.environment, 20)] if environments else []),
            f"{row.logs:,}",
            f"{row.bytes / 1e6:,.2f}",
            f"{row.errors:,}",
            f"{row.patterns:,}",
            f"{row.first_seen:%Y-%m-%d %H:%M:%S}",
            f"{row.last_seen:%Y-%m-%d %H:%M:%S}",
        )
    if (rest := services.iloc[_MOST_SERVICES:]).size:
        sums = (f"{rest['logs'].sum():,}", f"{rest['bytes'].sum() / 1e6:,.2f}", f"{rest['errors'].sum():,}")
        table.add_row(f"… {len(rest):,} more", *([""] if environments else []), *sums)
    return table


def _patterns(found: Analysis, longest: int) -> Table:
    table = Table("share", "logs", "service", "severity", "pattern", header_style="bold")
    table.columns[0].justify = table.columns[1].justify = "right"
    logs = found.summary.stored
    for row in found.patterns.head(_MOST_PATTERNS).itertuples(index=False):
        severity = frames.SEVERITIES[max(range(len(frames.SEVERITIES)), key=lambda rank: row.severities[rank])]
        table.add_row(
            f"{row.logs / logs:.1%}", f"{row.logs:,}", line(row.service, 16), severity, line(row.template, longest)
        )
    return table


def _print_anomalies(console: Console, found: Analysis) -> None:
    if not found.judged:
        console.print(
            "anomalies: nothing was judged; a day takes at least three days of logs before it", highlight=False
        )
        return
    anomalies = found.anomalies
    judged = f"{found.judged[0]} to {found.judged[-1]}" if len(found.judged) > 1 else f"{found.judged[0]}"
    console.print(f"[bold]{len(anomalies)}[/bold] anomalies on {judged}, against the days before", highlight=False)
    rank = anomalies["severity"].map({"high": 0, "medium": 1, "low": 2})
    ordered = anomalies.assign(rank=rank).sort_values(["rank", "p_value", "day", "service", "start_hour"])
    for row in ordered.head(_MOST_ANOMALIES).itertuples():
        console.print(
            f"  {row.day} [{_COLOURS[row.severity]}]{row.severity:<6}[/] {row.kind:<16} {line(row.explanation, 400)}",
            highlight=False,
        )
    if (more := len(anomalies) - _MOST_ANOMALIES) > 0:
        console.print(f"  … and {more} more")


def _print_policies(console: Console, found: Analysis, price_per_gb: float) -> None:
    total, kept = found.savings()
    saved = (total - kept) / GB * DAYS_A_MONTH
    console.rule("[bold]the policy that would be[/bold]")
    policies = sorted(found.policies, key=lambda p: (-p.expected.bytes, p.service, p.environment))
    for policy in policies[:_MOST_POLICIES]:
        _print_policy(console, policy)
    if (more := len(policies) - _MOST_POLICIES) > 0:
        console.print(f"… and {more:,} smaller services")
    console.print(
        f"It would save [bold]{1 - kept / total if total else 0:.0%}[/bold] of the bytes: on an average day"
        f" {(total - kept) / 1e6:,.2f} of {total / 1e6:,.2f} MB, {saved * price_per_gb:,.2f} a month at {price_per_gb}"
        " a GB. Errors are kept whole, and what is rare on a day",
        highlight=False,
    )
    if len(found.days) > 1 and found.summary.stored < _FEW_A_DAY * len(found.days):
        console.print(
            f"Of so few logs a day hardly any can be spared; --day {found.days[-1]} takes all of them as of one day",
            highlight=False,
        )


def _print_policy(console: Console, policy: Policy) -> None:
    expected = policy.expected
    name = line(policy.service, 40) or "(no service)"
    console.print(
        f"[bold]{name}[/bold]: {expected.kept_logs:,.0f} of {expected.logs:,.0f} logs of an average day are kept,"
        f" [bold]{1 - expected.share:.0%}[/bold] of the bytes saved",
        highlight=False,
    )
    console.print(policy.reasoning, style="dim", markup=False, highlight=False)
    sampled = sorted((p for p in policy.pattern_rates if p.rate < 1), key=lambda p: (p.rate, p.template))
    for pattern in sampled[:_MOST_RATES]:
        console.print(f"  {pattern.rate:>7.3g}  {line(pattern.template, console.width - 12)}", highlight=False)
    if (more := len(sampled) - _MOST_RATES) > 0:
        console.print(f"  … and {more:,} more patterns that are sampled")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
