"""Policies: ours beside uniform, severity-only and dynsampler's rates, at equal kept bytes of days not seen before."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import bisect, linprog

from benchmarks.measure import table
from benchmarks.samplers import (
    OURS,
    PEERS,
    PROCESSES,
    SCOPE,
    STAMP,
    TRACED,
    Day,
    Kept,
    Logs,
    Rates,
    counts_before,
    day_of,
    logs_of,
    ours,
    pattern_of,
    peers,
    policies,
    thin,
)
from lipservice_dagster.advisors import rules
from lipservice_dagster.core import frames
from lipservice_dagster.core.backtest import found_again
from lipservice_dagster.core.clustering import cluster
from lipservice_dagster.core.policy import Policy
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.signatures import signatures_of
from lipservice_dagster.ingest import ingest
from lipservice_dagster.local.demo_logs import generate, team_ids
from lipservice_dagster.local.log_store import LogWriter
from lipservice_dagster.partitions import Bounds, TeamDay
from lipservice_dagster.sources.clickhouse import embedded

SHARES = (0.1, 0.2)
LOGS = 300_000
UNTIL, DAYS, JUDGED = date(2026, 9, 10), 13, 6
EVENTS, ROUNDS = 12, 2
DYNAMIC = PEERS[-1]
OURS_ALONE, DYNAMIC_EVEN = f"{OURS}'s rates, drawn one by one", f"{DYNAMIC}'s rates, drawn evenly"
NAMES = (OURS, *PEERS, OURS_ALONE, DYNAMIC_EVEN)
OTHER_PROCESSES = (1, 16)
ONE = timedelta(days=1)
LEAST_SHARE = 0.01


def run(data: Path | None) -> str:
    """The section's Markdown."""
    parts = [
        "## Policies",
        "Rates made without a day are applied to its logs. Ours are the policies of the day before, judged by rules,"
        " without a ramp, of a team that has a budget for its services together. The peers' rates are scaled on the day"
        " itself to the bytes that ours keeps of the team's day: one rate for all; debug 0.05, info 0.2, warn 0.5 and"
        " errors whole; and dynsampler's, whose goal for a pattern in an hour goes with the logarithm of its moving"
        " average (weight 0.5) of the hours before, what is new being kept whole. A log that is drawn costs"
        f" {STAMP} octets more, by which it tells its rate, whoever drew it.",
        "Each draws as it does in the field. The peers draw each log by itself, here by the hash of its key, the same"
        " for all. Ours draws a log that carries a trace by that hash too, standing for the trace's, and the logs of a"
        f" pattern at a severity without one evenly, with the sampler's own code, in each of {PROCESSES} processes of a"
        " service and environment by itself; a log is written by one of them at random. What comes of the rates and"
        " what of the draws is told apart by two more rows: our rates drawn one by one, and dynsampler's drawn evenly"
        " (a pattern's logs without a trace in each process). Standard errors are those of each one's draw.",
        *_demo(),
    ]
    loghub = data / "loghub" if data is not None else None
    parts.append("Real logs were skipped: no data folder was given." if loghub is None else _real(loghub))
    return "\n\n".join(parts)


# Figures


def figures(at: Day, kept: Kept) -> dict[str, float]:
    """Bytes, errors and patterns, seen and kept, and the day's anomalies that are found on the rebuilt counts."""
    stored, seen = kept.stored.sum(axis=1), at.raw["weighted_logs"].to_numpy(float)
    errors = at.raw["severity"].isin(frames.ERROR_SEVERITIES).to_numpy()
    pattern = at.pattern
    left = at.raw.assign(logs=stored, weighted_logs=kept.rebuilt.sum(axis=1), hours=list(kept.rebuilt))[stored > 0]
    found = {"anomalies": 0.0, "found": 0.0, "added": 0.0}
    if at.series is not None:
        scopes = at.raw[["team_id", "day", *SCOPE]].drop_duplicates()
        again = found_again(scopes, left, at.series, at.members, at.signatures, at.anomalies)
        named = ("anomalies", "anomalies_found", "anomalies_added")
        found = {k: float(again[n].sum()) for k, n in zip(found, named, strict=True)}
    return {
        "bytes": float(seen @ at.bytes_per_log),
        "kept_bytes": float(stored @ at.bytes_per_log + kept.stamped.sum() * STAMP),
        "errors": float(seen[errors].sum()),
        "kept_errors": float(stored[errors].sum()),
        "patterns": float(len(at.signatures)),
        "kept_patterns": float(len(set(pattern[stored > 0]))),
        **found,
    }


