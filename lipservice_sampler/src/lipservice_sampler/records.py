"""What a stored log record says of itself: its severity, and how many logs it stands for.

What belongs here: reading the fields of one record. `lipservice_dagster.sources.sql` says the same as ClickHouse SQL; a
property test shows that both agree.
"""

from __future__ import annotations

import re

from .decision import SEVERITY_NAMES

MICRO = 1_000_000
"""Weights are counted in millionths of a log: sums of integers do not depend on their order."""

LEAST_RATE = 1e-6
"""A log that claims a smaller probability is taken to be kept with this one: no sampler goes as low."""

RATE_KEYS = ("lipservice.sample_rate", "sampling.threshold", "sample_rate")
"""Attributes under which samplers stamp what they keep: ours, OpenTelemetry's, Vector's; the first readable counts."""

NUMBER = "[0-9]*[.]?[0-9]+(?:[eE][+-]?[0-9]{1,3})?"
THRESHOLD = "[0-9a-fA-F]{1,14}"

_NUMBER, _THRESHOLD = re.compile(NUMBER), re.compile(THRESHOLD)
_BY_NUMBER = ("trace", "debug", "info", "warn", "error", "fatal")


def severity(text: str, number: int) -> str:
    """One of trace, debug, info, warn, error, fatal: by the text, else by the OTLP number (1 to 24), else info."""
    name = SEVERITY_NAMES.get(text.strip(" ").lower())
    if name is not None:
        return name
    return _BY_NUMBER[(number - 1) // 4] if 1 <= number <= 24 else "info"


def micro_weight(own: str, threshold: str, vector: str) -> int:
    """How many logs a kept one stands for, in millionths: 10⁶ / p, from the values of `RATE_KEYS` ('' where absent).

    ``lipservice.sample_rate`` is p; OTel's ``sampling.threshold`` t means p = 1 − t/2⁵⁶ (t padded right to 14 hex
    digits); Vector's ``sample_rate`` is p up to 1 and "one in N" above. A value that cannot be read is passed over;
    without one the log weighs 1. Values may stand in the quotes of their JSON encoding.
    """
    if 0 < (rate := _number(own)) <= 1:
        return _micro(1 / max(rate, LEAST_RATE))
    if _THRESHOLD.fullmatch(digits := threshold.strip('"')):
        # Padded to 16 digits and over 2⁶⁴ it is the same fraction.
        return _micro(1 / max(1 - int(digits.ljust(16, "0"), 16) / 2**64, LEAST_RATE))
    if (rate := _number(vector)) > 1:
        return _micro(min(rate, 1 / LEAST_RATE))
    return _micro(1 / max(rate, LEAST_RATE)) if rate > 0 else MICRO


def stamp_octets(rate: float) -> int:
    """Octets that our stamp adds to a log that is kept at this rate; a log that is kept for sure has none."""
    return len(RATE_KEYS[0]) + len(repr(rate)) if rate < 1 else 0


def _number(text: str) -> float:
    bare = text.strip('"')
    return float(bare) if _NUMBER.fullmatch(bare) else 0.0


def _micro(weight: float) -> int:
    return round(MICRO * weight)
