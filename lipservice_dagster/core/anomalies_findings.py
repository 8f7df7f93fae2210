"""The tests of a report and what they find: significant runs of hours, new patterns, vanished ones.

What belongs here: which tests are made, and one `Finding` for each that is significant. Which of them say the same is
decided in `anomalies_folding`.
"""

from __future__ import annotations

import numpy as np

from lipservice_dagster.core import anomalies_statistics as statistics
from lipservice_dagster.core.anomalies_expectation import WEEKEND_SURPLUS
from lipservice_dagster.core.anomalies_own import by_own_window, silent_by_chance
from lipservice_dagster.core.anomalies_report import Report, history_days
from lipservice_dagster.core.anomalies_runs import Run, deviating, separate
from lipservice_dagster.core.anomalies_text import (
    ERROR_SURGE,
    NEW_PATTERN,
    RATE_DROP,
    RATE_SPIKE,
    VANISHED_PATTERN,
    Finding,
)
from lipservice_dagster.core.series import hidden_hours

_DUE = 0.2
_MAYBE = 2.0  # times the level: beyond that a series is hardly ever told
_BLOCK = 512
_NEW_DISPERSION = 20.0
"""Of a pattern never seen: it may be one that comes in bursts, so it is judged as a very bursty one."""


def all_findings(report: Report) -> list[Finding]:
    """Every significant run and every significant new or vanished pattern, not yet folded."""
    settings, n = report.settings, len(report.scope)
    observed = statistics.run_sums(report.today, report.spans)
    expected = statistics.run_sums(report.mean, report.spans)
    # Of errors and warnings that were never there, none were expected; other series without logs before are new.
    judged = report.tested & (report.seen | (report.scope == "severity"))
    appeared = _appeared(report)
    may_fall = judged & ~report.young & ~report.expectation.first_weekend
    silent = may_fall & (report.scope == "pattern") & (report.today.sum(axis=1) == 0)

    up_expected, by_share = _up_expectation(report, observed, expected)
    # What rest-rows hide may be of a pattern, on either side: what they can explain is no anomaly.
    usually_hidden, hidden_today = hidden_hours(report.series, report.hours)
    above, below = (statistics.run_sums(hidden, report.spans) for hidden in (usually_hidden, hidden_today))
    up = _much_more(report, observed, up_expected + above)
    down = _much_more(report, expected, observed + below)
    explained = settings.ratio * hidden_today.sum(axis=1) > report.mean.sum(axis=1)
    may_drop = may_fall & (report.scope != "severity") & ~silent
    p_up, z_up = statistics.scan(
        observed, up_expected, up & judged[:, None], report.spans, report.expectation, report.log_weight, upper=True
    )
    down &= may_drop[:, None] & ~_silent_before(report)
    p_down, z_down = statistics.scan(
        observed, expected, down, report.spans, report.expectation, report.log_weight, upper=False
    )
    # Errors are tested twice upwards (count, share), services and patterns up and down, warnings upwards only.
    is_error = (report.scope == "severity") & (report.subject == "error")
    trials = len(report.spans) * np.where((report.scope == "severity") & ~is_error, 1, 2)
    p_up, p_down = (np.minimum(p * trials[:, None], 1.0) for p in (p_up, p_down))
    p_up = _corrected(report, p_up)
    p_series = np.minimum(p_up.min(axis=1), p_down.min(axis=1))
    p_alone, z_alone = _appearances(report, appeared, silent & ~explained)
    p_series = np.where(appeared | silent, p_alone, p_series)

    tested = np.flatnonzero(report.tested)
    weight = _weights(report.scope[tested])
    q = np.ones(n)
    q[tested] = statistics.false_discovery(p_series[tested], weight)
    crit = np.zeros(n)
    # A run counts where its series would by it alone: up to the procedure's bound, not to the largest p beneath it.
    crit[tested] = weight * settings.level * (q[tested] <= settings.level).mean() if len(tested) else 0.0

    found: list[Finding] = []
    for s in np.flatnonzero(report.tested & (q <= settings.level)).tolist():
        if appeared[s] or silent[s]:
            found.append(_whole(report, s, bool(appeared[s]), float(p_series[s]), float(q[s]), float(z_alone[s])))
            continue
        scale = float(q[s]) / max(float(p_series[s]), 1e-300)
        for kind, p, z in (ERROR_SURGE if is_error[s] else RATE_SPIKE, p_up, z_up), (RATE_DROP, p_down, z_down):
            found += [
                _run_finding(report, s, kind, run, min(run.p_value * scale, settings.level))
                for run in _stretches(report, s, kind, p[s], z[s], by_share[s], float(crit[s]))
            ]
    return found


def _corrected(report: Report, p: np.ndarray) -> np.ndarray:
    """The p-values of too much (S, runs), no less than the series' own window makes of them."""
    corrected = p.copy()
    strange = np.flatnonzero(p.min(axis=1, initial=1.0) <= _MAYBE * report.settings.level)
    for at in range(0, len(strange), _BLOCK):
        rows = strange[at : at + _BLOCK]
        corrected[rows] = by_own_window(report, rows, p[rows])
    return corrected


