"""Counts over time out of raw rows: a day and the window before it as series by hour.

What belongs here: which row counts towards which series, and how a message of an earlier day finds its pattern of
today. What a series says is read in `lipservice_dagster.core.anomalies`.

Days are never joined on signatures (a template changes as evidence grows): a message of the window belongs to today's
signature if the same masked message does, else to the template of today that matches it. What no template of today
matches was in the window and is not today; such messages are mined by themselves, so that one pattern that fell silent
is one series and not one for each of its messages. Patterns that are one statement, reworded or with another name in
it, are one series (`lipservice_dagster.core.rewording`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pandas as pd
import scipy

from lipservice_dagster.core.frames import ERROR_SEVERITIES, HOURS, REST_ID, hours_matrix
from lipservice_dagster.core.rewording import ERRORS, Life, continued
from lipservice_sampler.text import signature as signature_of

KEYS = ("service", "environment", "scope", "subject", "template")
"""Columns of `Series.keys`."""

SEVERITY_CLASSES = dict.fromkeys(ERROR_SEVERITIES, "error") | {"warn": "warn"}
"""Subject of the ``severity`` scope by severity; the other severities have no series of their own."""

Joined = Mapping[tuple[str, str, str], tuple[tuple[str, str], ...]]
"""By service, environment and signature of a pattern: (signature, template) of those that are counted with it."""

_SUMS = 4
_CLASSES = dict.fromkeys(ERROR_SEVERITIES, 2) | {"warn": 1}


@dataclass(frozen=True)
class Hidden:
    """Weighted logs of S series that are counted in rest-rows, at most: all those of the rest-rows of the same service,
    environment and severity class for a pattern, 0 for services and severities, which have them among their own.

    ``today`` (S, 24); ``usual`` (S, 24), the mean of the window's days; ``most`` (S,), the window's fullest day.
    """

    today: np.ndarray
    usual: np.ndarray
    most: np.ndarray


@dataclass(frozen=True)
class Series:
    """S count series over today and D earlier days; counts are weighted logs.

    ``keys``: one row a series (columns `KEYS`), sorted, index 0 … S-1. ``scope`` is ``service`` (all logs of a service
    and environment, subject ''), ``severity`` (subject ``error``, which is error and fatal, or ``warn``) or ``pattern``
    (subject is the signature). Rest-rows count in their service and severity; they are no pattern.

    ``days``: the D calendar days of the window's axis in order, none left out. ``today``: (S, 24). ``window``:
    (S, D, 24); NaN on days that were not materialised, 0 where a materialised day has no logs.

    ``today_weight`` (S, 24) and ``window_weight`` (S, D): what one stored log of the series stands for, by hour and by
    day (Σw²/Σw over its logs; 1 where nothing was sampled away), NaN where it has none. ``error_share`` (S, 24): the
    share of its logs, of the hour or where that has none in the window, that are error or fatal. Either of today's may
    be (S,) where it is the same at all hours. Without these three, logs count as unsampled and as no errors.

    ``hidden``: what the rest-rows of its service hold that may be of each pattern; None where there is no rest-row.

    ``joined``: the patterns that are one statement with another and are counted with it, under the one that has the
    most logs today; they have no key of their own.
    """

    keys: pd.DataFrame
    days: tuple[date, ...]
    today: np.ndarray
    window: np.ndarray
    today_weight: np.ndarray | None = None
    window_weight: np.ndarray | None = None
    error_share: np.ndarray | None = None
    hidden: Hidden | None = None
    joined: Joined = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.keys), len(self.days), HOURS)
        if self.today.shape != (shape[0], HOURS) or self.window.shape != shape:
            raise ValueError(
                f"series of {shape[0]} keys and {shape[1]} days need today {(shape[0], HOURS)} and window {shape}, "
                f"got {self.today.shape} and {self.window.shape}"
            )


def hidden_hours(series: Series, hours: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, hours) twice: what rest-rows may hold of each series, on a usual day and today; see `Hidden`."""
    if series.hidden is None:
        return np.zeros((len(series.keys), hours)), np.zeros((len(series.keys), hours))
    return series.hidden.usual[:, :hours], series.hidden.today[:, :hours]


