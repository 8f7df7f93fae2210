"""What a policy keeps of a day: the same decisions the edge makes, summed over signatures and severities."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipservice_dagster.core.frames import ERROR_SEVERITIES, REST_MESSAGE, SEVERITIES, hours_matrix
from lipservice_dagster.core.policy import Expected, Policy, SeverityEffect, document
from lipservice_sampler.decision import decide, error_like, indexed
from lipservice_sampler.overlay import Overlay
from lipservice_sampler.records import stamp_octets

SAMPLED = [rank for rank, name in enumerate(SEVERITIES) if name not in ERROR_SEVERITIES]
"""Places of the severities that may be sampled, in `frames.SEVERITIES`."""

ERRORS = [rank for rank, name in enumerate(SEVERITIES) if name in ERROR_SEVERITIES]
"""Places of those that are kept whole."""


def severity_volumes(signatures: pd.DataFrame) -> NDArray[np.float64]:
    """Logs before sampling of each signature at each severity: (rows, 6), rows summing to ``weighted_logs``.

    Errors are kept whole by every policy, so theirs are the stored ones; what else there was goes to the other
    severities in proportion to what is stored. Where a signature has only errors, or weighs less than it stores, all
    severities are scaled alike.
    """
    stored = hours_matrix(signatures, "severities").reshape(-1, len(SEVERITIES))
    weighted = signatures["weighted_logs"].to_numpy(float)
    errors, others = stored[:, ERRORS].sum(axis=1), stored[:, SAMPLED].sum(axis=1)
    apart = (others > 0) & (weighted >= errors + others)
    volumes = stored * ratio(weighted, errors + others)[:, None]
    spread = stored * ratio(weighted - errors, others)[:, None]
    spread[:, ERRORS] = stored[:, ERRORS]
    return np.where(apart[:, None], spread, volumes)


def expected_effect(
    policy: Policy, signatures: pd.DataFrame, overlay: Overlay | None = None, at: datetime | None = None
) -> Expected:
    """What a policy would keep of a day: Σ over signatures and severities of logs × the rate `decide` gives.

    The logs of a pattern the policy does not list count as unknown: the first of each hour are kept. Rest-rows, whose
    logs are of patterns too rare to be told apart, count as the first of theirs. ``overlay`` is decided with, as it is
    in force ``at`` a moment. What is kept with a rate below 1 is stamped, and the stamp's octets are kept too. The
    budget fields are left to who made the policy.
    """
    plain = indexed(document(policy))
    listed = plain["pattern_rates"]
    volumes = severity_volumes(signatures)
    limit = plain.get("unknown", {}).get("first_per_hour", 0)
    kept, stamps = np.zeros_like(volumes), np.zeros_like(volumes)
    hours = hours_matrix(signatures)
    shares = hours * ratio(np.ones(len(hours)), hours.sum(axis=1))[:, None]
    for i, (signature, template) in enumerate(zip(signatures["signature"], signatures["template"], strict=True)):
        like = error_like(template)
        said: dict[str, Any] = {"overlay": overlay, "masked": template, "at": at}
        for rank in np.flatnonzero(volumes[i]):
            name, logs = SEVERITIES[rank], volumes[i, rank]
            known = signature in listed or template == REST_MESSAGE
            first = decide(plain, name, signature, like, **said).rate
            then = first if known else decide(plain, name, signature, like, unknown_seen=limit, **said).rate
            early = logs if known else float(np.minimum(logs * shares[i], limit).sum())
            for part, rate in ((early, first), (logs - early, then)):
                kept[i, rank] += part * rate
                stamps[i, rank] += part * rate * stamp_octets(rate)
    kept = np.minimum(kept, volumes)
    bytes_per_log = ratio(signatures["weighted_bytes"].to_numpy(float), signatures["weighted_logs"].to_numpy(float))
    all_bytes, kept_bytes = (
        float(volumes.sum(axis=1) @ bytes_per_log),
        float(kept.sum(axis=1) @ bytes_per_log + stamps.sum()),
    )
    effects: dict[Any, SeverityEffect] = {
        name: SeverityEffect(logs=volumes[:, rank].sum(), kept_logs=kept[:, rank].sum())
        for rank, name in enumerate(SEVERITIES)
        if volumes[:, rank].any()
    }
    return Expected(
        logs=volumes.sum(),
        bytes=all_bytes,
        kept_logs=kept.sum(),
        kept_bytes=kept_bytes,
        share=round(kept_bytes / all_bytes, 6) if all_bytes else 1.0,
        severities=effects,
    )


def most_stamp_octets(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """The octets that the stamp of a rate in a policy, no lower than this one, has at most; see `stamp_octets`."""
    # 0.1234, 0.01234, 0.001234; 0.0001234 and 1.234e-05.
    zeros = np.select([rate >= 0.1, rate >= 0.01, rate >= 0.001], [0, 1, 2], 3)
    return stamp_octets(0.1234) + zeros.astype(np.float64)


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """above / below, 0 where below is 0."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)
