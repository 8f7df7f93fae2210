"""A policy over a day that it has not seen: what it would have kept, from counts alone.

What belongs here: the decisions of `lipservice_sampler.decision` over the masked messages of a service's day, what they
keep in expectation, and one seeded draw of what would be left. What is made of it stands in `core.backtest`, and what a
policy in fact kept in `core.savings`.

The day's masked messages are matched against the policy's own templates, as the edge does (days are never joined on
signatures). Volumes are weighted: what there was before earlier sampling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipservice_dagster.core.effect import ratio
from lipservice_dagster.core.frames import HOURS, REST_ID, hours_matrix
from lipservice_dagster.core.overlay import OverlayHours, overlay_document
from lipservice_sampler.decision import decide, error_like, indexed
from lipservice_sampler.matching import Matcher
from lipservice_sampler.overlay import Overlay as SamplerOverlay
from lipservice_sampler.records import stamp_octets


@dataclass(frozen=True)
class Replay:
    """A policy's decisions over R rows of raw logs; logs are weighted.

    ``seen`` (R, 24): logs of each hour. ``sure`` (R, 24): those of them that are kept whatever the draw (the first logs
    of an hour of a pattern that the policy does not list). ``rate`` (R, 24): the probability to keep each of the
    others.
    """

    seen: NDArray[np.float64]
    sure: NDArray[np.float64]
    rate: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.float64]:
        """(R, 24): logs that are expected to be kept."""
        return self.sure + (self.seen - self.sure) * self.rate

    @property
    def stamps(self) -> NDArray[np.float64]:
        """(R, 24): octets of the stamps of what is kept by the draw, which what is stored has more than what there was;
        see `lipservice_sampler.records.stamp_octets`."""
        rates, place = np.unique(self.rate, return_inverse=True)
        octets = np.array([stamp_octets(rate) for rate in rates.tolist()])[place].reshape(self.rate.shape)
        drawn: NDArray[np.float64] = (self.kept - self.sure) * octets
        return drawn

    @property
    def variance(self) -> NDArray[np.float64]:
        """(R,): variance of the Horvitz–Thompson estimate of the row's logs, n (1 - p) / p; see `core.sampling`."""
        drawn: NDArray[np.float64] = (self.seen - self.sure) * ratio(1.0 - self.rate, self.rate)
        return drawn.sum(axis=1)

    @property
    def chance_of_none(self) -> NDArray[np.float64]:
        """(R,): the logarithm of the probability that no log of the row is kept; minus infinity where one surely is."""
        drawn = self.seen - self.sure
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = np.where(drawn > 0, drawn * np.log1p(-self.rate), 0.0).sum(axis=1)
        return np.where(self.sure.any(axis=1), -np.inf, chance)


def replay(rows: pd.DataFrame, policy: Mapping[str, Any], said: OverlayHours | None = None) -> Replay:
    """The decisions of a policy document over rows of `frames.RAW_LOGS` of its service and environment.

    An unlisted pattern is told by its masked message, at each severity by itself, as the edge sees it. A rest-row,
    whose logs are of patterns too rare to be told apart, counts as the first logs of theirs; of an overlay it knows
    what is said of the service. ``said`` is decided with, hour by hour. Where a cap lies on the first logs of an
    unlisted pattern too, so that none is sure, an hour has one rate: the mean of its first logs' and its others'.
    """
    plain = indexed(policy)
    by_template = {entry["template"]: signature for signature, entry in plain["pattern_rates"].items()}
    matcher = Matcher(set(by_template))
    limit = plain.get("unknown", {}).get("first_per_hour", 0)
    texts = {}
    for message in set(rows["message"]):
        template = matcher.match(message)
        texts[message] = (None if template is None else by_template[template], error_like(message))
    seen = hours_matrix(rows)
    sure, rate = np.zeros_like(seen), np.ones_like(seen)
    groups = list(zip(*(rows[c].tolist() for c in ("severity", "message_id", "message")), strict=True))
    for hours, at, overlay in [(slice(0, HOURS), None, None)] if said is None else said.spans:
        # An overlay without entries says nothing, and costs a question of each message.
        entries = overlay is not None and (overlay.overrides or overlay.boosts)
        spoken = SamplerOverlay(overlay_document(overlay)) if overlay is not None and entries else None
        first, then = _rates(groups, texts, plain, limit, spoken, at)
        now = seen[:, hours]
        early = np.minimum(now, limit)
        whole = first == 1.0
        sure[:, hours] = np.where(whole & (then < 1.0), early, 0.0)
        mean = ratio(early * first + (now - early) * then, now)
        rate[:, hours] = np.where(whole | (first == then), then, np.where(now > 0, mean, then))
    return Replay(seen, sure, rate)


