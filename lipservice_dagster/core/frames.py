"""The columns of the frames that cross rooms, named in one place.

Every table by team-day starts with ``team_id`` (int) and ``day`` (``datetime.date``, UTC). ``logs`` and ``bytes`` count
what is stored; ``weighted_logs`` and ``weighted_bytes`` (floats) estimate what there was before sampling (Σ 1/p).
``hours`` is an array of 24 floats: weighted logs in each UTC hour of the day. ``severities`` is an array of six ints:
stored logs by severity in the order of `SEVERITIES`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SEVERITIES = ("trace", "debug", "info", "warn", "error", "fatal")
"""Severities in rising order; unknown text is read from the severity number, else as ``info``."""

ERROR_SEVERITIES = ("error", "fatal")

HOURS = 24

REST_ID = "rest"
REST_MESSAGE = "(rest: messages beyond the cap)"
"""The masked messages of a team-day beyond the cap, folded into one row a (service, environment, severity)."""

RAW_LOGS = (
    "team_id",
    "day",
    "service",
    "environment",
    "severity",
    "message_id",  # 16 hex digits, see lipservice_sampler.text.message_id
    "message",  # the masked message
    "logs",
    "bytes",
    "weighted_logs",
    "weighted_bytes",
    "hours",
    "first_seen",
    "last_seen",
    "example",  # the least body of the group, repaired and cut
)
"""One row a (service, environment, severity, masked message) of a team-day."""

SIGNATURES = (
    "team_id",
    "day",
    "service",
    "environment",
    "signature",  # 16 hex digits, hash of service and template
    "template",
    "logs",
    "bytes",
    "weighted_logs",
    "weighted_bytes",
    "hours",
    "severities",
    "messages",  # distinct masked messages
    "first_seen",
    "last_seen",
    "example",
)
"""One row a (service, environment, signature) of a team-day; templates are mined per service."""

SIGNATURE_MEMBERS = ("team_id", "day", "service", "message_id", "signature")
"""Which masked message belongs to which signature; its text, counts and hours stand in raw_logs."""

CLUSTERS = (
    "team_id",
    "day",
    "cluster",  # 16 hex digits, see core.clustering
    "label",
    "representative",  # signature of the member with most logs
    "template",  # its template
    "signatures",  # array of the members' signatures, sorted
    "services",  # array of their services, sorted
    "size",
    "logs",
    "bytes",
    "weighted_logs",
    "severities",
)
"""One row a family of patterns of a team-day."""

ANOMALY_REPORTS = (
    "team_id",
    "day",
    "hours",  # whole hours of the day that were judged, 0 to 24 (an int here)
    "window_days",  # days of the window that had logs
    "window_fingerprint",  # hash of the fingerprints of the days that were read
    "learning",  # true while there is too little history to judge
    "series",  # how many series were tested
    "anomalies",
    "high",
)
"""One row a team-day: what the report read and how much it found."""

ANOMALIES = (
    "team_id",
    "day",
    "service",
    "environment",
    "scope",  # service | severity | pattern
    "subject",  # '' | a severity class | a signature
    "template",  # of a pattern, else ''
    "kind",  # rate_spike | rate_drop | error_surge | new_pattern | vanished_pattern
    "start_hour",  # 0 to 23
    "end_hour",  # exclusive, 1 to 24
    "observed",
    "expected",
    "ratio",  # observed / expected; NULL where nothing was expected
    "z",
    "p_value",
    "confidence",  # in [0, 1]
    "severity",  # low | medium | high
    "explanation",
    "evidence_hours",  # array of the hours that deviate
)
"""One row an anomaly."""

POLICIES = (
    "team_id",
    "day",
    "service",
    "environment",
    "version",  # content hash of the document
    "document",  # the policy as JSON
    "logs",
    "bytes",
    "kept_logs",  # expected to be kept of `logs`
    "kept_bytes",
    "generated_by",
    "budget",  # that was asked for, see core.budget.key_of
    "goals_fingerprint",  # hash of its goals, which later days' ramps read
    "window_fingerprint",  # hash of the goals of the days before that its ramp read
)
"""One row a service and environment of a team-day."""

REPLAYS = (
    "team_id",
    "day",
    "service",
    "environment",
    "version",  # of the policy of the day before, which is replayed
    "logs",  # weighted, as all volumes here
    "bytes",
    "kept_logs",  # expected
    "kept_bytes",
    "budget_bytes",  # in force for the day
    "errors",
    "kept_errors",
    "patterns",
    "kept_patterns",  # expected number with at least one log kept
    "count_error",  # relative standard error of the service's rebuilt count
    "pattern_error",  # median over the sampled patterns
    "pattern_error_most",
    "anomalies",
    "anomalies_found",  # again, on what was left
    "anomalies_added",  # reported on what was left, and not before
)
"""One row a service and environment of a team-day over which a policy of the day before was replayed."""

BACKTESTS = (
    "team_id",
    "day",
    "service",
    "environment",
    "version",  # of the day's policy, which may be released if its method passed
    "passed",
    "learning",  # true while too few days could be replayed
    "why",
    "days",  # that were replayed
    *REPLAYS[5:],
    "window_fingerprint",  # of the replays that were read
)
"""One row a service and environment of a team-day; figures are summed over the replayed days."""

SAVINGS = (
    "team_id",
    "day",
    "service",
    "environment",
    "version",  # of the release in force at the end of the day
    "live_hours",  # of the day in which a release dropped logs
    "logs",  # weighted: what there was
    "bytes",
    "kept_logs",  # what is stored
    "kept_bytes",
    "expected_logs",  # what the releases in force should have kept
    "expected_bytes",
)
"""One row a service and environment of a whole team-day in which a release was live."""


def hours_matrix(frame: pd.DataFrame, column: str = "hours") -> np.ndarray:
    """The column of arrays as one (rows, length) float matrix; (0, 24) for an empty frame."""
    if frame.empty:
        return np.zeros((0, HOURS))
    return np.stack(frame[column].to_list()).astype(float)


def stack(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames, of the same columns, one below the other; the first may be an empty one that names the columns."""
    full = [p for p in parts if not p.empty]
    return pd.concat(full, ignore_index=True) if full else parts[0]


def empty(columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame with these columns and no rows."""
    return pd.DataFrame({c: pd.Series(dtype=object) for c in columns})
