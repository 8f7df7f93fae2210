"""Samplers over a team-day, ours and its peers, at equal kept bytes: their rates, and which logs those keep.

What belongs here: a day as raw logs, rates of its rows by hour, and the draw. What is measured stands in `policies`.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from lipservice_dagster.advisors import rules
from lipservice_dagster.core import frames
from lipservice_dagster.core.anomalies import detect
from lipservice_dagster.core.clustering import cluster
from lipservice_dagster.core.make_policy import make_policies
from lipservice_dagster.core.policy import Policy, document
from lipservice_dagster.core.policy_problem import ServiceDay
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.replay import replay
from lipservice_dagster.core.series import Series
from lipservice_dagster.core.signatures import signatures_of
from lipservice_dagster.core.window import day_series
from lipservice_dagster.local.demo_logs import CATALOGUE
from lipservice_sampler.draws import DRAWS_TO_GIVE_ALL, EvenDraw
from lipservice_sampler.matching import Matcher
from lipservice_sampler.records import stamp_octets

OURS = "LipService"
PEERS = ("uniform", "severity only", "dynsampler, EMA")
SEVERITY_RATES = {"trace": 0.05, "debug": 0.05, "info": 0.2, "warn": 0.5, "error": 1.0, "fatal": 1.0}
SCOPE = ["service", "environment"]
TRACED = {service.name: service.traced for team in CATALOGUE for service in team.services}
"""The share of a demo service's logs that carries a trace; other services' carry none."""

PROCESSES = 4
"""Processes of each service and environment; a log is written by one of them at random."""

DRAWS_BEFORE = 24
"""Draws of a stream before the day, after which what its logs owe is as it is at any time."""

STAMP = stamp_octets(0.1234)
"""Octets that tell the rate of a log that was drawn, for all samplers alike: unstamped, no count can be rebuilt."""


@dataclass(frozen=True)
class Day:
    """A team-day: R rows of raw logs in a fixed order, its patterns, and the series of its report."""

    team_id: int
    day: date
    raw: pd.DataFrame
    signatures: pd.DataFrame
    members: pd.DataFrame
    series: Series | None
    anomalies: pd.DataFrame

    @property
    def pattern(self) -> np.ndarray:
        """(R,): see `pattern_of`."""
        return pattern_of(self.raw, self.signatures, self.members)

    @property
    def bytes_per_log(self) -> np.ndarray:
        """(R,)."""
        per_log: np.ndarray = (self.raw["weighted_bytes"] / self.raw["weighted_logs"]).to_numpy()
        return per_log

    @property
    def traced(self) -> np.ndarray:
        """(R,): the share of each row's logs that carries a trace."""
        return np.array([TRACED.get(service, 0.0) for service in self.raw["service"]])


