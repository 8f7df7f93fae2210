"""The words in which demo teams are written down: team, service, pattern.

A pattern's `logs` are what it logs on a weekday when the team logs 30,000; only the proportions count. Messages are
templates of `demo_text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rhythm = Literal["users", "flat", "night"]
"""By the hour of the service's peak and the weekday; the same all day; between 02:00 and 04:00 UTC."""


@dataclass(frozen=True)
class Pattern:
    """One thing a service logs. A `rare` one logs so many a day whatever the volume of the team."""

    text: str
    logs: float
    severity: str = "info"
    rhythm: Rhythm = "users"
    rare: bool = False


@dataclass(frozen=True)
class Service:
    """A service, when it is busy, where it runs, and what it logs."""

    name: str
    peak: int  # UTC hour
    weekend: float  # its traffic on a Saturday or Sunday, as a share of a weekday's
    logger: str
    patterns: tuple[Pattern, ...]
    pods: int = 3
    staging: float = 0.0  # share of its logs that comes from the staging environment
    traced: float = 0.0  # share of its logs that carries a trace id


@dataclass(frozen=True)
class Team:
    """A team, and which of its services and patterns its incidents happen to."""

    name: str
    services: tuple[Service, ...]
    spiking: str  # a service
    failing: tuple[str, str]  # a service and how the text of an error pattern of it starts
    released: tuple[str, Pattern]  # a service and the pattern that comes with its release
    stopping: tuple[str, str]  # a service and how the text of a regular pattern of it starts


def flat(text: str, logs: float, severity: str = "info") -> Pattern:
    """A pattern that logs the same all day: probes, heartbeats, polls."""
    return Pattern(text, logs, severity, "flat")


def rare(text: str, logs: float, severity: str = "info") -> Pattern:
    """A pattern of a few logs a day."""
    return Pattern(text, logs, severity, "flat", rare=True)


def night(text: str, logs: float, severity: str = "info") -> Pattern:
    """A pattern of the nightly jobs."""
    return Pattern(text, logs, severity, "night")