def build_series(
    today: pd.DataFrame,
    window: pd.DataFrame,
    days: Sequence[date],
    members: pd.DataFrame,
    signatures: pd.DataFrame,
    match: Callable[[str, list[str]], list[str | None]],
    mine: Callable[[str, list[str]], list[str]] | None = None,
    joined: Joined | None = None,
) -> Series:
    """The count series of one team: services, severities and patterns, over today and the window.

    ``today`` and ``window``: `frames.RAW_LOGS` rows of the day and of earlier days. ``days``: the days of the window
    that are materialised; those between them that are not become NaN. ``members`` and ``signatures``: today's
    (`frames.SIGNATURE_MEMBERS`, `frames.SIGNATURES`).

    ``match(service, messages)`` gives today's template of each message or ``None``; it is asked once for each distinct
    message of the window that is not among today's members. ``mine(service, messages)`` gives a template for each
    message that matched none; without it each such message is its own pattern. ``joined``: patterns to count together,
    as another `Series` has them; without it this is told from the rows.

    The order of rows changes nothing. Raises ``ValueError`` for rows of the window on a day that is not in ``days``,
    for a message of today without a signature, and for a ``match`` or ``mine`` that answers in another number than
    asked.
    """
    axis = _calendar(days)
    at = {day: i for i, day in enumerate(axis)}
    known = set(days)
    strays = sorted({str(day) for day in window["day"].unique() if day not in known}) if len(window) else []
    if strays:
        raise ValueError(f"the window has rows of days that are not materialised: {', '.join(strays[:5])}")
    order = ["day", "service", "environment", "severity", "message_id"]
    today = today.sort_values(order[1:], kind="stable").reset_index(drop=True)
    window = window.sort_values(order, kind="stable").reset_index(drop=True)

    signature_by_message, templates = _known(members, signatures)
    today_signature = _look_up(today, signature_by_message)
    nameless = today_signature.isna().to_numpy() & (today["message_id"] != REST_ID).to_numpy()
    if nameless.any():
        row = today[nameless].iloc[0]
        raise ValueError(
            f"message {row['message_id']} of service {row['service']!r} is in today's raw logs but in no signature: "
            "make the signatures of this day again"
        )
    _assign(window, signature_by_message, templates, match, mine)
    window_signature = _look_up(window, signature_by_message)

    if joined is not None:
        today_signature = _renamed(today, today_signature, joined)
        window_signature = _renamed(window, window_signature, joined)
    codes, keys = _factorise(today, today_signature, window, window_signature)
    n, n_today, n_window = len(keys), len(today), len(window)
    today_hours, window_hours = hours_matrix(today), hours_matrix(window)
    day_index = np.array([at[day] for day in window["day"].tolist()], dtype=np.int64)
    weight_today, error_today = _weight(today)[:, None], _is_error(today)[:, None]
    weights_today, weights_window = _stands_for(today), _stands_for(window)
    counts = np.zeros((n, HOURS))
    history = np.zeros((n, len(axis), HOURS))
    squares, errors = np.zeros((n, HOURS)), np.zeros((n, HOURS))
    sums_today = np.zeros((n, _SUMS))
    sums_window = np.zeros((n, len(axis), _SUMS))
    for code in codes:
        counts += _sum_by(code[:n_today], today_hours, n)
        squares += _sum_by(code[:n_today], today_hours * weight_today, n)
        errors += _sum_by(code[:n_today], today_hours * error_today, n)
        sums_today += _sum_by(code[:n_today], weights_today, n)
        if n_window:
            cell = np.where(code[n_today:] < 0, -1, code[n_today:] * len(axis) + day_index)
            history += _sum_by(cell, window_hours, n * len(axis)).reshape(history.shape)
            sums_window += _sum_by(cell, weights_window, n * len(axis)).reshape(sums_window.shape)

    keys["template"] = [
        templates.get(subject, "") if scope == "pattern" else ""
        for scope, subject in zip(keys["scope"], keys["subject"], strict=True)
    ]
    if joined is None:
        to = _one_statement(keys, counts, history, sums_today, sums_window)
        keys, joined = _names_of(keys, to)
        counts, history, squares, errors, sums_today, sums_window = (
            _added(x, to) for x in (counts, history, squares, errors, sums_today, sums_window)
        )
    history[:, [i for i, day in enumerate(axis) if day not in known]] = np.nan
    before = _ratio(sums_window[:, :, 2].sum(axis=1), sums_window[:, :, 0].sum(axis=1))[:, None]
    return Series(
        keys=keys[list(KEYS)],
        days=axis,
        today=counts,
        window=history,
        today_weight=_ratio(squares, counts),
        window_weight=_ratio(sums_window[:, :, 1], sums_window[:, :, 0]),
        error_share=np.nan_to_num(np.where(counts > 0, _ratio(errors, counts), before)),
        hidden=_hidden(keys, sums_today + sums_window.sum(axis=1), today, window, len(known)),
        joined=joined,
    )


