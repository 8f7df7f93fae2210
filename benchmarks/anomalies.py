"""Anomalies: ours beside plain rules at the same false alarms, stated and measured rates, reports, the demo, speed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.demo import series_of, tells_of
from benchmarks.detectors import RATES, Scored, rate_at, scores, threshold
from benchmarks.measure import table, work
from lipservice_dagster.core.anomalies import DetectorSettings, detect
from lipservice_dagster.core.anomalies_points import judge
from lipservice_dagster.core.series import KEYS, Series
from lipservice_dagster.local.demo_logs import incidents, team_ids

SEEDS = 20
MONDAY = date(2026, 3, 2)
_HERE = "benchmarks.anomalies"
_FACTORS = (2.0, 3.0, 5.0)
_STATED = (0.02, 0.05, 0.1, 0.2, 0.5)


def run(data: Path | None) -> str:
    """The section's Markdown."""
    parts = [
        "## Anomalies",
        "Every detector gives each point a score from the points before it, and has one threshold over all series, set"
        " so that it raises the same number of false alarms a series-day. An alarm is an unbroken run of flagged"
        " points; outside labelled windows and events put in it is a false one. An event is found where a point of it"
        " is flagged. Peers judge a point by the same time of the last 14 days, the last of them by the last day.",
    ]
    nab = data / "nab" if data is not None else None
    if nab is None or not nab.is_dir():
        parts.append("Real series were skipped: there is no folder `nab` in the data.")
    else:
        parts += [_labelled(nab), _put_in(nab)]
    parts += [_simulated(), _stated(), _sporadic(), _reports(), _demo(), _speed()]
    return "\n\n".join(parts)


# Real series


@dataclass(frozen=True)
class _Real:
    values: np.ndarray  # (D, n)
    days: list[date]
    windows: list[tuple[int, int]]  # of points, end exclusive

    @property
    def quiet(self) -> np.ndarray:
        """(T,): known points outside the windows, from the second day on."""
        flat = self.values.reshape(-1)
        quiet = ~np.isnan(flat)
        quiet[: self.values.shape[1]] = False
        for start, end in self.windows:
            quiet[start:end] = False
        return quiet


