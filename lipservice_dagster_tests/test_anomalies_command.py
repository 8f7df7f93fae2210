"""`lipservice anomalies` as a person runs it, in this process."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lipservice_dagster.cli import cli

START = datetime(2026, 3, 2)


def series(days: int = 21, spike: int | None = 400) -> list[tuple[str, str]]:
    values = np.random.default_rng(1).poisson(100, days * 24)
    if spike is not None:
        values[spike] = 700
    return [((START + timedelta(hours=i)).isoformat(sep=" "), str(v)) for i, v in enumerate(values)]


def text(rows: list[tuple[str, str]], header: str = "timestamp,value") -> str:
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def run(stdin: str, *options: str) -> Result:
    return CliRunner().invoke(cli, ["anomalies", *options, "-"], input=stdin)


def rows_of(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_flagged_points_are_printed_as_they_are_in_the_file():
    rows = series()
    result = run(text(rows), "--false-alarms", "0.001")
    found = rows_of(result)
    assert result.stdout.splitlines()[0] == "timestamp,value,expected,p_value,score"
    assert [(r["timestamp"], r["value"]) for r in found] == [rows[400]]
    assert float(found[0]["expected"]) == pytest.approx(100, rel=0.2)
    assert float(found[0]["p_value"]) < 1e-5
    assert float(found[0]["score"]) > 2
    assert "504 points, one every hour" in result.stderr
    assert "Flagged: 1 points" in result.stderr


def test_all_prints_every_point_and_leaves_blank_what_was_only_learnt_from():
    rows = series()
    found = rows_of(run(text(rows), "--all"))
    assert [(r["timestamp"], r["value"]) for r in found] == rows
    assert found[5]["score"] == found[5]["p_value"] == found[5]["expected"] == ""
    assert all(float(r["score"]) < 3 for i, r in enumerate(found) if r["score"] and i != 400)


def test_more_false_alarms_flag_more():
    few, many = (len(rows_of(run(text(series()), "--false-alarms", rate))) for rate in ("0.01", "3"))
    assert few < many


def test_a_file_with_gaps_other_columns_and_empty_values(tmp_path: Path):
    rows = [(*row, "x") for i, row in enumerate(series()) if not 100 <= i < 110]
    rows[50] = (rows[50][0], "", "x")
    path = tmp_path / "counts.csv"
    path.write_text("\ufeff" + "\n".join(["value,host,timestamp", *(f"{v},{h},{t}Z" for t, v, h in rows)]))
    result = CliRunner().invoke(cli, ["anomalies", "--false-alarms", "0.001", str(path)])
    assert len(rows_of(result)) == 1
    assert "Missing: 10 (10 after 2026-03-06 03:00:00Z)" in result.stderr
    assert "Without a value: 1" in result.stderr


def test_a_short_file_is_learnt_from():
    result = run(text(series(days=1, spike=None)))
    assert rows_of(result) == []
    assert "Still learning" in result.stderr


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("", "there is no column timestamp and no column value; it is empty"),
        ("time,value\n1,2\n", "there is no column timestamp; its first line has time, value"),
        (text([*series()[:3], ("yesterday", "4")]), "line 5: 'yesterday' is no time"),
        (text([*series()[:3], ("2026-03-02 03:00:00", "four")]), "line 5: the value 'four' is no number"),
        (text([*series()[:3], ("2026-03-02 03:00:00", "-4")]), "line 5: the value -4 is no count"),
        (text([*series()[:3], ("2026-03-02 03:00:00", "nan")]), "line 5: the value nan is no count"),
        (text([*series()[:3], ("2026-03-02 02:00:00", "4")]), "line 5: its timestamp is not after"),
        (text([*series()[:4], ("2026-03-02 03:30:00", "4")]), "line 6: it comes 1,800 s after"),
        (text(series()[:3]) + "2026-03-02 03:00:00\n", "line 5: 1 of 2 columns"),
        (text(series()[:2]), "2 points are too few"),
        (text([*series()[:3], ("2126-03-02 03:00:00", "4")]), "line 5: it comes 36,524 days after"),
        (text([*series()[:3], ("2026-03-02 03:00:00", "1e300")]), "line 5: the value 1e300 is too large"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(stdin, message):
    result = run(stdin)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in result.stderr


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    result = CliRunner().invoke(cli, ["anomalies", str(tmp_path / "none.csv")])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


@pytest.mark.parametrize("minutes", [22, 35, 55, 100, 7 * 60, 11 * 60, 20 * 60])
def test_a_step_that_does_not_divide_a_day_is_judged_with_its_rhythm(minutes):
    at = [START + timedelta(minutes=minutes * i) for i in range((18 if minutes < 120 else 60) * 1440 // minutes)]
    hour = np.array([t.hour + t.minute / 60 for t in at])
    values = np.random.default_rng(3).poisson(200 * (1 + 0.6 * np.cos(hour / 24 * 2 * np.pi)))
    values[-5] *= 4
    found = rows_of(run(text([(t.isoformat(), str(v)) for t, v in zip(at, values, strict=True)]), "--all"))
    judged = [float(row["score"]) for row in found if row["score"]]
    assert len(judged) > len(found) / 2
    assert float(found[-5]["score"]) == max(judged) > 2


def test_a_series_coarser_than_a_day_is_told_by_the_point_not_by_the_day():
    values = np.random.default_rng(2).poisson(30, 60)
    monthly = [((START + timedelta(days=30 * i)).isoformat(), str(v)) for i, v in enumerate(values)]
    told = run(text(monthly)).stderr
    judged = int(told.split("Judged: ")[1].split(",")[0])
    assert f"{0.05 * judged:,.2g} alarms were to be expected (0.05 a point)" in told


def test_a_plain_rule_flags_what_is_far_from_its_mean():
    rows = series()
    by_ratio = rows_of(run(text(rows), "--detector", "ratio"))
    (spike,) = [r for r in by_ratio if r["timestamp"] == rows[400][0]]
    assert float(spike["expected"]) == pytest.approx(100, rel=0.1)
    assert float(spike["score"]) == pytest.approx(700 / float(spike["expected"]), abs=0.01)
    assert spike["p_value"] == ""
    assert all(float(r["score"]) >= 2 for r in by_ratio)
    result = run(text(rows), "--detector", "zscore")
    by_z = rows_of(result)
    (spike,) = [r for r in by_z if r["timestamp"] == rows[400][0]]
    assert float(spike["p_value"]) < 1e-6
    assert all(float(r["score"]) >= 3 for r in by_z)
    assert "zscore rule" in result.stderr


def test_a_plain_rule_judges_from_the_second_day_on_and_has_no_rate_of_false_alarms():
    rows = series(days=2, spike=30)
    found = rows_of(run(text(rows), "--detector", "ratio", "--all"))
    assert [r["score"] == "" for r in found] == [i < 24 for i in range(48)]
    assert [i for i, r in enumerate(found) if r["score"] and float(r["score"]) >= 2] == [30]
    refused = run(text(rows), "--detector", "ratio", "--false-alarms", "0.5")
    assert refused.exit_code == 2
    assert "--false-alarms" in refused.stderr
