"""What the UI shows of a partition: numbers, small tables, small pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import dagster as dg
import numpy as np
import pandas as pd

_LONGEST_CELL = 400


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


def hourly(values: np.ndarray, title: str, unit: str = "logs") -> dg.MarkdownMetadataValue:
    """24 values as bars over the UTC hours of the day."""
    width, height, left, top = 720, 220, 56, 28
    most = max(float(values.max()), 1.0) if len(values) else 1.0
    step = (width - left - 8) / 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + top + 24}"'
        ' font-family="sans-serif" font-size="11" fill="#444">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{left}" y="16" font-size="13">{escape(title)}</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = top + height * (1 - share)
        parts.append(f'<line x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(most * share)}</text>')
    for hour, value in enumerate(values):
        tall = height * float(value) / most
        x = left + hour * step
        parts.append(
            f'<rect x="{x + 1.5:.1f}" y="{top + height - tall:.1f}" width="{step - 3:.1f}" height="{tall:.1f}"'
            f' fill="#4f6df5"><title>{hour:02}:00 {value:,.0f} {unit}</title></rect>'
        )
        if hour % 3 == 0:
            parts.append(f'<text x="{x + step / 2:.1f}" y="{top + height + 16}" text-anchor="middle">{hour:02}</text>')
    parts.append("</svg>")
    return _picture(parts, title)


_STATES = {"passed": "#4f6df5", "failed": "#d9433b", "learning": "#b8bfcc"}


def bars(names: Sequence[str], shares: Sequence[float], states: Sequence[str], title: str) -> dg.MarkdownMetadataValue:
    """A share in [0, 1] of each name as a bar, coloured by its state (passed, failed, learning); the first 30."""
    width, row, left, top = 720, 20, 220, 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + row * min(len(names), 30) + 8}"'
        ' font-family="sans-serif" font-size="11" fill="#444">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="8" y="16" font-size="13">{escape(title)}</text>',
    ]
    for i, (state, colour) in enumerate(_STATES.items()):
        parts.append(f'<rect x="{8 + 90 * i}" y="25" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{22 + 90 * i}" y="34">{state}</text>')
    for i, (name, share, state) in enumerate(list(zip(names, shares, states, strict=True))[:30]):
        y, long = top + row * i, (width - left - 50) * min(max(share, 0.0), 1.0)
        shown_name = name if len(name) <= 34 else name[:33] + "…"
        parts.append(f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{escape(shown_name)}</text>')
        parts.append(
            f'<rect x="{left}" y="{y + 2}" width="{long:.1f}" height="{row - 5}" fill="{_STATES[state]}">'
            f"<title>{escape(name)}: {share:.1%}, {state}</title></rect>"
            f'<text x="{left + long + 5:.1f}" y="{y + 13}">{share:.0%}</text>'
        )
    parts.append("</svg>")
    return _picture(parts, title)


def _picture(parts: Sequence[str], title: str) -> dg.MarkdownMetadataValue:
    picture = base64.b64encode("".join(parts).encode()).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{picture})")


def _short(value: float) -> str:
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"