def _real(nab: Path, step: int) -> Iterator[_Real]:
    """The labelled series with a point every ``step`` seconds, a multiple of their own 300."""
    own = 300
    for name, labelled in json.loads((nab / "windows.json").read_text()).items():
        rows = pd.read_csv(nab / "data" / name, parse_dates=["timestamp"])
        start = rows["timestamp"].iloc[0].normalize()
        at = ((rows["timestamp"] - start).dt.total_seconds() // step).to_numpy(dtype=np.int64)
        n = 86_400 // step
        size = (int(at.max()) // n + 1) * n
        total, points = np.bincount(at, rows["value"], size), np.bincount(at, minlength=size)
        # A sum over most of an hour's points is drawn up to the whole hour; over fewer it is not known.
        share = points * own / step
        values = np.where(share >= 0.75, total / np.maximum(share, 1e-9), np.nan)
        days = [(start + pd.Timedelta(days=i)).date() for i in range(size // n)]
        spans = [[int((pd.Timestamp(t) - start).total_seconds() // step) for t in window] for window in labelled]
        yield _Real(values.reshape(-1, n), days, [(a, b + 1) for a, b in spans])


def _labelled(nab: Path) -> str:
    columns: dict[str, list[str]] = {}
    total = 0
    for step in (3_600, 300):
        print(f"labelled windows at {step} s …")
        series = list(_real(nab, step))
        total = sum(len(s.windows) for s in series)
        found = [scores(s.values[None], s.days) for s in series]
        for name in found[0]:
            parts = [Scored(f[name], s.quiet[None], s.values.shape[1]) for f, s in zip(found, series, strict=True)]
            for rate in RATES:
                least = threshold(parts, rate)
                hits = sum(
                    bool((f[name][0, a:b] >= least).any())
                    for f, s in zip(found, series, strict=True)
                    for a, b in s.windows
                )
                columns.setdefault(name, []).append(str(hits))
    header = ["detector", *(f"{step}, {rate} a day" for step in ("hourly", "5 minutes") for rate in RATES)]
    return (
        f"**Labelled windows found** of {total} in the six NAB count series, by false alarms a series-day:\n\n"
        + table(header, [[name, *cells] for name, cells in columns.items()])
    )


def _put_in(nab: Path) -> str:
    columns: dict[str, list[str]] = {}
    counts = []
    for step in (3_600, 300):
        print(f"events put into real series at {step} s …")
        found: dict[str, list[Scored]] = {}
        events: dict[str, list[bool]] = {}
        where: list[tuple[int, int, slice]] = []
        for i, real in enumerate(_real(nab, step)):
            values = np.repeat(real.values[None], SEEDS, axis=0)
            quiet = np.repeat(real.quiet[None], SEEDS, axis=0)
            for seed in range(SEEDS):
                rng = np.random.default_rng([seed, i])
                for hours in _places(rng, real):
                    flat, put = values[seed].reshape(-1), slice(*hours)
                    flat[put] = np.round(flat[put] * _factor(rng))
                    quiet[seed, put] = False
                    where.append((i, seed, put))
            for name, score in scores(values, real.days).items():
                found.setdefault(name, []).append(Scored(score, quiet, values.shape[2]))
        for name, parts in found.items():
            for rate in RATES:
                least = threshold(parts, rate)
                events[name] = [bool((parts[i].score[seed, put] >= least).any()) for i, seed, put in where]
                columns.setdefault(name, []).append(f"{np.mean(events[name]):.3f}")
        counts.append(f"{len(where):,}")
    header = ["detector", *(f"{step}, {rate} a day" for step in ("hourly", "5 minutes") for rate in RATES)]
    return (
        f"**Events put into the same series** ({' hourly and '.join(counts)} at 5 minutes, {SEEDS} seeds; 2, 3 or 5"
        " times as much or as little, 1 to 6 hours, outside labelled windows), share found:\n\n"
        + table(header, [[name, *cells] for name, cells in columns.items()])
    )


def _factor(rng: np.random.Generator) -> float:
    factor = float(rng.choice(_FACTORS))
    return factor if rng.random() < 2 / 3 else 1 / factor


def _places(rng: np.random.Generator, real: _Real) -> list[tuple[int, int]]:
    """One event every four days, from the eighth day on (fourth of a short series), each whole and in the quiet."""
    n = real.values.shape[1]
    free, places = real.quiet.copy(), []
    first = min(7, len(real.days) // 4)
    for day in range(first, len(real.days) - 3, 4):
        for _ in range(20):
            length = int(rng.integers(1, 7)) * n // 24
            start = int(rng.integers(day * n, (day + 3) * n))
            if free[max(start - n // 4, 0) : start + length + n // 4].all():
                free[start : start + length] = False
                places.append((start, start + length))
                break
    return places


# Series that come and go


def _bursts(share: float | np.ndarray, size: str) -> Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]:
    def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        logs = {
            "gamma": lambda: np.round(rng.gamma(0.5, 400, shape)),
            "poisson": lambda: rng.poisson(50, shape),
            "negative binomial": lambda: rng.poisson(20 * rng.gamma(0.1, 10, shape)),
            "log-normal": lambda: rng.poisson(20 * rng.lognormal(-1.125, 1.5, shape)),
        }[size]()
        counts: np.ndarray = logs * (rng.random(shape) < share).astype(float)
        return counts

    return drawn


SPORADIC = {
    "10% of hours active, gamma(½, 400)": _bursts(0.1, "gamma"),
    "30% of hours active, gamma(½, 400)": _bursts(0.3, "gamma"),
    "5% of hours active, Poisson(50)": _bursts(0.05, "poisson"),
    "negative binomial, mean 20, size 0.1": _bursts(1.0, "negative binomial"),
    "log-normal, mean 20, sd 1.5": _bursts(1.0, "log-normal"),
    "80% of hours from 8 to 18, gamma(½, 400)": _bursts(0.8 * ((np.arange(24) >= 8) & (np.arange(24) < 18)), "gamma"),
}
"""Counts of series in which nothing happens although they are anything but steady."""


def sporadic_report(name: str, seed: int, patterns: int = 20, days: int = 14) -> tuple[Series, date]:
    """Patterns of one of `SPORADIC` beside a busy one of the same service, and the day that is judged."""
    rng = np.random.default_rng([seed, list(SPORADIC).index(name)])
    shape = (days + 1, 24)
    mean = 3_000 * (1 + 0.6 * np.cos(np.arange(24) / 24 * 2 * np.pi)) * np.ones(shape)
    busy = _draw(rng, mean, np.array(20.0))
    counts = np.stack([busy, *(SPORADIC[name](rng, shape) for _ in range(patterns))])
    counts = np.concatenate([counts, counts.sum(axis=0, keepdims=True)])
    keys = [("s", "", "pattern", f"p{i:02}", f"pattern {i} of <*>") for i in range(patterns + 1)]
    frame = pd.DataFrame([*keys, ("s", "", "service", "", "")], columns=list(KEYS))
    window = tuple(MONDAY + timedelta(days=i) for i in range(days))
    return Series(frame, window, counts[:, -1].copy(), counts[:, :-1].copy()), MONDAY + timedelta(days=days)


def _sporadic() -> str:
    print("series that come and go …")
    rows, days = [], [MONDAY + timedelta(days=i) for i in range(28)]
    for i, (name, drawn) in enumerate(SPORADIC.items()):
        reports = []
        for level in (0.01, 0.05):
            told = []
            for seed in range(100):
                series, day = sporadic_report(name, seed)
                found = detect(series, team_id=1, day=day, settings=DetectorSettings(level))
                told.append((len(found) > 0, "high" in set(found["severity"])))
            reports += [f"{share:.2f}" for share in np.mean(told, axis=0)]
        values = drawn(np.random.default_rng([5, i]), (100, len(days), 24))
        score = judge(values, days).score[:, 14:].reshape(len(values), -1)
        part = Scored(score, np.ones(score.shape, dtype=bool), 24)
        points = [f"{rate_at([part], -np.log10(rate)):.3f}" for rate in (0.05, 0.5)]
        rows.append([name, *reports, *points])
    header = ["series", *(f"level {level}, {what}" for level in (0.01, 0.05) for what in ("any", "high"))]
    return (
        "**Series that come and go**, of which no hour is out of the ordinary: the share of 100 reports of 20 such"
        " patterns beside a busy one, after 14 days, that tell of anything; and point by point the alarms a series-day"
        " of 100 such series, from the 15th to the 28th day:\n\n"
        + table([*header, "points, stated 0.05", "points, stated 0.5"], rows)
    )


# Simulated series


@dataclass(frozen=True)
class Simulated:
    """S series of D days by hour: ``counts`` and ``mean`` (S, D, 24), negative binomial ``size`` (S,)."""

    counts: np.ndarray
    mean: np.ndarray
    size: np.ndarray
    days: list[date]


def simulate(seed: int, series: int, days: int, weekly: bool = True, first: date = MONDAY) -> Simulated:
    """Counts with daily and weekly rhythm: means 5 to 5,000 an hour, sizes 5 to 100 (variance = mean + mean²/size)."""
    rng = np.random.default_rng([seed, int(weekly)])
    level = np.exp(rng.uniform(np.log(5), np.log(5_000), (series, 1, 1)))
    size = np.exp(rng.uniform(np.log(5), np.log(100), series))
    hour = np.arange(24) / 24 * 2 * np.pi
    one, two = rng.uniform(0.2, 0.8, (series, 1, 1)), rng.uniform(0, 0.2, (series, 1, 1))
    shifts = rng.uniform(0, 2 * np.pi, (2, series, 1, 1))
    day = np.maximum(1 + one * np.cos(hour - shifts[0]) + two * np.cos(2 * hour - shifts[1]), 0.05)
    dates = [first + timedelta(days=i) for i in range(days)]
    week = np.ones((series, days, 1))
    if weekly:
        weekend = rng.uniform(0.3, 1.0, series)
        for i, d in enumerate(dates):
            of_day = (1.0, 1.03, 1.05, 1.02, 0.96, 1.0, 0.9)[d.weekday()]
            week[:, i, 0] = of_day * (weekend if d.weekday() >= 5 else 1.0)
    mean = level * day * week
    return Simulated(_draw(rng, mean, size[:, None, None]), mean, size, dates)


def _draw(rng: np.random.Generator, mean: np.ndarray, size: np.ndarray) -> np.ndarray:
    counts: np.ndarray = rng.poisson(mean * rng.gamma(np.broadcast_to(size, mean.shape), 1 / size)).astype(float)
    return counts


def _simulated() -> str:
    history, judged, each = 14, 14, 3
    clean: dict[str, list[Scored]] = {}
    peaks: dict[str, list[float]] = {}
    events = []
    for seed in range(SEEDS):
        print(f"simulated series, seed {seed} …", end="\r", flush=True)
        world = simulate(seed, 30, history + judged, first=MONDAY + timedelta(days=seed % 7))
        rng = np.random.default_rng([seed, 2])
        counts = world.counts.copy()
        put = []
        for s in range(len(counts)):
            flat, mean = counts[s].reshape(-1), world.mean[s].reshape(-1)
            edges = np.linspace(history * 24, len(flat), each + 1).astype(int)
            for a, b in pairwise(edges.tolist()):
                hours = int(rng.integers(1, 7))
                start = int(rng.integers(a + 2, b - hours - 2))
                factor = _factor(rng)
                span = slice(start, start + hours)
                flat[span] = _draw(rng, mean[span] * factor, world.size[s])
                put.append((s, span))
                events.append((max(factor, 1 / factor), hours, float(mean[span].mean())))
        found = scores(np.concatenate([world.counts, counts]), world.days)
        quiet = np.zeros((len(counts), counts[0].size), dtype=bool)
        quiet[:, history * 24 :] = True
        for name, score in found.items():
            clean.setdefault(name, []).append(Scored(score[: len(counts)], quiet, 24))
            peaks.setdefault(name, []).extend(float(score[len(counts) + s, span].max()) for s, span in put)
    clear = np.array([factor == 3 and hours >= 2 and mean >= 20 for factor, hours, mean in events])
    rows = []
    for name, parts in clean.items():
        row = [name]
        for rate in RATES:
            hit = np.array(peaks[name]) >= threshold(parts, rate)
            row += [f"{hit.mean():.3f}", f"{hit[clear].mean():.3f}"]
        rows.append(row)
    header = ["detector"]
    for rate in RATES:
        header += [f"all, {rate} a day", f"3×, ≥ 2 h, mean ≥ 20, {rate} a day"]
    return (
        f"**Simulated counts** ({SEEDS} seeds of 30 series; means 5 to 5,000 an hour, size 5 to 100, daily and weekly"
        f" rhythm; 14 days before the 14 judged; thresholds from the same series without events), share of"
        f" {len(events):,} events found, and of the {int(clear.sum())} clear ones:\n\n" + table(header, rows)
    )


def _stated() -> str:
    print("stated and measured false alarms …      ")
    rows = []
    for days, weekly in ((14, True), (6, False), (3, False), (2, False)):
        parts = []
        for seed in range(SEEDS):
            world = simulate(100 + seed, 400, days + 1, weekly, MONDAY + timedelta(days=seed % 7))
            score = judge(world.counts, world.days).score[:, -1]
            parts.append(Scored(score, np.ones(score.shape, dtype=bool), 24))
        rhythm = "daily and weekly rhythm" if weekly else "daily rhythm"
        measured = [f"{rate_at(parts, -np.log10(rate)):.3f}" for rate in _STATED]
        rows.append([f"{days} days, {rhythm}", *measured])
    return (
        f"**Stated and measured false alarms a day** on clean simulated series ({SEEDS} seeds of 400), the first day"
        " after the history:\n\n" + table(["history", *(f"stated {rate}" for rate in _STATED)], rows)
    )


# Reports


def _reports() -> str:
    print("reports of 5,000 clean series and 50 with an event …")
    rows = []
    for level in (0.01, 0.05, 0.1):
        for floors in (True, False):
            shares, power = [], []
            for seed in range(3):
                world, true = _report(seed)
                settings = DetectorSettings(level) if floors else DetectorSettings(level, 1.0 + 1e-9, 0.0)
                found = detect(world, team_id=1, day=MONDAY + timedelta(days=14), settings=settings)
                hit = found["service"].isin(true)
                shares.append(float((~hit).mean()) if len(found) else 0.0)
                power.append(found["service"][hit].nunique() / len(true))
            effect = "as by default" if floors else "none"
            rows.append([f"{level}", effect, f"{np.mean(shares):.3f}", f"{np.mean(power):.2f}"])
    return (
        "**Reports of 5,000 clean series and 50 with an event** (3 or 5 times as much or as little, 2 to 6 hours; 3"
        " seeds, 14 days of history):\n\n"
        + table(["level", "floors on the effect", "share of false ones", "events found"], rows)
    )


def _report(seed: int) -> tuple[Series, set[str]]:
    world = simulate(200 + seed, 5_050, 15)
    rng = np.random.default_rng(seed)
    counts = world.counts.copy()
    for s in range(50):
        hours = int(rng.integers(2, 7))
        start = int(rng.integers(0, 24 - hours))
        factor = float(rng.choice((3.0, 5.0)))
        factor = factor if rng.random() < 2 / 3 else 1 / factor
        span = slice(start, start + hours)
        counts[s, -1, span] = _draw(rng, world.mean[s, -1, span] * factor, world.size[s])
    names = [f"s{i:05d}" for i in range(len(counts))]
    keys = pd.DataFrame([(name, "", "service", "", "") for name in names], columns=list(KEYS))
    series = Series(keys, tuple(world.days[:-1]), counts[:, -1].copy(), counts[:, :-1].copy())
    return series, set(names[:50])


# The demo


def _demo() -> str:
    print(f"the demo's incidents in {SEEDS} seeds …")
    found: dict[str, list[bool]] = {}
    calm = []
    for seed in range(SEEDS):
        until = date(2026, 9, 10) + timedelta(days=seed)
        happened = [i for i in incidents(until, 15) if i.day == until]
        other_high = 0
        for team in team_ids():
            anomalies = detect(series_of(team, until, days=15, seed=seed), team_id=team, day=until)
            of_team = [i for i in happened if i.team_id == team]
            told = [[tells_of(row, i) for i in of_team] for row in anomalies.itertuples()]
            for n, incident in enumerate(of_team):
                hit = any(
                    row.kind == incident.kind and m[n] for row, m in zip(anomalies.itertuples(), told, strict=True)
                )
                found.setdefault(incident.kind, []).append(hit)
            other_high += sum(
                row.severity == "high" and not any(m) for row, m in zip(anomalies.itertuples(), told, strict=True)
            )
        calm.append(other_high == 0)
    rows = [[kind, f"{np.mean(hits):.2f}"] for kind, hits in found.items()]
    return (
        f"**The demo's incidents** ({SEEDS} seeds, three teams, 14 days of history, another weekday each), share found"
        f" by kind; nothing else is at high in {np.mean(calm):.0%} of the seeds:\n\n" + table(["kind", "found"], rows)
    )


# Speed


def _speed() -> str:
    print("50,000 pattern series …")
    measured = work(f"{_HERE}:detect_many", 50_000)
    return (
        f"**50,000 pattern series × 24 hours × 14 days** of one team-day: {measured.answer['seconds']:.1f} s, and"
        f" {measured.peak / 1e6:,.0f} MB at most in the process, {measured.answer['counts'] / 1e6:,.0f} MB of which are"
        " the counts."
    )


def detect_many(patterns: int) -> dict[str, float]:
    """Runs in a process of its own: seconds of `detect` over so many patterns of 50 services."""
    rng = np.random.default_rng(1)
    services = 50
    rhythm = 1 + 0.6 * np.cos(np.arange(24) / 24 * 2 * np.pi)
    level = np.exp(rng.normal(1.0, 2.0, (patterns, 1, 1)))
    counts = np.empty((patterns + services, 15, 24))
    counts[:patterns] = rng.poisson(level * rhythm * rng.gamma(20, 1 / 20, (patterns, 15, 24)))
    of = np.arange(patterns) % services
    for s in range(services):
        counts[patterns + s] = counts[:patterns][of == s].sum(axis=0)
    keys = [(f"s{of[i]:02d}", "prod", "pattern", f"p{i}", f"pattern {i} of <*>") for i in range(patterns)]
    keys += [(f"s{s:02d}", "prod", "service", "", "") for s in range(services)]
    day = MONDAY + timedelta(days=14)
    window = tuple(MONDAY + timedelta(days=i) for i in range(14))
    series = Series(pd.DataFrame(keys, columns=list(KEYS)), window, counts[:, -1], counts[:, :-1])
    start = time.perf_counter()
    detect(series, team_id=1, day=day)
    return {"seconds": time.perf_counter() - start, "counts": float(counts.nbytes)}