def _hidden(
    keys: pd.DataFrame, sums: np.ndarray, today: pd.DataFrame, window: pd.DataFrame, n_days: int
) -> Hidden | None:
    """What rest-rows may hold of each series with these keys and ``sums`` of what its logs are."""
    rests = [rows[(rows["message_id"] == REST_ID).to_numpy()] for rows in (today, window)]
    if not sum(map(len, rests)):
        return None
    by_day: dict[tuple[str, str, int], dict[date | None, np.ndarray]] = {}
    for rows, is_today in zip(rests, (True, False), strict=True):
        columns = (rows[c].tolist() for c in ("service", "environment", "severity", "day"))
        for service, environment, severity, day, hours in zip(*columns, hours_matrix(rows), strict=True):
            place = by_day.setdefault((service, environment, _CLASSES.get(severity, 0)), {})
            key = None if is_today else day
            place[key] = place.get(key, 0.0) + hours
    hidden = Hidden(np.zeros((len(keys), HOURS)), np.zeros((len(keys), HOURS)), np.zeros(len(keys)))
    columns = (keys[c].tolist() for c in ("service", "environment", "scope"))
    for i, (service, environment, scope, kind) in enumerate(zip(*columns, _severity_class(sums).tolist(), strict=True)):
        days = by_day.get((service, environment, kind)) if scope == "pattern" else None
        if days:
            before = [hours for day, hours in days.items() if day is not None]
            hidden.today[i] = days.get(None, 0.0)
            hidden.usual[i] = sum(before) / max(n_days, 1)
            hidden.most[i] = max((hours.sum() for hours in before), default=0.0)
    return hidden


def _one_statement(
    keys: pd.DataFrame, counts: np.ndarray, history: np.ndarray, sums_today: np.ndarray, sums_window: np.ndarray
) -> np.ndarray:
    """(n,): the series that each is counted with, itself where it is alone; of one statement the one with most logs
    today."""
    to = np.arange(len(keys))
    at = np.flatnonzero((keys["scope"] == "pattern").to_numpy())
    if not len(at):
        return to
    there = np.concatenate([(history[at] > 0).reshape(len(at), -1), counts[at] > 0], axis=1)
    in_window, today = (np.asarray(part.any(axis=1)) for part in (there[:, :-HOURS], there[:, -HOURS:]))
    if not (in_window.any() and today.any()):
        return to
    scope, _ = pd.MultiIndex.from_frame(keys.iloc[at][["service", "environment"]]).factorize()
    life = Life(
        scope=scope,
        severity=_severity_class(sums_today[at] + sums_window[at].sum(axis=1)),
        first=there.argmax(axis=1),
        last=there.shape[1] - 1 - there[:, ::-1].argmax(axis=1),
        in_window=in_window,
        today=today,
    )
    group = continued(keys["template"].iloc[at].tolist(), life)
    logs = counts[at].sum(axis=1)
    most: dict[int, int] = {}
    for i in np.lexsort((keys["subject"].iloc[at].to_numpy().astype(str), -logs)).tolist():
        most.setdefault(int(group[i]), i)
    to[at] = at[[most[g] for g in group.tolist()]]
    return to


