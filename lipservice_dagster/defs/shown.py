"""What the UI shows of a partition: numbers, small tables, small pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Sequence
from html import escape

import dagster as dg
import numpy as np
import pandas as pd

from lipservice_dagster.core.anomalies_band import Band

_LONGEST_CELL = 400
_MARKS = re.compile(r"[!-/:-@\[-`{-~]")  # ASCII punctuation: a backslash before it makes it plain in CommonMark


def table(frame: pd.DataFrame, columns: Sequence[str], rows: int = 20) -> dg.TableMetadataValue:
    """The first rows of some columns; long text is cut, figures are rounded."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({c: _cell(v) for c, v in zip(columns, values, strict=True)})
            for values in frame.loc[:, list(columns)].head(rows).itertuples(index=False, name=None)
        ],
        schema=dg.TableSchema([dg.TableColumn(c, _kind(frame[c])) for c in columns]),
    )


def _kind(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "bool"
    if pd.api.types.is_integer_dtype(column):
        return "int"
    return "float" if pd.api.types.is_float_dtype(column) else "string"


def plain(text: str) -> str:
    """Text of others as Markdown that shows it as it is: on one line, with no sign that means something."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def _cell(value: object) -> str | int | float | bool | None:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), 4)
    text = str(value)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 220, 56, 28
_STEP = (_WIDTH - _LEFT - 8) / 24
_BAR, _OUTSTANDING, _BAND, _LINE = "#4f6df5", "#d9432f", "#f3d9a4", "#8a5a00"


def hourly(values: np.ndarray, title: str, unit: str = "logs") -> dg.MarkdownMetadataValue:
    """24 values as bars over the UTC hours of the day."""
    most = max(float(values.max()), 1.0) if len(values) else 1.0
    return dg.MetadataValue.md(_picture([*_frame(most, title), *_bars(values, most, unit)], title))


def against_expected(band: Band, evidence: Sequence[int], title: str) -> str:
    """A day's counts (bars; red in the hours of ``evidence``) over what was expected (line) and its band, as Markdown.

    The band is cut off where it would make the counts too small to see.
    """
    peak = max(np.nanmax(band.observed, initial=0.0), band.expected.max(), 1.0)
    most = 1.05 * max(peak, min(band.high.max(), 2 * peak))
    red = frozenset(evidence)
    parts = [
        *_frame(most, title, legend=True),
        _steps(band.low, band.high, most, f'fill="{_BAND}" fill-opacity="0.8"'),
        *_bars(band.observed, most, "logs", red, band),
        _steps(band.expected, None, most, f'fill="none" stroke="{_LINE}" stroke-width="2"'),
    ]
    known = int((~np.isnan(band.observed)).sum())
    if known < 24:
        x = _LEFT + (known + 24) / 2 * _STEP
        parts.append(f'<text x="{x:.1f}" y="{_TOP + 14}" text-anchor="middle" fill="#888">not read yet</text>')
    return _picture(parts, title)


def _y(value: float, most: float) -> float:
    return _TOP + _HEIGHT * (1 - min(value / most, 1.0))


def _frame(most: float, title: str, *, legend: bool = False) -> list[str]:
    """Background, title, lines at none, half and most, every third hour."""
    parts = [
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{_LEFT}" y="16" font-size="13">{escape(title)}</text>'
    ]
    for share in (0.0, 0.5, 1.0):
        y = _y(most * share, most)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(most * share)}</text>')
    for hour in range(0, 24, 3):
        x = _LEFT + (hour + 0.5) * _STEP
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{hour:02}</text>')
    if legend:
        told = ((_BAR, "observed"), (_OUTSTANDING, "anomalous"), (_LINE, "expected"), (_BAND, "usual range"))
        for i, (colour, text) in enumerate(told):
            x = _LEFT + i * 110
            y = _TOP + _HEIGHT + 26
            parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{x + 15}" y="{y + 9}">{text}</text>')
    return parts


def _bars(values: np.ndarray, most: float, unit: str, red: Collection[int] = (), band: Band | None = None) -> list[str]:
    parts = []
    for hour, value in enumerate(values):
        if np.isnan(value):
            continue
        y = _y(float(value), most)
        usual = ""
        if band is not None:
            usual = f", expected {_short(band.expected[hour])} ({_short(band.low[hour])} to {_short(band.high[hour])})"
        parts.append(
            f'<rect x="{_LEFT + hour * _STEP + 1.5:.1f}" y="{y:.1f}" width="{_STEP - 3:.1f}"'
            f' height="{_TOP + _HEIGHT - y:.1f}" fill="{_OUTSTANDING if hour in red else _BAR}">'
            f"<title>{hour:02}:00 {value:,.0f} {unit}{usual}</title></rect>"
        )
    return parts


def _steps(low: np.ndarray, high: np.ndarray | None, most: float, style: str) -> str:
    """A line of steps by hour, or the area between two."""

    def points(values: np.ndarray) -> list[str]:
        return [
            f"{_LEFT + (hour + end) * _STEP:.1f},{_y(float(value), most):.1f}"
            for hour, value in enumerate(values)
            for end in (0, 1)
        ]

    if high is None:
        return f'<polyline points="{" ".join(points(low))}" {style}/>'
    return f'<polygon points="{" ".join([*points(high), *reversed(points(low))])}" {style}/>'


def _picture(parts: Sequence[str], title: str) -> str:
    """The parts as an image in Markdown."""
    svg = "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT + _TOP + 40}"'
            ' font-family="sans-serif" font-size="11" fill="#444">',
            *parts,
            "</svg>",
        ]
    )
    return f"![{plain(title)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _short(value: float) -> str:
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"