def _rates(
    groups: Sequence[tuple[str, str, str]],
    texts: Mapping[str, tuple[str | None, bool]],
    policy: Mapping[str, Any],
    limit: int,
    overlay: SamplerOverlay | None,
    at: datetime | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rates (R, 1) of the first logs of an hour and of the later ones, of each group of logs.

    A group is a severity, the id of a masked message, and that message.
    """
    known: dict[tuple[Any, ...], tuple[float, float]] = {}
    found = np.empty((2, len(groups), 1))
    for i, (severity, message_id, message) in enumerate(groups):
        rest = message_id == REST_ID
        signature, like = (None, False) if rest else texts[message]
        masked = None if rest or overlay is None else message
        key = (severity, rest, signature, like, masked)
        if key not in known:
            of: dict[str, Any] = {"overlay": overlay, "masked": masked, "at": at}
            early = decide(policy, severity, signature, like, **of).rate
            later = early if rest else decide(policy, severity, signature, like, unknown_seen=limit, **of).rate
            known[key] = (early, later)
        found[:, i, 0] = known[key]
    return found[0], found[1]


def figures(rows: pd.DataFrame, replayed: Replay, patterns: NDArray[np.object_]) -> dict[str, float]:
    """What a replay comes to, over the rows of one service and environment.

    ``patterns`` (R,): the day's own signature of each row, None for rest-rows. The keys:

    * ``logs``, ``bytes``, ``kept_logs``, ``kept_bytes``: seen, and expected to be kept, these with their stamps.
    * ``errors``, ``kept_errors``: those at severity error and fatal.
    * ``patterns``, ``kept_patterns``: how many there are, and the expected number with at least one log kept,
      Σ 1 − Π (1 − p)^n.
    * ``count_error``: the relative standard error of the service's rebuilt count.
    * ``pattern_error``: of the patterns that are sampled, the median of theirs, and ``pattern_error_most`` the
      greatest (0 where none is).
    """
    seen, kept = replayed.seen.sum(axis=1), replayed.kept.sum(axis=1)
    bytes_per_log = ratio(rows["weighted_bytes"].to_numpy(float), rows["weighted_logs"].to_numpy(float))
    errors = rows["severity"].isin(["error", "fatal"]).to_numpy()
    named = np.array([p is not None for p in patterns], dtype=bool)
    code, names = pd.factorize(patterns[named], sort=True)
    volume, variance, none = (
        np.bincount(code, weights, minlength=len(names)).astype(float)
        for weights in (seen[named], replayed.variance[named], replayed.chance_of_none[named])
    )
    error = ratio(np.sqrt(variance), volume)
    sampled = error[error > 0]
    return {
        "logs": float(seen.sum()),
        "bytes": float(seen @ bytes_per_log),
        "kept_logs": float(kept.sum()),
        "kept_bytes": float(kept @ bytes_per_log + replayed.stamps.sum()),
        "errors": float(seen[errors].sum()),
        "kept_errors": float(kept[errors].sum()),
        "patterns": float(len(names)),
        "kept_patterns": float((1.0 - np.exp(none)).sum()),
        "count_error": float(np.sqrt(replayed.variance.sum()) / seen.sum()) if seen.sum() else 0.0,
        "pattern_error": float(np.median(sampled)) if len(sampled) else 0.0,
        "pattern_error_most": float(sampled.max()) if len(sampled) else 0.0,
    }


def thinned(rows: pd.DataFrame, replayed: Replay, seed: str) -> pd.DataFrame:
    """One draw of what the policy leaves of the rows: rows of `frames.RAW_LOGS` with their weights; those left without
    a log are not in it.

    Each log is kept on its own (a binomial draw an hour, which errs on the safe side where the edge draws evenly; see
    `core.sampling`), and those kept weigh 1/p; the fraction of a weighted count
    that is no whole log is carried over undrawn. ``seed`` is any text: the same rows and seed give the same draw.
    """
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    drawn = replayed.seen - replayed.sure
    whole = np.rint(drawn)
    rate = replayed.rate
    kept = random.binomial(whole.astype(np.int64), rate)
    rebuilt = np.divide(kept, rate, out=np.zeros(whole.shape), where=rate > 0)
    hours = np.maximum(replayed.sure + rebuilt + (drawn - whole), 0.0)
    stored = (replayed.sure + kept).sum(axis=1)
    before = ratio(rows["weighted_logs"].to_numpy(float), rows["logs"].to_numpy(float))
    left = rows.assign(
        logs=ratio(stored, np.maximum(before, 1.0)),
        weighted_logs=hours.sum(axis=1),
        hours=pd.Series(list(hours), rows.index),
    )
    return left[stored > 0]