def errors_of(at: Day, kept: Kept) -> np.ndarray:
    """(patterns,): relative error of each pattern's rebuilt count."""
    rebuilt, seen = np.zeros(len(at.signatures)), at.signatures["weighted_logs"].to_numpy(float)
    np.add.at(rebuilt, at.pattern, kept.rebuilt.sum(axis=1))
    relative: np.ndarray = np.abs(rebuilt - seen) / seen
    return relative


def standard_errors(at: Day, rates: Rates, processes: int = PROCESSES) -> np.ndarray:
    """(patterns,): relative standard error of each pattern's rebuilt count."""
    variance = np.zeros(len(at.signatures))
    np.add.at(variance, at.pattern, rates.variance(frames.hours_matrix(at.raw), at.traced, processes))
    relative: np.ndarray = np.sqrt(variance) / at.signatures["weighted_logs"].to_numpy(float)
    return relative


def sampled(at: Day, rates: Rates) -> np.ndarray:
    """(patterns,): whether some log of it is kept with a rate below 1."""
    hours = frames.hours_matrix(at.raw)
    below = ((rates.rate < 1) & (hours > rates.first)).any(axis=1)
    found = np.zeros(len(at.signatures), dtype=bool)
    np.logical_or.at(found, at.pattern, below)
    return found


@dataclass
class Tally:
    """What one sampler did at one share over all days, a day after the other; ``errors`` and ``drawn`` by pattern."""

    figures: list[dict[str, float]] = field(default_factory=list)
    errors: list[np.ndarray] = field(default_factory=list)
    drawn: list[np.ndarray] = field(default_factory=list)

    def sum(self, name: str) -> float:
        """Of a figure over all days."""
        return sum(f[name] for f in self.figures)

    def share(self, part: str, whole: str) -> str:
        """Of all days together, for people."""
        return f"{self.sum(part) / self.sum(whole):.1%}" if self.sum(whole) else ""


