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
    picture = base64.b64encode("".join(parts).encode()).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{picture})")


def _short(value: float) -> str:
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"
