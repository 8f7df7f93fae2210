"""The backtest: yesterday's policy over today, day after day, and the gate that reads what came of it.

What belongs here: the figures of one replayed day (`replay_day`), whether the day's anomalies are found again on what
would be left (`found_again`), and the verdict over the replayed days of the window (`judge`). How a policy decides over
a day stands in `core.replay`.

**What is replayed is a method.** The policy of a day was made from that day, so it cannot be tested on it. The policy
of the day before was made the same way and has not seen the day; replayed over it, day by day, the method shows what it
does on days it had not seen. If that passes, the newest policy made by it may be released.

**The overlay of a replayed day.** Decided with is what people said in each of the day's hours, which a day that is over
does not change any more, and the boosts that the stored reports of the days before raise, for the hours they reach into
the day. Boosts of the day's own report are none: whether somebody looked at the day while it was open is no input.

**The budget of a replayed day** is the greatest of three:

* what was asked for. A target reduction allows a share of the day's bytes, whatever they are. An amount (bytes, logs,
  money) stays that amount, however much the day logged: a method that keeps twice as much on a day of twice the volume
  has passed it. It is the service's part of its team's budget, as the policy of the day before counted it.
* what floors, patterns kept whole and the ramp need: as a share of the volume, since all of these follow it.
* what the day's own policy says is in force, since new, rare and anomalous patterns and errors of the day must be kept
  whole whatever the budget.

What boosts keep besides is no fault of the policy, and is added. A budget of logs stands in bytes of the logs that
would be kept: it is passed in bytes by the share by which it is passed in logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lipservice_dagster.core import frames
from lipservice_dagster.core.anomalies import Detector, detect_by
from lipservice_dagster.core.budget import size
from lipservice_dagster.core.overlay import OverlayHours
from lipservice_dagster.core.replay import Replay, figures, replay, thinned
from lipservice_dagster.core.series import Series, build_series

_SCOPE = ["service", "environment"]
_SERIES = [*_SCOPE, "scope", "subject"]


class GateSettings(BaseModel):
    """What a service's method must have shown before a policy of it is released. All errors kept: always.

    ``day_excess`` lies above what a method that is right shows on a single day. Over ten demo days of two teams, as
    they are and with events put in, 162 service-days a budget: where a share is saved at most 22% over, with the day
    before's policy; where an amount is kept to, as volume follows the week, up to 66% on Mondays, which the other days
    make good (at most 5% over, all together). Twice a budget on a day is no rhythm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(default=7, ge=1, le=90, description="Latest days that are replayed.")
    min_days: int = Field(default=3, ge=1, le=90, description="Replayed days below which nothing is released.")
    patterns_share: float = Field(default=0.99, ge=0, le=1, description="Least share of patterns with a log kept.")
    budget_excess: float = Field(
        default=0.05, ge=0, description="Share by which the days together may exceed their budgets."
    )
    day_excess: float = Field(default=0.75, ge=0, description="Share by which each day may exceed its own.")
    anomalies_share: float = Field(default=0.95, ge=0, le=1, description="Least share of anomalies found again.")
    few_anomalies: int = Field(default=5, ge=0, description="With fewer anomalies their number counts, not the share.")
    few_missed: int = Field(default=1, ge=0, description="So many of few anomalies may be missed.")
    added: int = Field(
        default=1,
        ge=0,
        description="So many anomalies may be found that were none; of many real ones, as large a share as may be "
        "missed.",
    )

    @model_validator(mode="after")
    def _enough_days(self) -> GateSettings:
        if self.min_days > self.days:
            raise ValueError(f"min_days is {self.min_days} with days {self.days}: so many days are never replayed")
        return self