@dataclass
class Comparison:
    """All samplers at one share of the bytes; the lists hold (patterns,) a day."""

    tallies: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in NAMES})
    counts: list[np.ndarray] = field(default_factory=list)
    worth: list[np.ndarray] = field(default_factory=list)
    sampled: list[np.ndarray] = field(default_factory=list)
    all_bytes: list[np.ndarray] = field(default_factory=list)
    kept_bytes: list[np.ndarray] = field(default_factory=list)
    days: list[str] = field(default_factory=list)
    traced: list[np.ndarray] = field(default_factory=list)
    by_processes: dict[int, list[np.ndarray]] = field(default_factory=lambda: {n: [] for n in OTHER_PROCESSES})

    def add(self, at: Day, made: dict[tuple[str, str], Policy], logs: Logs) -> None:
        """One day by the policies of the day before."""
        mine = ours(at, made)
        worth = {j.signature: j.worth for j in rules.advise(at.signatures, cluster(at.signatures))}
        before = counts_before(at)
        samplers = {OURS: mine, **peers(at, before, mine)}
        samplers |= {
            OURS_ALONE: replace(mine, stream=None),
            DYNAMIC_EVEN: replace(samplers[DYNAMIC], stream=at.pattern),
        }
        self.counts.append(at.signatures["weighted_logs"].to_numpy(float))
        self.worth.append(np.array([worth[s] for s in at.signatures["signature"]]))
        self.sampled.append(sampled(at, mine))
        for name, rates in samplers.items():
            kept, tally = thin(at, logs, rates), self.tallies[name]
            tally.figures.append(figures(at, kept))
            tally.errors.append(standard_errors(at, rates))
            tally.drawn.append(errors_of(at, kept))
        spent, hours = np.zeros(len(at.signatures)), frames.hours_matrix(at.raw)
        np.add.at(spent, at.pattern, mine.bytes(hours, at.bytes_per_log).sum(axis=1))
        self.kept_bytes.append(spent)
        stamps = STAMP * at.signatures["weighted_logs"].to_numpy(float)
        self.all_bytes.append(at.signatures["weighted_bytes"].to_numpy(float) + stamps)
        self.days.append(f"{at.team_id} {at.day} {len(self.days)}")
        named = at.signatures["service"]
        self.traced.append(np.array([TRACED.get(service, 0.0) for service in named]))
        for n, errors in self.by_processes.items():
            errors.append(standard_errors(at, ours(at, made, n), n))

    def _of_sampled(self, of_days: list[np.ndarray]) -> np.ndarray:
        """What belongs to the patterns that ours samples."""
        found: np.ndarray = np.concatenate(of_days)[np.concatenate(self.sampled)]
        return found

    def _ordered(self, of_sampled: np.ndarray) -> list[np.ndarray]:
        """The same in tenths by the count of the pattern."""
        order = np.argsort(self._of_sampled(self.counts), kind="stable")
        return np.array_split(of_sampled[order], 10)

    def by_decile(self, errors: list[np.ndarray]) -> np.ndarray:
        """(10,): the median of these errors, by decile of count of the patterns that ours samples."""
        return np.array([np.median(part) for part in self._ordered(self._of_sampled(errors))])

    def apart(self, name: str) -> list[np.ndarray]:
        """(10,) twice, each decile's median ratio to uniform's error, of patterns of services that trace nothing and of
        those of the others."""
        ratios, traced = self._of_sampled(self.tallies[name].errors), self._of_sampled(self.traced) > 0
        ratios = ratios / self._of_sampled(self.tallies["uniform"].errors)
        pairs = list(zip(self._ordered(ratios), self._ordered(traced), strict=True))
        return [np.array([np.median(r[t == has]) for r, t in pairs]) for has in (False, True)]

    def deciles(self) -> list[str]:
        """The counts that each decile reaches up to."""
        return [f"{part.max():,.0f}" for part in self._ordered(self._of_sampled(self.counts))]

    def least_ratio(self, part_of_decile: float) -> float:
        """A bound below: no rates bring this part of each of the lower eight deciles to a smaller share of uniform's
        median error.

        The rates may be chosen knowing the day, and keep of each team's day the bytes that ours keeps of what it
        samples. The part of each decile must reach the share, all other patterns may stay at the least rate: which part
        is a linear program, where a pattern may also reach it in part, so that the true share is no smaller. Half is
        what a median asks for.
        """
        counts, bytes_, kept = (self._of_sampled(of) for of in (self.counts, self.all_bytes, self.kept_bytes))
        sizes = [len(counts) for counts in self.counts]
        place = np.unique(
            self._of_sampled(list(np.split(np.repeat(self.days, sizes), np.cumsum(sizes)[:-1]))), return_inverse=True
        )[1]
        lower = self._ordered(np.arange(len(counts)))[:8]
        uniform, least = self.by_decile(self.tallies["uniform"].errors), PolicySettings().min_rate
        left = np.bincount(place, kept - least * bytes_)
        unit = left.max()
        parts = np.zeros((len(lower), len(counts)))
        for row, decile in zip(parts, lower, strict=True):
            row[decile] = -1
        at_least = [-np.floor(len(decile) * part_of_decile) for decile in lower]

        def excess(ratio: float) -> float:
            """-1 where the bytes suffice for this ratio, else 1."""
            cost = np.zeros((len(left), len(counts)))
            for decile, error in zip(lower, uniform, strict=False):
                rate = np.maximum(1 / (1 + counts[decile] * (ratio * error) ** 2), least)
                cost[place[decile], decile] = (rate - least) * bytes_[decile]
            found = linprog(
                np.zeros(len(counts)), np.vstack([cost / unit, parts]), [*(left / unit), *at_least], bounds=(0, 1)
            )
            return -1.0 if found.status == 0 else 1.0

        return float(bisect(excess, 0.01, 10.0, xtol=1e-3))

    def traced_by_decile(self) -> list[str]:
        """The share of each decile's patterns that are of services that trace some of their logs."""
        return [f"{(part > 0).mean():.0%}" for part in self._ordered(self._of_sampled(self.traced))]

    def bytes_by_decile(self) -> list[str]:
        """Of the bytes of what ours samples, the share in each decile."""
        parts = [part.sum() for part in self._ordered(self._of_sampled(self.all_bytes))]
        return [f"{part / sum(parts):.0%}" for part in parts]

    def weighted(self, tally: Tally, *, only_sampled: bool, drawn: bool = False) -> float:
        """Relative errors weighted by worth: root mean square of the standard ones, or mean of those drawn."""
        errors, worth = np.concatenate(tally.drawn if drawn else tally.errors), np.concatenate(self.worth)
        of = np.concatenate(self.sampled) if only_sampled else np.ones(len(worth), dtype=bool)
        mean = np.average(errors[of] ** (1 if drawn else 2), weights=worth[of])
        return float(mean if drawn else np.sqrt(mean))


# Demo days