@dataclass(frozen=True)
class Rates:
    """Of R rows in 24 hours, (R, 24): ``first`` logs that are kept for sure, and the rate of the others.

    ``stream`` (R,): numbers of the streams that logs without a trace are drawn evenly by, in each process by itself;
    None where each log is drawn by itself.
    """

    first: np.ndarray
    rate: np.ndarray
    stream: np.ndarray | None = None

    def kept(self, hours: np.ndarray) -> np.ndarray:
        """(R, 24): logs of these that are expected to be kept."""
        first = np.minimum(self.first, hours)
        kept: np.ndarray = first + (hours - first) * self.rate
        return kept

    def bytes(self, hours: np.ndarray, per_log: np.ndarray) -> np.ndarray:
        """(R, 24): bytes that are expected to be kept, with the stamp of each log that was drawn; ``per_log`` (R,)."""
        first = np.minimum(self.first, hours)
        drawn = (hours - first) * self.rate
        kept: np.ndarray = first * per_log[:, None] + drawn * (per_log[:, None] + STAMP * (self.rate < 1))
        return kept

    def variance(self, hours: np.ndarray, traced: np.ndarray, processes: int) -> np.ndarray:
        """(R,): variance of the count that is rebuilt; of a stream's rows, the sum is that of the stream.

        Of logs drawn by themselves it is Σ n (1 - p) / p. Those of a stream lie on a line of length t, the sum of their
        rates, of which each unit interval has one point. A stretch of the line with w(t) = 1 / p(t) logs to a unit of
        it adds ∫ w² - (∫ w)² within each interval: of whole intervals at one rate nothing, so what remains are the
        changes of rate and both ends. The day finds the stream anywhere in an interval: two points of the line a
        distance x apart share one with probability (1 - |x|)⁺, so that the mean variance is

            ∫ w(t)² dt - ∬ w(t) w(t') (1 - |t - t'|)⁺ dt dt',

        at one rate m - m² + m³/3 draws² for a day with m ≤ 1 draws, and 1/3 draws² for every longer one.
        ``traced`` (R,) is the share of logs that is kept or lost by the trace's hash; see `_luck_variance`.
        """
        left = hours - np.minimum(self.first, hours)
        alone: np.ndarray = (left * (1 / self.rate - 1)).sum(axis=1)
        if self.stream is None:
            return alone
        drawn = left * (self.rate < 1) / processes
        untraced = drawn * (1 - traced[:, None])
        logs, length, others, luck = np.zeros((4, int(self.stream.max()) + 1, frames.HOURS))
        np.add.at(logs, self.stream, untraced)
        np.add.at(length, self.stream, untraced * self.rate)
        np.add.at(others, self.stream, drawn - untraced)
        np.add.at(luck, self.stream, (drawn - untraced) * (1 / self.rate - 1))
        variance = processes * (_even_variance(logs, length) + _luck_variance(logs, length, others, luck))
        of_stream = np.bincount(self.stream, drawn.sum(axis=1))[self.stream]
        share = np.divide(drawn.sum(axis=1), of_stream, out=np.zeros(len(drawn)), where=of_stream > 0)
        return variance[self.stream] * share