def _severity_class(sums: np.ndarray) -> np.ndarray:
    """(n,): 2 for patterns of errors, 1 for those of warnings, 0 for others, by what most of their logs are."""
    logs, errors, warnings = sums[:, 0], sums[:, 2], sums[:, 3]
    return np.where(2 * errors >= logs, ERRORS, np.where(2 * warnings >= logs, 1, 0))


def _renamed(rows: pd.DataFrame, signature: pd.Series, joined: Joined) -> pd.Series:
    """The signature that each row is counted with by ``joined``."""
    if not joined:
        return signature
    to = {(service, env, s): name for (service, env, name), others in joined.items() for s, _ in others}
    pairs = zip(rows["service"].tolist(), rows["environment"].tolist(), signature.tolist(), strict=True)
    return pd.Series([to.get(key, key[2]) for key in pairs], dtype=object)


def _names_of(keys: pd.DataFrame, to: np.ndarray) -> tuple[pd.DataFrame, Joined]:
    """The keys of the series that are left, and what is counted with them."""
    others: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    columns = [keys[c].tolist() for c in ("service", "environment", "subject", "template")]
    service, environment, subject, template = columns
    for i in np.flatnonzero(to != np.arange(len(to))).tolist():
        name = (service[i], environment[i], subject[to[i]])
        others.setdefault(name, []).append((subject[i], template[i]))
    left = to == np.arange(len(to))
    return keys[left].reset_index(drop=True), {name: tuple(of) for name, of in others.items()}