def _demo() -> list[str]:
    found = {share: Comparison() for share in SHARES}
    happened = 0
    for team in team_ids():
        print(f"policies: demo days of team {team} …")
        raw = demo_days(team)
        for back in reversed(range(JUDGED)):
            day = UNTIL - timedelta(days=back)
            before, today, window = (raw[m] for m in (raw["day"] < day - ONE, raw["day"] == day, raw["day"] < day))
            day_before = day_of(raw[raw["day"] == day - ONE], before)
            made = {share: policies(day_before, share) for share in SHARES}
            for turn in range(ROUNDS):
                at = day_of(with_events(today, np.random.default_rng([team, day.toordinal(), turn])), window)
                logs = logs_of(at, turn=turn)
                happened += EVENTS
                for share in SHARES:
                    found[share].add(at, made[share], logs)
    intro = (
        f"**Demo days**: the last {JUDGED} of {DAYS} days of three teams, {LOGS:,} logs a day, each {ROUNDS} times"
        f" with {EVENTS} events put in ({happened} in all: a pattern 2, 3 or 5 times as often or as seldom for 1 to 6"
        " hours) beside the demo's own incidents. Their services' logs carry a trace as the demo's do: of"
        f" {sum(share == 0 for share in TRACED.values())} of {len(TRACED)} services none, of the others"
        f" {min(filter(None, TRACED.values())):.0%} to {max(TRACED.values()):.0%}. An anomaly that is reported of the"
        " whole logs is found again where the same is reported of the same series in hours that overlap; one that is"
        " not reported of the whole logs is added."
    )
    return [intro, *(text for share in SHARES for text in (_kept(found[share], share), _counts(found[share])))]


def demo_days(team: int) -> pd.DataFrame:
    """The raw logs of a demo team's days."""
    days = [UNTIL - timedelta(days=back) for back in reversed(range(DAYS))]
    with tempfile.TemporaryDirectory(prefix="lipservice-bench-") as folder:
        with LogWriter(Path(folder)) as writer:
            for day in days:
                writer.add(team, generate(team, day, until=UNTIL, days=DAYS, logs_per_day=LOGS))
        return _groups(folder, [TeamDay(team, day) for day in days])


def _groups(store: str, team_days: list[TeamDay]) -> pd.DataFrame:
    return embedded(Path(store)).groups(team_days, Bounds(datetime(2026, 11, 1, tzinfo=UTC)))


