"""What the UI shows: pictures that are SVG, text of others that stays text, a description for every column."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import date, timedelta
from xml.etree import ElementTree

import dagster as dg
import numpy as np
import pytest

from lipservice_dagster.core.anomalies_band import Band
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.anomaly_reports import KINDS, state
from lipservice_dagster.defs.team_day_asset import column_schema
from lipservice_dagster.local.demo_logs import generate
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.storage.tables import TEAM_DAY_TABLES
from lipservice_dagster_tests.defs.conftest import World

LAST = date(2026, 9, 10)
SVG = "{http://www.w3.org/2000/svg}"


def svgs(markdown: str) -> list[ElementTree.Element]:
    found = re.findall(r"\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return [ElementTree.fromstring(base64.b64decode(f)) for f in found]  # noqa: S314 - it is our own


def band(observed: np.ndarray, expected: float = 100.0) -> Band:
    mean = np.full(24, expected)
    return Band(observed, mean, mean * 0.8, mean * 1.2)


def bars(svg: ElementTree.Element) -> dict[str, list[tuple[int, float]]]:
    """(hour, top edge) of each bar, by colour."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in svg.iter(f"{SVG}path"):
        edges = re.findall(r"M([\d.]+) [\d.]+V([\d.]+)h", path.get("d", ""))
        found[path.get("fill", "")] = [(int((float(x) - 56) / 27.3), float(y)) for x, y in edges]
    return found


def test_a_plot_has_a_bar_an_hour_red_where_the_evidence_lies_and_none_for_hours_to_come() -> None:
    observed = np.r_[np.full(4, 90.0), 400.0, 500.0, np.full(6, 95.0), np.full(12, np.nan)]
    (svg,) = svgs(shown.against_expected(band(observed), [4, 5], "rate spike: <b>shop</b> & co"))
    usual, outstanding = bars(svg).values()
    assert [hour for hour, _ in usual] == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert [hour for hour, _ in outstanding] == [4, 5]
    assert outstanding[1][1] < outstanding[0][1] < min(y for _, y in usual)
    texts = [t.text for t in svg.iter(f"{SVG}text")]
    assert "rate spike: <b>shop</b> & co" in texts
    assert "not read yet" in texts
    assert {"0", "100", "500"} <= set(texts)


@pytest.mark.parametrize("value", [0.0, 0.4, 3e9])
def test_a_plot_of_nothing_expected_or_of_very_much_stays_within_its_frame(value: float) -> None:
    wide = Band(np.full(24, value), np.zeros(24), np.zeros(24), np.full(24, 1e12))
    (svg,) = svgs(shown.against_expected(wide, range(24), "new pattern"))
    height = float(svg.get("height", 0))
    shape = svg.find(f"{SVG}polygon")
    assert shape is not None
    ys = [float(p.split(",")[1]) for p in shape.get("points", "").split()]
    assert 0 <= min(ys) <= max(ys) <= height
    assert all(0 <= y <= height for drawn in bars(svg).values() for _, y in drawn)


def test_text_of_others_means_nothing_in_markdown() -> None:
    hostile = "![x](http://evil/?) <script> `code`\n# head *bold*"
    told = shown.plain(hostile)
    assert "\n" not in told
    assert re.findall(r"(?<!\\)[\[\]()<>`#*!_]", told) == []
    assert told.replace("\\", "") == " ".join(hostile.split())


@pytest.mark.parametrize(
    "sign", ["\x00", "\x07", "\x08", "\x1b[31m", "\x7f", "\x85 \x9f", "\u202e", "\udc80", "\ufffe", "\uffff"]
)
def test_a_control_character_in_a_name_is_shown_and_the_picture_stays_well_formed(sign: str) -> None:
    title = f"new pattern: shop{sign}, “{sign} ding <*>”"
    pictures = [
        shown.against_expected(band(np.ones(24)), [3], title),
        shown.hourly(np.ones(24), title).value,
        shown.shares([f"shop{sign}"], [0.5], ["passed"], title).value,
    ]
    for text in pictures:
        (svg,) = svgs(str(text))
        told = [e.text or "" for e in svg.iter() if "shop" in (e.text or "")]
        assert told
        assert all(any(c in t for c in "\ufffd␀␇␈␛␡") for t in told)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc80\ufffe\uffff]", "".join(map(str, pictures)))


def test_every_column_that_the_ui_shows_says_what_it_is() -> None:
    for table in [*TEAM_DAY_TABLES, "releases"]:
        assert [c.name for c in column_schema(table).columns if not c.description] == []


def test_a_report_says_what_it_judged_and_what_it_did_not() -> None:
    whole = {"hours": 24, "window_days": 14, "learning": False, "series": 1200}
    assert state(whole) == "1,200 series judged against 14 days of logs before."
    assert "until 13:00 UTC" in state(whole | {"hours": 13})
    learning = state(whole | {"learning": True, "window_days": 1, "series": 0})
    assert "Learning" in learning
    assert "1 day of logs" in learning
    by_rule = state(whole | {"learning": True, "window_days": 2}, "ratio")
    assert "Learning" in by_rule
    assert "1,200 series" in by_rule
    assert "plain rule “ratio”" in by_rule


def test_a_day_with_an_incident_shows_it_against_what_was_expected(world: Callable[..., World]) -> None:
    found = world()
    days = 6
    with LogWriter(found.store) as writer:
        for back in range(days):
            writer.add(1, generate(1, LAST - timedelta(days=back), until=LAST, days=days, teams=1, logs_per_day=3000))
    found.run(1, LAST - timedelta(days=days - 1), LAST)
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("anomaly_reports"), asset_partitions=[f"{LAST}|1"])
    told = found.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert told is not None
    metadata = told.metadata
    pictures = svgs(str(metadata["observed_and_expected"].value))
    assert 1 <= len(pictures) <= 6
    assert any(bars(p) for p in pictures)
    assert all(p.find(f"{SVG}polygon") is not None for p in pictures)
    counts = {kind: metadata[kind].value for kind in KINDS}
    assert sum(counts.values()) == metadata["dagster/partition_row_count"].value  # type: ignore[arg-type]
    assert counts["rate_spike"] >= 1  # type: ignore[operator]
    assert "judged against 5 days" in str(metadata["state"].value)