def _added(values: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Rows of (n, …) added to those they are counted with, which are left."""
    away = np.flatnonzero(to != np.arange(len(to)))
    if not len(away):
        return values
    np.add.at(values, to[away], values[away])
    kept: np.ndarray = np.delete(values, away, axis=0)
    return kept


def _calendar(days: Sequence[date]) -> tuple[date, ...]:
    if not days:
        return ()
    first, last = min(days), max(days)
    return tuple(first + timedelta(days=i) for i in range((last - first).days + 1))


def _known(members: pd.DataFrame, signatures: pd.DataFrame) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    by_message = dict(
        zip(
            zip(members["service"].tolist(), members["message_id"].tolist(), strict=True),
            members["signature"].tolist(),
            strict=True,
        )
    )
    return by_message, dict(zip(signatures["signature"].tolist(), signatures["template"].tolist(), strict=True))


def _look_up(rows: pd.DataFrame, signature_by_message: dict[tuple[str, str], str]) -> pd.Series:
    pairs = zip(rows["service"].tolist(), rows["message_id"].tolist(), strict=True)
    return pd.Series([None if pair[1] == REST_ID else signature_by_message.get(pair) for pair in pairs], dtype=object)


def _assign(
    window: pd.DataFrame,
    signature_by_message: dict[tuple[str, str], str],
    templates: dict[str, str],
    match: Callable[[str, list[str]], list[str | None]],
    mine: Callable[[str, list[str]], list[str]] | None,
) -> None:
    """Adds the window's messages to both maps."""
    for service, ids, messages in _unassigned(window, signature_by_message):
        matched = match(service, messages)
        _same_length("match", service, messages, matched)
        rest = [message for message, template in zip(messages, matched, strict=True) if template is None]
        mined = mine(service, rest) if mine is not None and rest else rest
        _same_length("mine", service, rest, mined)
        from_rest = iter(mined)
        for message_id, template in zip(ids, matched, strict=True):
            text = next(from_rest) if template is None else template
            name = signature_of(service, text)
            signature_by_message[service, message_id] = name
            templates.setdefault(name, text)


def _unassigned(
    window: pd.DataFrame, signature_by_message: dict[tuple[str, str], str]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """(service, message ids, messages) of distinct messages without a signature, in a fixed order."""
    distinct: dict[str, dict[str, str]] = {}
    columns = (window[c].tolist() for c in ("service", "message_id", "message"))
    for service, message_id, message in zip(*columns, strict=True):
        if message_id != REST_ID and (service, message_id) not in signature_by_message:
            distinct.setdefault(service, {})[message_id] = message
    for service in sorted(distinct):
        ids = sorted(distinct[service])
        yield service, ids, [distinct[service][i] for i in ids]


def _same_length(name: str, service: str, asked: Sequence[object], answered: Sequence[object]) -> None:
    if len(asked) != len(answered):
        raise ValueError(f"{name}() was asked {len(asked)} messages of {service!r} and answered {len(answered)}")


def _factorise(
    today: pd.DataFrame, today_signature: pd.Series, window: pd.DataFrame, window_signature: pd.Series
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """For each scope the series of each row (today's rows, then the window's; -1 for none), and the series' keys."""
    both = pd.concat([today[["service", "environment", "severity"]], window[["service", "environment", "severity"]]])
    subjects = {
        "pattern": np.concatenate([today_signature.to_numpy(), window_signature.to_numpy()]),
        "service": np.full(len(both), "", dtype=object),
        "severity": np.array([SEVERITY_CLASSES.get(severity) for severity in both["severity"].tolist()], dtype=object),
    }
    codes: list[np.ndarray] = []
    keys: list[pd.DataFrame] = []
    offset = 0
    service, environment = (both[c].to_numpy(dtype=object) for c in ("service", "environment"))
    for scope, subject in subjects.items():
        has = np.array([s is not None for s in subject], dtype=bool)
        code, index = pd.MultiIndex.from_arrays([service[has], environment[has], subject[has]]).factorize(sort=True)
        out = np.full(len(both), -1, dtype=np.int64)
        out[has] = code + offset
        codes.append(out)
        frame = pd.DataFrame(list(index), columns=["service", "environment", "subject"])
        frame["scope"] = scope
        keys.append(frame)
        offset += len(frame)
    table = pd.concat(keys, ignore_index=True)
    order = np.lexsort([table[c].to_numpy().astype(str) for c in ("subject", "scope", "environment", "service")])
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    codes = [np.where(code < 0, -1, place[code] if len(place) else code) for code in codes]
    return codes, table.iloc[order].reset_index(drop=True)


def _weight(rows: pd.DataFrame) -> np.ndarray:
    """(rows,): what one stored log of each row stands for."""
    weighted = rows["weighted_logs"].to_numpy(dtype=float)
    logs = rows["logs"].to_numpy(dtype=float)
    weight: np.ndarray = np.maximum(np.divide(weighted, logs, out=np.ones_like(weighted), where=logs > 0), 1.0)
    return weight


def _is_error(rows: pd.DataFrame) -> np.ndarray:
    is_error: np.ndarray = rows["severity"].isin(ERROR_SEVERITIES).to_numpy(dtype=bool)
    return is_error


def _stands_for(rows: pd.DataFrame) -> np.ndarray:
    """(rows, 4): weighted logs, those times the weight of one stored log, those that are errors, and warnings."""
    weighted = rows["weighted_logs"].to_numpy(dtype=float)
    is_warning = (rows["severity"] == "warn").to_numpy(dtype=bool)
    return np.stack([weighted, weighted * _weight(rows), weighted * _is_error(rows), weighted * is_warning], axis=1)


def _sum_by(code: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """(n, columns): sums of the rows of each code; codes below 0 are left out. Terms are added in row order."""
    kept = np.flatnonzero(code >= 0)
    indicator = scipy.sparse.csr_matrix((np.ones(len(kept)), (code[kept], kept)), shape=(n, len(code)))
    return np.asarray(indicator @ values)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
