"""``lipservice anomalies``: what is out of the ordinary in one series of counts."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click
import numpy as np

from lipservice_dagster.core.anomalies_grid import DAY_SECONDS, IrregularSeriesError, SeriesGrid, grid
from lipservice_dagster.core.anomalies_points import LEAST_POINTS, judge
from lipservice_dagster.core.anomalies_rules import RATIOS, Z_SCORES, judge_by_ratio, judge_by_zscore

MOST = 2.0**53
"""Greatest value that is read: beyond it not every whole number is a float of its own."""

COLUMNS = ("timestamp", "value", "expected", "p_value", "score")
_SHOWN_GAPS = 5
_RULES = {"ratio": (judge_by_ratio, RATIOS[0]), "zscore": (judge_by_zscore, Z_SCORES[0])}


@dataclass(frozen=True)
class _Rows:
    """The points of a file as they are written, in order, with the line each stands on."""

    timestamps: list[str]
    written: list[str]
    lines: list[int]
    seconds: np.ndarray
    values: np.ndarray


def run(path: Path, false_alarms: float, everything: bool, detector: str = "predictive") -> None:
    """Judge the series of ``path`` (``-``: standard input) and print what is flagged, or every point, as CSV.

    ``false_alarms`` is read for the predictive detector alone; the plain rules have limits of their own.

    Raises ClickException for what cannot be read, with the line it stands on.
    """
    name = "standard input" if str(path) == "-" else str(path)
    if str(path) == "-":
        rows = _read(sys.stdin, name)
    else:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = _read(file, name)
        except UnicodeDecodeError as error:
            raise click.ClickException(f"{name} is not UTF-8: {error}") from error
    try:
        on_grid = grid(rows.seconds, rows.values)
    except IrregularSeriesError as error:
        where = f", line {rows.lines[error.index]}" if len(rows.lines) > error.index else ""
        raise click.ClickException(f"{name}{where}: {error}") from error
    if detector == "predictive":
        found, limit = judge(on_grid.values[None], on_grid.days), -math.log10(false_alarms)
    else:
        by_rule, limit = _RULES[detector]
        found = by_rule(on_grid.values[None])
    score, p_value, expected = (x[0].reshape(-1)[on_grid.at] for x in (found.score, found.p_value, found.expected))
    flagged = score >= limit
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS)
    for i in range(len(score)) if everything else np.flatnonzero(flagged).tolist():
        p = "" if np.isnan(p_value[i]) else f"{p_value[i]:.3g}"
        judged = [""] * 3 if score[i] == -math.inf else [f"{expected[i]:.6g}", p, f"{score[i]:.3f}"]
        out.writerow([rows.timestamps[i], rows.written[i], *judged])
    for line in _told(rows, on_grid, score, int(flagged.sum()), false_alarms, detector):
        click.echo(line, err=True)


def _read(file: TextIO, name: str) -> _Rows:
    reader = csv.reader(file)
    header = [column.strip() for column in next(reader, [])]
    missing = [column for column in ("timestamp", "value") if column not in header]
    if missing:
        had = f"its first line has {', '.join(header)}" if any(header) else "it is empty"
        raise click.ClickException(f"{name}: there is no column {' and no column '.join(missing)}; {had}")
    at, value_at = header.index("timestamp"), header.index("value")
    rows = _Rows([], [], [], np.zeros(0), np.zeros(0))
    seconds, values = [], []
    for row in reader:
        if not row:
            continue
        if len(row) <= max(at, value_at):
            raise click.ClickException(f"{name}, line {reader.line_num}: {len(row)} of {len(header)} columns")
        rows.timestamps.append(row[at])
        rows.written.append(row[value_at])
        rows.lines.append(reader.line_num)
        seconds.append(_seconds(row[at], f"{name}, line {reader.line_num}"))
        values.append(_value(row[value_at], f"{name}, line {reader.line_num}"))
    return _Rows(rows.timestamps, rows.written, rows.lines, np.array(seconds), np.array(values, dtype=float))


def _seconds(text: str, where: str) -> float:
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.ClickException(
            f"{where}: {text!r} is no time; times read 2026-09-10T14:05:00Z or 2026-09-10 14:05:00 (then UTC)"
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _value(text: str, where: str) -> float:
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise click.ClickException(f"{where}: the value {text!r} is no number") from None
    if not 0 <= value < math.inf:
        raise click.ClickException(f"{where}: the value {text} is no count; counts are 0 or more")
    if value > MOST:
        raise click.ClickException(
            f"{where}: the value {text} is too large to be told from the next; at most {MOST:.0f}"
        )
    return value


def _told(
    rows: _Rows, on_grid: SeriesGrid, score: np.ndarray, flagged: int, false_alarms: float, detector: str
) -> Iterator[str]:
    judged = np.flatnonzero(score > -math.inf)
    yield f"{len(score):,} points, one every {_duration(on_grid.step)}."
    if on_grid.gaps:
        missing = sum(points for _, points in on_grid.gaps)
        places = [f"{points:,} after {rows.timestamps[i]}" for i, points in on_grid.gaps[:_SHOWN_GAPS]]
        more = f", and {len(on_grid.gaps) - _SHOWN_GAPS} more gaps" if len(on_grid.gaps) > _SHOWN_GAPS else ""
        yield f"Missing: {missing:,} ({'; '.join(places)}{more}). They count as not known, never as 0."
    empty = int(np.isnan(rows.values).sum())
    if empty:
        yield f"Without a value: {empty:,}; not known either."
    if not len(judged):
        least = f", and at least {LEAST_POINTS}" if detector == "predictive" else ""
        yield f"Still learning: judging takes a day of points{least}."
        return
    if detector != "predictive":
        limit = _RULES[detector][1]
        yield (
            f"Judged: {len(judged):,}, from {rows.timestamps[judged[0]]} on, each by the {detector} rule, which knows"
            f" no rate of false alarms. Flagged: {flagged:,} points, from {limit:g} on."
        )
        return
    # A step of more than a day is judged as a day is: a point cannot raise more than one alarm.
    days = len(judged) * min(on_grid.step / DAY_SECONDS, 1.0)
    unit = "point" if on_grid.step > DAY_SECONDS else "day"
    yield (
        f"Judged: {len(judged):,}, from {rows.timestamps[judged[0]]} on. Flagged: {flagged:,} points. If nothing were "
        f"out of the ordinary, {false_alarms * days:,.2g} alarms were to be expected ({false_alarms:g} a {unit})."
    )


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            n = round(seconds / unit)
            return name if n == 1 else f"{n} {name}s"
    return f"{seconds:g} seconds"