def _even_variance(logs: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(streams,): of logs (streams, 24) that take so much of their lines; the formula of `Rates.variance`."""
    weight = np.divide(logs, length, out=np.zeros_like(logs), where=length > 0)
    ends = np.pad(np.cumsum(length, axis=1), ((0, 0), (1, 0)))
    steps = np.diff(np.pad(weight, ((0, 0), (1, 1))), axis=1)
    apart = np.abs(ends[:, :, None] - ends[:, None, :])
    # The second integral of (1 - |x|)⁺: the double integral is a sum of it over the places where w steps.
    kernel = np.where(apart < 1, apart**2 / 2 - apart**3 / 6, apart / 2 - 1 / 6)
    variance: np.ndarray = (weight * logs).sum(axis=1) + np.einsum("si,sij,sj->s", steps, kernel, steps)
    return np.maximum(variance, 0.0)


def _luck_variance(logs: np.ndarray, length: np.ndarray, others: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """(streams,): what the traces' luck leaves when the logs without a trace have made good what `EvenDraw.heed` says.

    All (streams, 24): ``logs`` without a trace and their ``length``, those ``others`` with one, and the variance of
    their ``luck`` when nothing is made good. A part a of the luck is owed, in draws, and a log without a trace gives
    back the part k of it. So the variance V of what is owed follows V' = a² luck' - 2 k V logs'; the day finds it where
    both are equal. An hour at rate r is off by 1/r times (1 - a) of its luck and what is owed at its end less what was
    owed at its beginning. That share and rates are steady within an hour, and g nowhere bent, is left out: up to 6% of
    the standard error, with nine in ten logs traced.
    """
    all_logs = logs + others
    share = np.divide(others.sum(axis=1), all_logs.sum(axis=1), out=np.zeros(len(logs)), where=all_logs.any(axis=1))
    owed = np.minimum(np.sqrt(1 / np.maximum(share, 1e-12) - 1), 1.0)
    rate = np.divide(length, logs, out=np.ones_like(logs), where=logs > 0)
    given = np.minimum(1 - rate, rate) / DRAWS_TO_GIVE_ALL * logs
    luck = luck * rate**2
    fresh = np.divide(luck, given, out=np.zeros_like(luck), where=given > 0)
    first = np.argmax(given > 0, axis=1)
    variance = owed**2 * fresh[np.arange(len(logs)), first] / 2
    off, both = np.zeros((2, len(logs)))
    for hour in range(frames.HOURS):
        decay, new, r = np.exp(-given[:, hour]), luck[:, hour], rate[:, hour]
        some = given[:, hour] > 0
        grown = owed**2 * np.where(some, fresh[:, hour] * (1 - decay**2) / 2, new)
        of_it = owed * (1 - owed) * np.where(some, fresh[:, hour] * (1 - decay), new)
        off += ((1 - owed) ** 2 * new + grown + 2 * of_it + (1 - decay) ** 2 * variance) / r**2
        off -= 2 * (1 - decay) * both / r
        both = decay * both + (of_it + grown - decay * (1 - decay) * variance) / r
        variance = decay**2 * variance + grown
    return off


def pattern_of(raw: pd.DataFrame, signatures: pd.DataFrame, members: pd.DataFrame) -> np.ndarray:
    """(R,): the place of each row's pattern, a signature of a service and environment, in ``signatures``."""
    names = members.set_index(["service", "message_id"])["signature"]
    of_row = names.loc[list(zip(raw["service"], raw["message_id"], strict=True))].to_numpy()
    index = pd.MultiIndex.from_frame(signatures[[*SCOPE, "signature"]])
    place: np.ndarray = index.get_indexer(pd.MultiIndex.from_arrays([raw["service"], raw["environment"], of_row]))
    return place


def day_of(raw: pd.DataFrame, window: pd.DataFrame) -> Day:
    """The day of these raw logs; without a window it has no report."""
    raw = raw.sort_values([*SCOPE, "severity", "message_id"], ignore_index=True)
    team_id, day = int(raw["team_id"].iloc[0]), raw["day"].iloc[0]
    signatures, members = signatures_of(raw)
    series, anomalies = None, frames.empty(frames.ANOMALIES)
    if len(window):
        series = day_series(raw, window, sorted(set(window["day"])), members, signatures)
        anomalies = detect(series, team_id=team_id, day=day)
    return Day(team_id, day, raw, signatures, members, series, anomalies)


def counts_before(at: Day) -> np.ndarray:
    """(patterns, 24): the counts of the day before by the patterns of the day."""
    assert at.series is not None
    keys = at.series.keys
    mine = pd.MultiIndex.from_frame(keys.loc[keys["scope"] == "pattern", [*SCOPE, "subject"]])
    names = pd.MultiIndex.from_frame(at.signatures[[*SCOPE, "signature"]].set_axis([*SCOPE, "subject"], axis=1))
    before: np.ndarray = at.series.window[(keys["scope"] == "pattern").to_numpy(), -1][mine.get_indexer(names)]
    return before


def policies(at: Day, share: float) -> dict[tuple[str, str], Policy]:
    """The day's policies by service and environment that keep this share of the team's bytes."""
    judgements = rules.advise(at.signatures, cluster(at.signatures))
    settings = PolicySettings(target_reduction=1 - share, reduction_of_team=True)
    services = []
    for (service, environment), part in at.signatures.groupby(SCOPE, sort=True):
        unusual = at.anomalies[(at.anomalies["service"] == service) & (at.anomalies["environment"] == environment)]
        services.append(ServiceDay(service, environment, part, unusual))
    made = make_policies(at.team_id, at.day, services, judgements, settings)
    return {(policy.service, policy.environment): policy for policy in made}


def ours(at: Day, made: dict[tuple[str, str], Policy], processes: int = PROCESSES) -> Rates:
    """What these policies decide over the day in each of so many processes, which draw evenly.

    The first logs of an hour of a pattern that is not listed are kept in each process. Together are drawn the logs of a
    listed pattern, or of a masked message that is not listed, at a severity.
    """
    first, rate = np.zeros((len(at.raw), frames.HOURS)), np.ones((len(at.raw), frames.HOURS))
    names: list[tuple[str, ...]] = [()] * len(at.raw)
    for scope, part in at.raw.groupby(SCOPE, sort=True):
        policy = made.get((str(scope[0]), str(scope[1])))
        matcher = Matcher({entry.template for entry in policy.pattern_rates} if policy else ())
        for i, severity, message in zip(part.index, part["severity"], part["message"], strict=True):
            template = matcher.match(message)
            listed = ("unlisted", message) if template is None else ("listed", template)
            names[i] = (str(scope[0]), str(scope[1]), *listed, severity)
        if policy:
            found = replay(part, document(policy))
            first[part.index], rate[part.index] = found.sure * processes, found.rate
    return Rates(first, rate, pd.factorize(pd.Series(names))[0])


def peers(at: Day, before: np.ndarray, mine: Rates) -> dict[str, Rates]:
    """The others' rates, at the bytes that ours keep of the team's day.

    ``before`` (patterns, 24): see `counts_before`. dynsampler keeps one log in N; here N need not be whole, so that the
    bytes can be the same.
    """
    hours, pattern = frames.hours_matrix(at.raw), at.pattern
    of_severity = np.array([SEVERITY_RATES[s] for s in at.raw["severity"]])
    counts = np.zeros((len(at.signatures), frames.HOURS))
    np.add.at(counts, pattern, hours)
    kept = float(mine.bytes(hours, at.bytes_per_log).sum())
    scales: dict[str, tuple[Callable[[float], np.ndarray], float]] = {
        "uniform": (partial(np.full, hours.shape), 1.0),
        "severity only": (partial(_by_severity, of_severity), 1 / min(SEVERITY_RATES.values())),
        "dynsampler, EMA": (partial(_dynamic, moving_averages(before, counts), pattern), 1.0),
    }
    none = np.zeros(hours.shape)

    def scaled(rates: Callable[[float], np.ndarray], most: float) -> Rates:
        """At the scale at which so many bytes are expected to be kept, or at the nearest end of the scale."""

        def excess(scale: float) -> float:
            return float(Rates(none, rates(scale)).bytes(hours, at.bytes_per_log).sum()) - kept

        least = 1e-6
        if excess(least) >= 0:
            return Rates(none, rates(least))
        return Rates(none, rates(most if excess(most) <= 0 else float(brentq(excess, least, most, xtol=1e-9))))

    return {name: scaled(*scales[name]) for name in PEERS}


def _by_severity(rates: np.ndarray, scale: float) -> np.ndarray:
    scaled = np.where(rates < 1.0, np.minimum(rates * scale, 1.0), 1.0)
    return np.broadcast_to(scaled[:, None], (len(rates), frames.HOURS))


def _dynamic(averages: np.ndarray, pattern: np.ndarray, share: float) -> np.ndarray:
    return dynsampler_rates(averages, share)[pattern]


def moving_averages(before: np.ndarray, counts: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """(patterns, 24): dynsampler's moving average of each pattern's logs an hour as it stands when the hour begins.

    From the hours of the day before and those of the day that are over; what it has not seen yet is 0.
    """
    average, found = np.zeros(len(before)), np.zeros(counts.shape)
    for hour, seen in enumerate(itertools.chain(before.T, counts.T)):
        if hour >= frames.HOURS:
            found[:, hour - frames.HOURS] = average
        average = np.where(average > 0, weight * seen + (1 - weight) * average, seen)
        average[average < weight] = 0.0  # it forgets what it has not seen for long
    return found


def dynsampler_rates(averages: np.ndarray, share: float) -> np.ndarray:
    """(patterns, 24): probabilities to keep, where this share of what is expected in an hour is the goal.

    The goal is shared among patterns in proportion to log₁₀ of their counts, one log at least; from the least frequent
    on, what a pattern has less than its goal is shared among those after it. Patterns it does not know are kept.
    """
    rates = np.ones(averages.shape)
    for hour in range(averages.shape[1]):
        known = np.flatnonzero(averages[:, hour] > 0)
        count = np.maximum(averages[known, hour], 1.0)
        order = np.argsort(count, kind="stable")
        logarithms = np.log10(count)
        ratio = share * count.sum() / max(float(logarithms.sum()), 1e-12)
        spare = 0.0
        for left, i in zip(range(len(order), 0, -1), order.tolist(), strict=True):
            goal = max(1.0, logarithms[i] * ratio) + spare / left
            spare -= spare / left
            if count[i] <= goal:
                spare += goal - count[i]
            else:
                rates[known[i], hour] = goal / count[i]
    return rates


# Logs, one by one


@dataclass(frozen=True)
class Logs:
    """Every log of a day, L of them, in no order but by row and hour.

    Its row, its hour, its place among both; the hash of its key in [0, 1); whether it carries a ``trace``; the
    ``process`` that wrote it, and when in its hour, ``moment`` in [0, 1). ``seed`` is that of the even draws.
    """

    row: np.ndarray
    hour: np.ndarray
    place: np.ndarray
    hash: np.ndarray
    trace: np.ndarray
    process: np.ndarray
    moment: np.ndarray
    seed: str


def logs_of(at: Day, processes: int = PROCESSES, turn: int = 0) -> Logs:
    """The logs of a day that was not sampled; a key tells team, day, turn, row, hour and place."""
    hours = frames.hours_matrix(at.raw).astype(np.int64)
    row, hour = (np.repeat(x.ravel(), hours.ravel()) for x in np.indices(hours.shape))
    starts = np.cumsum(hours.ravel()) - hours.ravel()
    place = np.arange(len(row)) - np.repeat(starts, hours.ravel())
    seed = f"{at.team_id}|{at.day}|{turn}|"
    start = seed.encode()
    # As `lipservice_sampler.decision.keeps` reads a key, once for all rates.
    hashes = b"".join(hashlib.blake2b(start + b"%d" % i, digest_size=8).digest() for i in range(len(row)))
    rng = np.random.default_rng([at.team_id, at.day.toordinal(), processes, turn])
    return Logs(
        row=row,
        hour=hour,
        place=place,
        hash=np.frombuffer(hashes, dtype=">u8") / 2.0**64,
        trace=rng.random(len(row)) < at.traced[row],
        process=rng.integers(0, processes, len(row)),
        moment=rng.random(len(row)),
        seed=seed,
    )


@dataclass(frozen=True)
class Kept:
    """What a sampler left of R rows: stored and rebuilt logs by hour, and those of the stored that are stamped, all
    (R, 24)."""

    stored: np.ndarray
    rebuilt: np.ndarray
    stamped: np.ndarray


def thin(at: Day, logs: Logs, rates: Rates) -> Kept:
    """What is kept of the logs: where the key's hash lies below the rate, or by the even draw of the log's stream.

    The draw heeds what the hash decides of the logs with a trace.
    """
    shape = (len(at.raw), frames.HOURS)
    sure = logs.place < rates.first[logs.row, logs.hour]
    rate = np.where(sure, 1.0, rates.rate[logs.row, logs.hour])
    kept = logs.hash < rate
    if rates.stream is not None:
        at_once = np.flatnonzero(rate < 1)
        stream = rates.stream[logs.row] * (int(logs.process.max(initial=0)) + 1) + logs.process
        order = at_once[np.lexsort([x[at_once] for x in (logs.moment, logs.hour, stream)])]
        by_trace = [keep if trace else None for keep, trace in zip(kept[order], logs.trace[order], strict=True)]
        share = at.traced[logs.row[order]].tolist()
        numbers = random.Random(logs.seed)
        kept[order] = evenly(stream[order].tolist(), rate[order].tolist(), by_trace, share, numbers)
    cell = logs.row[kept] * frames.HOURS + logs.hour[kept]
    size = len(at.raw) * frames.HOURS
    return Kept(
        np.bincount(cell, minlength=size).reshape(shape).astype(float),
        np.bincount(cell, 1 / rate[kept], minlength=size).reshape(shape),
        np.bincount(cell, rate[kept] < 1, minlength=size).reshape(shape),
    )


def evenly(
    stream: list[int], rate: list[float], by_trace: list[bool | None], traced: list[float], numbers: random.Random
) -> list[bool]:
    """Whether each of these logs, sorted by stream and time, is kept: by its trace, or by the sampler's own even draw.

    The day finds every stream amid an interval: a log before it had a rate of its own, anywhere in [0, 1). Where a
    share of its logs is ``traced``, so was it before the day, for some 24 draws.
    """
    kept = []
    present, draw = -1, EvenDraw(numbers.random)
    for of_log, p, by, share in zip(stream, rate, by_trace, traced, strict=True):
        if of_log != present:
            present, draw = of_log, EvenDraw(numbers.random)
            if share:
                for _ in range(int(DRAWS_BEFORE / p)):
                    if numbers.random() < share:
                        draw.heed(p, numbers.random() < p)
                    else:
                        draw.keeps(p)
            draw.keeps(numbers.random())
        if by is None:
            kept.append(draw.keeps(p))
        else:
            draw.heed(p, by)
            kept.append(by)
    return kept
