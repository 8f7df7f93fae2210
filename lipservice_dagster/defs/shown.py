"""What the UI shows of a partition: numbers, small tables, small pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Sequence
from html import escape

import dagster as dg
import numpy as np
import pandas as pd

from lipservice_dagster.core.anomalies_band import COVERAGE, Band

_LONGEST_CELL = 400
_MARKS = re.compile(r"[!-/:-@\[-`{-~]")  # ASCII punctuation: a backslash before it makes it plain in CommonMark
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


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


def visible(text: str) -> str:
    """Text of others on one line, in which every character can be seen.

    Control characters, which XML does not allow, become their pictures (``␛``); the others that it does not allow, and
    those that turn the direction of what is around them, ``�``.
    """
    return _UNSEEN.sub(_picture_of, " ".join(text.split()))


def _picture_of(found: re.Match[str]) -> str:
    code = ord(found.group())
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def plain(text: str) -> str:
    """Text of others as Markdown that shows it as it is: `visible`, with no sign that means something."""
    return _MARKS.sub(r"\\\g<0>", visible(text))


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


def _svg(text: str) -> str:
    """Text of others inside of a picture's element."""
    return escape(visible(text))


_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 220, 56, 28
_STEP = (_WIDTH - _LEFT - 8) / 24
_BAR, _OUTSTANDING, _BAND, _EDGE, _LINE = "#4f6df5", "#d9432f", "#f3d9a4", "#d8a849", "#8a5a00"


def hourly(values: np.ndarray, title: str, unit: str = "logs") -> dg.MarkdownMetadataValue:
    """24 values as bars over the UTC hours of the day."""
    most, lines = _scale(float(values.max()) if len(values) else 0.0)
    return dg.MetadataValue.md(_picture([*_frame(most, lines, title), *_bars(values, most), _unit(unit)], title))


def against_expected(band: Band, evidence: Sequence[int], title: str) -> str:
    """A day's counts (bars; red in the hours of ``evidence``) over what was expected (line) and its band, as Markdown.

    The band is cut off where it would make the counts too small to see.
    """
    peak = max(np.nanmax(band.observed, initial=0.0), band.expected.max())
    most, lines = _scale(max(peak, min(band.high.max(), 2 * peak)))
    red = frozenset(evidence)
    parts = [
        *_frame(most, lines, title, red),
        _steps(band.low, band.high, most, f'fill="{_BAND}" fill-opacity="0.8"'),
        *_bars(band.observed, most, red),
        *(_steps(edge, None, most, f'fill="none" stroke="{_EDGE}"') for edge in (band.low, band.high)),
        _steps(band.expected, None, most, f'fill="none" stroke="{_LINE}" stroke-width="2"'),
        *_legend(),
    ]
    known = int((~np.isnan(band.observed)).sum())
    if known < 24:
        x = _LEFT + (known + 24) / 2 * _STEP
        parts.append(f'<text x="{x:.1f}" y="{_TOP + 14}" text-anchor="middle" fill="#888">not read yet</text>')
    return _picture(parts, title)


def _scale(greatest: float) -> tuple[float, list[float]]:
    """(the top of the axis, its lines): round figures, at most five steps."""
    step = 10.0 ** np.floor(np.log10(max(greatest, 1.0)))
    step *= next(s for s in (0.2, 0.5, 1.0, 2.0) if greatest <= 5 * s * step)
    lines = np.arange(max(int(np.ceil(greatest / step)), 1) + 1) * step
    return float(lines[-1]), lines.tolist()


def _y(value: float, most: float) -> float:
    return _TOP + _HEIGHT * (1 - min(value / most, 1.0))


def _frame(most: float, lines: Sequence[float], title: str, red: Collection[int] = ()) -> list[str]:
    """Background, title, lines with their figures, every third hour; the hours in ``red`` lie on red ground."""
    parts = [
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{_LEFT}" y="16" font-size="13">{_svg(title)}</text>'
    ]
    for hour in sorted(red):
        x = _LEFT + hour * _STEP
        parts.append(f'<rect x="{x:.1f}" y="{_TOP}" width="{_STEP + 0.1:.1f}" height="{_HEIGHT}" fill="#fbe3df"/>')
    for value in lines:
        y = _y(value, most)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for hour in range(0, 24, 3):
        x = _LEFT + (hour + 0.5) * _STEP
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{hour:02}</text>')
    return parts


def _unit(unit: str) -> str:
    return f'<text x="{_WIDTH - 8}" y="{_TOP + _HEIGHT + 35}" text-anchor="end">{unit} per hour (UTC)</text>'


def _legend() -> list[str]:
    told = ((_BAR, "observed"), (_OUTSTANDING, "anomalous"), (_LINE, "expected"), (_BAND, f"{COVERAGE:.0%} of hours"))
    y = _TOP + _HEIGHT + 26
    parts = [_unit("logs")]
    for i, (colour, text) in enumerate(told):
        x = _LEFT + i * 110
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="{y + 9}">{text}</text>')
    return parts


def _bars(values: np.ndarray, most: float, red: Collection[int] = ()) -> list[str]:
    """One shape for all bars of a colour: pictures are stored with every materialisation, so they are kept small."""
    drawn: dict[str, list[str]] = {}
    for hour, value in enumerate(values):
        if value > 0:
            y, wide = _y(float(value), most), _STEP - 3
            bar = f"M{_LEFT + hour * _STEP + 1.5:.1f} {_TOP + _HEIGHT}V{y:.1f}h{wide:.1f}V{_TOP + _HEIGHT}z"
            drawn.setdefault(_OUTSTANDING if hour in red else _BAR, []).append(bar)
    return [f'<path fill="{colour}" d="{"".join(bars)}"/>' for colour, bars in drawn.items()]


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


def _picture(parts: Sequence[str], title: str, height: int = _HEIGHT + _TOP + 40) -> str:
    """The parts as an image in Markdown."""
    svg = "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
            ' font-family="sans-serif" font-size="11" fill="#444">',
            *parts,
            "</svg>",
        ]
    )
    return f"![{plain(title)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


_STATES = {"passed": "#4f6df5", "failed": "#d9433b", "learning": "#b8bfcc"}


def shares(
    names: Sequence[str], values: Sequence[float], states: Sequence[str], title: str
) -> dg.MarkdownMetadataValue:
    """A share in [0, 1] of each name as a bar, coloured by its state (passed, failed, learning); the first 30."""
    row, left, top = 20, 220, 48
    parts = [
        f'<rect width="100%" height="100%" fill="#fff"/><text x="8" y="16" font-size="13">{_svg(title)}</text>',
    ]
    for i, (state, colour) in enumerate(_STATES.items()):
        parts.append(f'<rect x="{8 + 90 * i}" y="25" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{22 + 90 * i}" y="34">{state}</text>')
    for i, (name, share, state) in enumerate(list(zip(names, values, states, strict=True))[:30]):
        y, long = top + row * i, (_WIDTH - left - 50) * min(max(share, 0.0), 1.0)
        shown_name = name if len(name) <= 34 else name[:33] + "…"
        parts.append(f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{_svg(shown_name)}</text>')
        parts.append(
            f'<rect x="{left}" y="{y + 2}" width="{long:.1f}" height="{row - 5}" fill="{_STATES[state]}">'
            f"<title>{_svg(name)}: {share:.1%}, {state}</title></rect>"
            f'<text x="{left + long + 5:.1f}" y="{y + 13}">{share:.0%}</text>'
        )
    return dg.MetadataValue.md(_picture(parts, title, top + row * min(len(names), 30) + 8))


def _short(value: float) -> str:
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"