def with_events(raw: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A day's raw logs in which some patterns log more or less than they did, for some hours."""
    raw = raw.sort_values([*SCOPE, "severity", "message_id"], ignore_index=True)
    signatures, members = signatures_of(raw)
    pattern = pattern_of(raw, signatures, members)
    hours, per_log = frames.hours_matrix(raw), (raw["weighted_bytes"] / raw["weighted_logs"]).to_numpy()
    for at in rng.choice(len(signatures), EVENTS, replace=False).tolist():
        rows, length = np.flatnonzero(pattern == at), int(rng.integers(1, 7))
        start, factor = int(rng.integers(0, frames.HOURS - length + 1)), float(rng.choice((2.0, 3.0, 5.0)))
        span = np.ix_(rows, np.arange(start, start + length))
        if rng.random() < 2 / 3:
            hours[span] += rng.poisson(hours[span] * (factor - 1))
        else:
            hours[span] = rng.binomial(hours[span].astype(np.int64), 1 / factor)
    logs = hours.sum(axis=1)
    changed = raw.assign(
        logs=logs.astype(np.int64),
        weighted_logs=logs,
        bytes=np.rint(logs * per_log).astype(np.int64),
        weighted_bytes=logs * per_log,
        hours=list(hours),
    )
    return changed[logs > 0]


def _kept(found: Comparison, share: float) -> str:
    rows = [
        [
            name,
            tally.share("kept_bytes", "bytes"),
            tally.share("kept_errors", "errors"),
            tally.share("kept_patterns", "patterns"),
            f"{tally.sum('found'):.0f} of {tally.sum('anomalies'):.0f}",
            f"{tally.sum('added'):.0f}",
            f"{found.weighted(tally, only_sampled=True):.4f}",
            f"{found.weighted(tally, only_sampled=False):.4f}",
            f"{found.weighted(tally, only_sampled=True, drawn=True):.4f}",
        ]
        for name, tally in found.tallies.items()
    ]
    header = ["", "bytes kept", "errors kept", "patterns kept", "anomalies found again", "added"]
    header += ["error, sampled patterns", "error, all patterns", "error drawn, sampled patterns"]
    return (
        f"A budget of {share:.0%} of the team's bytes. Errors are relative ones of a pattern's rebuilt count in the"
        " day, weighted by worth: the root mean square of the standard errors, over the patterns that ours samples and"
        " over all, and the mean of the errors in fact drawn:\n\n" + table(header, rows)
    )


def _counts(found: Comparison) -> str:
    def against(name: str, errors: list[np.ndarray], uniform: list[np.ndarray]) -> list[str]:
        return [f"{name} ÷ uniform", *(f"{e:.2f}" for e in found.by_decile(errors) / found.by_decile(uniform))]

    tallies = found.tallies
    uniform = tallies["uniform"]
    rows = [["uniform", *(f"{e:.4f}" for e in found.by_decile(uniform.errors))]]
    rows += [against(name, tally.errors, uniform.errors) for name, tally in tallies.items() if name != "uniform"]
    for n, errors in found.by_processes.items():
        rows.append(against(f"{OURS} in {n} {'process' if n == 1 else 'processes'}", errors, uniform.errors))
    for what, ratios in zip(("nothing", "some logs"), found.apart(OURS), strict=True):
        rows.append([f"{OURS}, where a service traces {what}", *(f"{r:.2f}" for r in ratios)])
    rows += [against(f"drawn: {name}", tallies[name].drawn, uniform.drawn) for name in (OURS, *PEERS[1:])]
    rows.append(["patterns of services that trace some", *found.traced_by_decile()])
    rows.append(["share of their bytes", *found.bytes_by_decile()])
    return (
        "The median relative standard error of the patterns that ours samples, by decile of their count (up to the"
        " count named), and that of the errors in fact drawn. Logs with a trace are kept or lost by the trace's hash,"
        " and those without one, drawn evenly, make good a part of what that leaves to luck. Were all logs drawn one by"
        " one, no rates, and be they chosen knowing the day, would with these bytes of each team's day bring the"
        f" patterns of the lower eight deciles below {found.least_ratio(1.0):.2f} of uniform's median, nor half of each"
        f" of these deciles below {found.least_ratio(0.5):.2f}, were all others left at the least rate:\n\n"
        + table(["up to", *found.deciles()], rows)
    )


# Real logs


def _real(loghub: Path) -> str:
    print("policies: real logs …")
    found = {share: Comparison() for share in SHARES}
    systems = sorted(loghub.glob("*/*_2k.log"))
    rows = []
    with tempfile.TemporaryDirectory(prefix="lipservice-bench-") as folder:
        for team, path in enumerate(systems, 1):
            lines = path.read_bytes().splitlines(keepends=True)
            halves = (lines[: len(lines) // 2], lines[len(lines) // 2 :])
            for day, half in zip((UNTIL - ONE, UNTIL), halves, strict=True):
                now = datetime(2026, 10, 1, tzinfo=UTC)
                text = io.BytesIO(b"".join(half))
                ingest(text, store=Path(folder), team_id=team, service=path.parent.name, day=day, now=now)
            raw = _groups(folder, [TeamDay(team, UNTIL - ONE), TeamDay(team, UNTIL)])
            first, second = raw[raw["day"] < UNTIL], raw[raw["day"] == UNTIL]
            day_before, at = day_of(first, first.iloc[:0]), day_of(second, first)
            logs = logs_of(at)
            least = [p.expected for p in policies(day_before, LEAST_SHARE).values()]
            need = sum(float(e.budget_in_force or 0.0) for e in least) / sum(e.bytes for e in least)
            row = [path.parent.name, f"{need:.0%}"]
            for share in SHARES:
                found[share].add(at, policies(day_before, share), logs)
                tally = found[share].tallies[OURS]
                row.append(f"{tally.figures[-1]['kept_bytes'] / tally.figures[-1]['bytes']:.0%}")
            rows.append(row)
    header = ["system", "needed", *(f"kept at {share:.0%}" for share in SHARES)]
    return "\n\n".join(
        [
            "**Real logs**: the first 1,000 lines of each of eight systems are the day before, the other 1,000 the day."
            " So few are hardly worth sampling: errors, what reads like one, patterns of fewer than 100 logs and ten"
            " logs of a pattern in an active hour need this share of the bytes, whatever the budget. What ours samples"
            " is therefore at its floor, while the peers spend there what ours spends on keeping patterns whole; and a"
            " pattern that logs far less than the day before has a rate too low for the day:\n\n" + table(header, rows),
            *(_kept(found[share], share) for share in SHARES),
        ]
    )