def replay_day(
    day: date,
    raw: pd.DataFrame,
    members: pd.DataFrame,
    before: Mapping[tuple[str, str], Mapping[str, Any]],
    own: Mapping[tuple[str, str], Mapping[str, Any]],
    said: Mapping[tuple[str, str], OverlayHours] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One team's policies of the day before over its logs of ``day``; and one draw of what they would leave.

    Args:
        day: the day that is replayed.
        raw: its rows of `frames.RAW_LOGS`; the order changes nothing.
        members: its rows of `frames.SIGNATURE_MEMBERS`.
        before: documents of the day before by service and environment.
        own: documents of the day itself, for the budget in force on it.
        said: overlays of the day's hours by service and environment; the module's text says of what.

    Returns rows of `frames.REPLAYS`, one a service and environment that has a policy of the day before, with the
    columns of anomalies at 0 (see `found_again`); and ``raw`` thinned, where services without such a policy are whole.
    """
    raw = raw.sort_values([*_SCOPE, "severity", "message_id"], ignore_index=True)
    signature = {
        (service, message_id): name
        for service, message_id, name in zip(
            members["service"], members["message_id"], members["signature"], strict=True
        )
        if message_id != frames.REST_ID
    }
    rows, left = [], []
    for scope, part in raw.groupby(_SCOPE, sort=True):
        service, environment = key = (str(scope[0]), str(scope[1]))
        policy = before.get(key)
        if policy is None:
            left.append(part)
            continue
        hours = (said or {}).get(key)
        found: Replay = replay(part, policy, hours)
        patterns = np.array([signature.get((service, m)) for m in part["message_id"]], dtype=object)
        counted = figures(part, found, patterns)
        plain = counted
        if hours is not None and hours.boosted:
            plain = figures(part, replay(part, policy, hours.without_boosts()), patterns)
        left.append(thinned(part, found, f"{part['team_id'].iloc[0]}|{day}|{service}|{environment}"))
        rows.append(
            {
                "team_id": part["team_id"].iloc[0],
                "day": day,
                "service": service,
                "environment": environment,
                "version": policy["version"],
                "budget_bytes": _budget(policy, own.get(key), plain) + counted["kept_bytes"] - plain["kept_bytes"],
                "anomalies": 0,
                "anomalies_found": 0,
                "anomalies_added": 0,
                **counted,
            }
        )
    return pd.DataFrame(rows, columns=list(frames.REPLAYS)), pd.concat(left) if left else raw


def found_again(
    replays: pd.DataFrame,
    left: pd.DataFrame,
    series: Series,
    members: pd.DataFrame,
    signatures: pd.DataFrame,
    anomalies: pd.DataFrame,
    detector: Detector | None = None,
) -> pd.DataFrame:
    """The replays of one team-day with how many of its anomalies the detector finds on what was left.

    An anomaly is found again where the same kind is reported of the same series in hours that overlap. What is reported
    besides is ``anomalies_added``.

    Args:
        replays: rows of `frames.REPLAYS` of the team-day.
        left: its thinned rows, both from `replay_day`.
        series: its series before thinning, with their window.
        members: its rows of `frames.SIGNATURE_MEMBERS`.
        signatures: its rows of `frames.SIGNATURES`.
        anomalies: its rows of `frames.ANOMALIES`.
        detector: what found them.
    """
    if replays.empty:
        return replays
    team_id, day = int(replays["team_id"].iloc[0]), replays["day"].iloc[0]
    again = detect_by(_thin(series, left, members, signatures), team_id=team_id, day=day, detector=detector)
    before, after = _spans(anomalies), _spans(again)
    rows = []
    for row in replays.to_dict("records"):
        key = (row["service"], row["environment"])
        mine, theirs = before.get(key, []), after.get(key, [])
        rows.append(
            row
            | {
                "anomalies": len(mine),
                "anomalies_found": sum(any(_same(a, b) for b in theirs) for a in mine),
                "anomalies_added": sum(not any(_same(a, b) for a in mine) for b in theirs),
            }
        )
    return pd.DataFrame(rows, columns=list(frames.REPLAYS))


def judge(replays: pd.DataFrame, day: date, settings: GateSettings) -> dict[str, Any]:
    """The verdict over a service's method on ``day``: the columns of `frames.BACKTESTS` but its key and fingerprint.

    ``replays``: rows of `frames.REPLAYS` of one service and environment, by policies for one budget; those of the last
    ``settings.days`` days that had logs count, their figures summed. The budget is also judged day by day, as a day far
    over it is not made good by those under it. ``passed`` where every limit holds. ``learning`` where too few days
    could be replayed, or none of the latest ``settings.min_days``: what was shown before them is of a method that has
    changed since. ``why`` names what failed and by how much, and which days were left out.
    """
    first = day - timedelta(days=settings.days - 1)
    rows = replays[(replays["day"] >= first) & (replays["day"] <= day) & (replays["logs"] != 0)]
    total = {c: float(rows[c].sum()) for c in _SUMMED}
    weights = rows["logs"].to_numpy(float)
    spread = np.sqrt(((rows["count_error"].to_numpy(float) * weights) ** 2).sum())
    replayed = set(rows["day"])
    unlearned = _unlearned(replayed, day, settings)
    failures = [] if unlearned else [*_broken(rows), *_failures(total, settings), *_days_over(rows, settings)]
    return {
        **total,
        "days": len(rows),
        "count_error": float(spread / total["logs"]) if total["logs"] else 0.0,
        "pattern_error": float(rows["pattern_error"].median()) if len(rows) else 0.0,
        "pattern_error_most": float(rows["pattern_error_most"].max()) if len(rows) else 0.0,
        "passed": not unlearned and not failures,
        "learning": unlearned is not None,
        "why": _why(total, failures, unlearned, replayed, [first + timedelta(n) for n in range(settings.days)]),
    }


_SUMMED = (
    "logs",
    "bytes",
    "kept_logs",
    "kept_bytes",
    "budget_bytes",
    "errors",
    "kept_errors",
    "patterns",
    "kept_patterns",
    "anomalies",
    "anomalies_found",
    "anomalies_added",
)


def _budget(before: Mapping[str, Any], own: Mapping[str, Any] | None, day: Mapping[str, float]) -> float:
    """Bytes that may be kept of a day with these figures; the module's text says why."""
    expected = before.get("expected", {})
    if expected.get("budget_kind") is None:  # keep-all asks for nothing
        return day["bytes"]
    unit = "logs" if expected.get("budget_logs") is not None else "bytes"
    asked, needed = float(expected[f"budget_{unit}"]), float(expected["budget_needed"])
    grown = day[unit] / float(expected[unit]) if expected[unit] else 1.0
    allowed = max(asked * grown if expected["budget_kind"] == "reduction" else asked, needed * grown)
    theirs = (own or {}).get("expected", {})
    if theirs.get(f"budget_{unit}") is not None:
        allowed = max(allowed, float(theirs[f"budget_{unit}"]), float(theirs["budget_needed"]))
    if unit == "bytes":
        return min(allowed, day["bytes"])
    return allowed * day["kept_bytes"] / day["kept_logs"] if day["kept_logs"] else day["bytes"]


def _unlearned(replayed: set[date], day: date, settings: GateSettings) -> str | None:
    """Why the replayed days are not enough to judge by, in words; None where they are."""
    if len(replayed) < settings.min_days:
        return f"Only {len(replayed)} of the {settings.min_days} days that a release needs could be replayed"
    if max(replayed) <= day - timedelta(days=settings.min_days):
        return (
            f"None of the latest {settings.min_days} days could be replayed, the newest that could is {max(replayed)}"
        )
    return None


def _broken(rows: pd.DataFrame) -> list[str]:
    """Figures that are no numbers prove nothing: as no limit, they would pass every comparison."""
    return [
        f"{column} of {day} is {value}, which is no figure"
        for column in _SUMMED
        for day, value in zip(rows["day"], rows[column].astype(float), strict=True)
        if not np.isfinite(value)
    ]


def _days_over(rows: pd.DataFrame, settings: GateSettings) -> list[str]:
    return [
        f"on {day} {_over(kept, budget)}, {settings.day_excess:.0%} is allowed on a day"
        for day, kept, budget in zip(rows["day"], rows["kept_bytes"], rows["budget_bytes"], strict=True)
        if kept > (1 + settings.day_excess) * budget
    ]


def _over(kept: float, budget: float) -> str:
    over = kept / budget - 1 if budget else float("inf")
    return f"{size(kept)} would be kept where {size(budget)} are the budget in force: {over:.1%} over"


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 else "less than 0.01"


def _failures(total: Mapping[str, float], settings: GateSettings) -> list[str]:
    failures = []
    if (lost := total["errors"] - total["kept_errors"]) > 1e-6 * max(total["errors"], 1.0):
        failures.append(f"{_figure(lost)} of {_figure(total['errors'])} errors would be lost")
    if total["kept_patterns"] < settings.patterns_share * total["patterns"] - 1e-9:
        failures.append(
            f"{total['kept_patterns'] / total['patterns']:.2%} of {total['patterns']:,.0f} patterns would still be"
            f" seen, {settings.patterns_share:.2%} are wanted"
        )
    if total["kept_bytes"] > (1 + settings.budget_excess) * total["budget_bytes"]:
        failures.append(f"{_over(total['kept_bytes'], total['budget_bytes'])}, {settings.budget_excess:.0%} is allowed")
    missed = total["anomalies"] - total["anomalies_found"]
    told = f"{total['anomalies_found']:.0f} of {total['anomalies']:.0f} anomalies would be found again"
    if total["anomalies"] < settings.few_anomalies:
        if missed > settings.few_missed:
            failures.append(f"{told}, {settings.few_missed} may be missed")
    elif total["anomalies_found"] < settings.anomalies_share * total["anomalies"] - 1e-9:
        share = total["anomalies_found"] / total["anomalies"]
        failures.append(f"{told} ({share:.1%}), {settings.anomalies_share:.0%} are wanted")
    allowed = max(settings.added, (1 - settings.anomalies_share) * total["anomalies"] + 1e-9)
    if total["anomalies_added"] > allowed:
        failures.append(
            f"{total['anomalies_added']:.0f} anomalies would be reported because of sampling, {int(allowed)} may be"
        )
    return failures


def _why(
    total: Mapping[str, float],
    failures: Sequence[str],
    unlearned: str | None,
    replayed: set[date],
    window: Sequence[date],
) -> str:
    if unlearned is not None:
        text = unlearned
    elif failures:
        text = "Over {} days {}".format(len(replayed), "; ".join(failures))
    else:
        share = total["kept_bytes"] / total["bytes"] if total["bytes"] else 1.0
        text = (
            f"Over {len(replayed)} days all {total['errors']:,.0f} errors, {total['kept_patterns']:,.1f} of"
            f" {total['patterns']:,.0f} patterns and {total['anomalies_found']:.0f} of {total['anomalies']:.0f}"
            f" anomalies would be kept in {share:.1%} of the bytes"
        )
    missing = [str(d) for d in window if d not in replayed]
    if missing:
        text += (
            ". Left out, without logs or a policy of the day before from whole days and for the budget asked for:"
            f" {', '.join(missing)}"
        )
    return text + "."


def _thin(series: Series, left: pd.DataFrame, members: pd.DataFrame, signatures: pd.DataFrame) -> Series:
    """The series with today as it was left; the window stays."""
    n = len(series.keys)
    today, weight = np.zeros((n, frames.HOURS)), np.full((n, frames.HOURS), np.nan)
    share = np.zeros((n, frames.HOURS)) if series.error_share is None else series.error_share.copy()
    if len(left):
        thin = build_series(
            left,
            left.iloc[:0],
            (),
            members,
            signatures,
            lambda _, messages: [None] * len(messages),
            joined=series.joined,
        )
        places = pd.MultiIndex.from_frame(series.keys[_SERIES]).get_indexer(
            pd.MultiIndex.from_frame(thin.keys[_SERIES])
        )
        today[places] = thin.today
        weight[places] = thin.today_weight
        share[places] = thin.error_share
    return replace(series, today=today, today_weight=weight, error_share=share)


_Span = tuple[str, str, str, int, int]


def _spans(anomalies: pd.DataFrame) -> dict[tuple[str, str], list[_Span]]:
    """kind, scope, subject, start and end of each anomaly, by service and environment."""
    found: dict[tuple[str, str], list[_Span]] = {}
    for a in anomalies.itertuples(index=False):
        found.setdefault((a.service, a.environment), []).append((a.kind, a.scope, a.subject, a.start_hour, a.end_hour))
    return found


def _same(a: _Span, b: _Span) -> bool:
    return a[:3] == b[:3] and a[3] < b[4] and b[3] < a[4]
