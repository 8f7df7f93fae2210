"""Is today's count one the window would expect: tail probabilities, runs of hours, many series at once.

What belongs here: the statistics of judging, on arrays. What is called which kind of anomaly, and what is said about
it, stands in `lipservice_dagster.core.anomalies`.
"""

from __future__ import annotations

import numpy as np
import scipy

from lipservice_dagster.core.anomalies_expectation import RUNS, Expectation

_LEAST_P = 1e-300
_PRIOR_LOGS = 0.5


def tail(
    observed: np.ndarray,
    mean: np.ndarray,
    mean_weight: np.ndarray,
    dispersion: np.ndarray,
    df: np.ndarray,
    log_weight: np.ndarray,
    upper: bool,
    middle: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(p, z): how likely a count at least (``upper``) or at most as great as observed is; all arguments alike in shape.

    The predictive distribution of a count whose mean was estimated from weighted days is negative binomial: Gamma(mean/
    mean_weight + ½) for the mean (the posterior under Jeffreys' prior; Gelman et al., Bayesian Data Analysis, 2.6)
    mixed over a negative binomial with dispersion φ, so 1/size = 1/(mean/mean_weight + ½) + φ. As φ is itself an
    estimate with ``df`` degrees of freedom, the normal score of that tail is read from Student's t: with few days the
    tails are wide.

    With ``middle`` the count's own probability is halved (mid-p): right on average, where p as it is errs on the safe
    side. Where a stored log stands for ``log_weight`` logs, counts and means are taken in stored logs. ``z`` is the
    normal score, positive where the count lies on the side asked for, and carries the sign of that side.
    """
    known = np.maximum(mean / log_weight, 0.0) / mean_weight + _PRIOR_LOGS
    mu = known * mean_weight
    k = observed / log_weight
    size = 1.0 / (1.0 / known + dispersion * (1 + mean_weight))
    share = mu / (mu + size)
    half = 0.5 if middle else 0.0
    if upper:
        p = np.where(k > 0, scipy.special.betainc(np.maximum(k + half, 1e-9), size, share), 1.0)
    else:
        p = scipy.special.betainc(size, np.maximum(k, 0.0) + 1.0 - half, 1 - share)
    z = -scipy.special.ndtri(np.clip(p, _LEAST_P, 1 - 1e-16))
    p = np.where(z > 0, scipy.special.stdtr(df, -z), np.maximum(p, 0.5))
    return p, z if upper else -z


def runs(hours: int) -> list[tuple[int, int, int]]:
    """(index in `RUNS`, start, end) of every run tested in the first ``hours`` hours of a day."""
    return [(i, start, start + n) for i, n in enumerate(RUNS) for start in range(hours - n + 1)]


def run_sums(counts: np.ndarray, spans: list[tuple[int, int, int]]) -> np.ndarray:
    """(S, runs): the sum of each run of hours of counts (S, 24)."""
    cumulated = np.zeros((len(counts), counts.shape[1] + 1))
    np.cumsum(counts, axis=1, out=cumulated[:, 1:])
    starts = np.array([s for _, s, _ in spans], dtype=np.int64)
    ends = np.array([e for _, _, e in spans], dtype=np.int64)
    sums: np.ndarray = cumulated[:, ends] - cumulated[:, starts]
    return np.maximum(sums, 0.0)


def scan(
    observed: np.ndarray,
    expected: np.ndarray,
    candidates: np.ndarray,
    spans: list[tuple[int, int, int]],
    expectation: Expectation,
    log_weight: np.ndarray,
    upper: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """(p, z) of each run, each (S, runs); p is 1 and z 0 where ``candidates`` (S, runs) is false.

    ``observed`` and ``expected``: sums of the runs, see `run_sums`.
    """
    p = np.ones(observed.shape)
    z = np.zeros(observed.shape)
    at, run = np.nonzero(candidates)
    length = np.array([i for i, _, _ in spans], dtype=np.int64)[run]
    p[at, run], z[at, run] = tail(
        observed[at, run],
        expected[at, run],
        expectation.mean_weight[at],
        expectation.dispersion[at, length],
        expectation.df[at, length],
        log_weight[at],
        upper,
    )
    return p, z


def length_index(n: int) -> int:
    """The index in `RUNS` of the greatest length that is not over ``n`` (shorter runs stray more: on the safe side)."""
    return int(np.searchsorted(np.array(RUNS), n, side="right")) - 1


def false_discovery(p: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Benjamini–Hochberg q-values of p-values, weighed; the share of false alarms among all with q ≤ α is at most α.

    Weights must have the mean 1 (Genovese, Roeder, Wasserman 2006, Biometrika 93): they let a few tests of great moment
    keep their power beside very many small ones.
    """
    if not len(p):
        return np.zeros(0)
    weighed = np.minimum(p / weight, 1.0)
    order = np.argsort(weighed, kind="stable")
    ranked = weighed[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return q