def _much_more(report: Report, much: np.ndarray, little: np.ndarray) -> np.ndarray:
    """Whether the first is as much more than the second as an anomaly is."""
    more: np.ndarray = (much >= report.settings.ratio * little) & (much - little >= report.settings.least_logs)
    return more


def _silent_before(report: Report) -> np.ndarray:
    """(S, R): runs that only go on with the silence in which the window ended: that was told on the day it began."""
    logs = report.today[report.parent] > 0
    back = np.where(logs.any(axis=1), logs.argmax(axis=1), report.hours)
    starts = np.array([start for _, start, _ in report.spans], dtype=np.int64)
    going_on: np.ndarray = report.expectation.stopped[:, None] & (starts < back[:, None])
    return going_on


def _weights(scope: np.ndarray) -> np.ndarray:
    """Weights of the tests with mean 1: services and severities have half of them together, patterns the other."""
    few = scope != "pattern"
    n_few = int(few.sum())
    if n_few in (0, len(scope)):
        return np.ones(len(scope))
    weights: np.ndarray = np.where(few, len(scope) / (2 * n_few), len(scope) / (2 * (len(scope) - n_few)))
    return weights


def _up_expectation(report: Report, observed: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(expected, by share) of each run upwards, each (S, R).

    Errors are expected as many as usual, or, where their count alone is nothing unusual, as large a share of their
    service's logs as usual: half of the traffic with all of the errors is a surge too.
    """
    settings = report.settings
    errors = (
        (report.scope == "severity") & (report.subject == "error") & (report.parent != np.arange(len(report.scope)))
    )
    expected = expected * np.where(report.expectation.first_weekend, WEEKEND_SURPLUS, 1.0)[:, None]
    of_service = np.zeros_like(expected)
    usual = expected[report.parent[errors]]
    share = np.divide(expected[errors], usual, out=np.ones_like(usual), where=usual > 0)
    of_service[errors] = np.minimum(share, 1.0) * observed[report.parent[errors]]
    by_count = (observed >= settings.ratio * expected) & (observed - expected >= settings.least_logs)
    by_share = errors[:, None] & ~by_count & (of_service < expected)
    return np.where(by_share, of_service, expected), by_share


def _appeared(report: Report) -> np.ndarray:
    """(S,): tested patterns and services that had no logs in the window and enough today to speak of."""
    settings = report.settings
    logs = report.today.sum(axis=1)
    own_service = report.parent == np.arange(len(report.scope))
    new = report.tested & ~report.seen & (logs >= settings.least_new) & ((report.scope == "pattern") | own_service)
    if report.series.hidden is not None:
        # It may have been there before, among the rest.
        new &= logs >= settings.ratio * report.series.hidden.most
    appeared: np.ndarray = new & ~_usual_novelty(report, logs)
    return appeared


def _usual_novelty(report: Report, logs: np.ndarray) -> np.ndarray:
    """(S,): whether patterns at least as large came new to the service once a day or more in the window.

    Where every day brings a hundred new patterns, a new pattern is no news. Counted over the second half of the
    service's history: at its start everything is new.
    """
    usual = np.zeros(len(logs), dtype=bool)
    totals = np.nan_to_num(report.series.window).sum(axis=2)
    has = report.expectation.has
    patterns = np.flatnonzero((report.scope == "pattern") & report.seen)
    first = (totals[patterns] > 0).argmax(axis=1) if len(patterns) else np.zeros(0, dtype=np.int64)
    service = report.parent[patterns]
    nth_day = np.cumsum(has, axis=1)
    total_days = has.sum(axis=1)
    late = nth_day[service, first] > np.maximum(total_days[service] / 2, report.settings.min_days)
    size = totals[patterns, first]
    for s in np.unique(report.parent[report.tested & ~report.seen]).tolist():
        days = int(total_days[s] - max(total_days[s] // 2, report.settings.min_days))
        if days < 1:
            continue
        sizes = np.sort(size[late & (service == s)])
        of_service = (report.parent == s) & ~report.seen
        at_least = len(sizes) - np.searchsorted(sizes, logs[of_service], side="left")
        usual[of_service] = at_least >= days
    return usual


def _appearances(report: Report, appeared: np.ndarray, silent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, z) of new and vanished patterns, 1 and 0 elsewhere; a silence that is not regular's end is no anomaly."""
    n, settings, e = len(report.scope), report.settings, report.expectation
    p, z = np.ones(n), np.zeros(n)
    new = np.flatnonzero(appeared)
    days = np.maximum(np.where(e.days[new] > 0, e.days[new], history_days(report.series)), 1)
    p[new], z[new] = statistics.tail(
        report.today[new].sum(axis=1),
        np.zeros(len(new)),
        1.0 / days,
        np.full(len(new), _NEW_DISPERSION),
        np.full(len(new), 1e9),
        report.log_weight[new],
        upper=True,
    )
    gone = np.flatnonzero(silent & _expected_back(report) & (report.mean.sum(axis=1) >= settings.least_logs))
    length = statistics.length_index(report.hours)
    p[gone], z[gone] = statistics.tail(
        np.zeros(len(gone)),
        report.mean[gone].sum(axis=1),
        e.mean_weight[gone],
        e.dispersion[gone, length],
        e.df[gone, length],
        report.log_weight[gone],
        upper=False,
    )
    p[gone] = np.maximum(p[gone], silent_by_chance(report, gone))
    return p, z


def _expected_back(report: Report) -> np.ndarray:
    """(S,): series that had logs on nearly all days when they should have, the last of them too, with their service.

    Days like today are meant: those that the others say should have had a part of what today should. A pattern of
    working days is none the less regular, and what was silent already is not told again.
    """
    e, settings = report.expectation, report.settings
    if not e.has.shape[1]:
        return np.zeros(len(e.has), dtype=bool)
    had = np.nan_to_num(report.series.window).sum(axis=2) > 0
    due = e.has & (e.left_out.sum(axis=2) >= _DUE * e.mean.sum(axis=1, keepdims=True))
    times = (had & due).sum(axis=1)
    regular = (times >= settings.regular * due.sum(axis=1)) & (times >= settings.min_days)
    last = due.shape[1] - 1 - due[:, ::-1].argmax(axis=1)
    service_silent = e.stopped & (report.today[report.parent].sum(axis=1) == 0)
    back: np.ndarray = regular & had[np.arange(len(had)), last] & ~service_silent
    return back


def _whole(report: Report, s: int, new: bool, p_value: float, q_value: float, z: float) -> Finding:
    """A pattern that is new or has vanished."""
    observed = float(report.today[s].sum())
    if new:
        active = np.flatnonzero(report.today[s] > 0).tolist()
        kind, start, end, expected = NEW_PATTERN, active[0], active[-1] + 1, 0.0
        service = float(report.today[report.parent[s]].sum())
        days = int(report.expectation.days[report.parent[s]]) or history_days(report.series)
    else:
        active = np.flatnonzero(report.mean[s] >= 0.5).tolist() or list(range(report.hours))
        kind, start, end, expected = VANISHED_PATTERN, 0, report.hours, float(report.mean[s].sum())
        service = float(report.mean[report.parent[s]].sum())
        days = int(report.expectation.days[s])
    return Finding(
        series=s,
        kind=kind,
        start=start,
        end=end,
        observed=observed,
        expected=expected,
        p_value=p_value,
        q_value=q_value,
        z=z,
        evidence=tuple(active),
        window_days=days,
        error_share=float(report.error_share[s]),
        service_share=max(observed, expected) / service if service > 0 else 1.0,
    )


def _stretches(
    report: Report, s: int, kind: str, p: np.ndarray, z: np.ndarray, by_share: np.ndarray, crit: float
) -> list[Run]:
    upper = kind != RATE_DROP
    today, mean = report.today[s], report.mean[s]
    service, usual_service = report.today[report.parent[s]], report.mean[report.parent[s]]
    fitting = np.divide(mean * service, usual_service, out=mean.copy(), where=usual_service > 0)
    hour = report.expectation.dispersion[s, 0]

    def deviates(expected: np.ndarray) -> np.ndarray:
        return deviating(today, expected, np.sqrt(report.log_weight[s] * expected + hour * expected**2), upper)

    hidden = hidden_hours(report.series, report.hours)[0 if upper else 1][s]

    def large(start: int, end: int) -> bool:
        observed, expected = today[start:end].sum(), (fitting if by_share.any() else mean)[start:end].sum()
        much, little = (observed, expected) if upper else (expected, observed)
        return bool(_much_more(report, much, little + hidden[start:end].sum()))

    by_share = by_share & upper
    return separate(report.spans, p, z, by_share, crit, deviates(mean), deviates(fitting), large)


def _run_finding(report: Report, s: int, kind: str, run: Run, q_value: float) -> Finding:
    hours = slice(run.start, run.end)
    observed, usual = float(report.today[s, hours].sum()), float(report.mean[s, hours].sum())
    service, usual_service = (float(m[report.parent[s], hours].sum()) for m in (report.today, report.mean))
    share, usual_share = None, None
    if kind == ERROR_SURGE and service > 0 and usual_service > 0:
        share, usual_share = min(observed / service, 1.0), min(usual / usual_service, 1.0)
    by_share = run.by_share and usual_share is not None
    expected = service * (usual_share or 0.0) if by_share else usual
    return Finding(
        series=s,
        kind=kind,
        start=run.start,
        end=run.end,
        observed=observed,
        expected=expected,
        p_value=run.p_value,
        q_value=q_value,
        z=run.z,
        evidence=run.evidence,
        window_days=int(report.expectation.days[s]),
        error_share=float(report.error_share[s]),
        service_share=usual / usual_service if usual_service > 0 else 1.0,
        share=share,
        usual_share=usual_share,
        by_share=by_share,
    )
