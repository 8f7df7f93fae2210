"""The budget of a day, in any of the ways it can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

GB = 1e9
DAYS_A_MONTH = 30
"""Logs are billed by the month: a budget of money is one of 30 days."""

DEFAULT_REDUCTION = 0.7


class Asked(Protocol):
    """Settings that ask for a budget: by one of these at most, else by the target reduction."""

    @property
    def target_reduction(self) -> float:
        """Share of the bytes to save."""

    @property
    def budget_bytes(self) -> float | None:
        """Bytes a day."""

    @property
    def budget_logs(self) -> float | None:
        """Logs a day."""

    @property
    def budget_money(self) -> float | None:
        """Money a month."""

    @property
    def price_per_gb(self) -> float:
        """Price of a gigabyte."""


ABSOLUTE = ("budget_bytes", "budget_logs", "budget_money")


@dataclass(frozen=True)
class Budget:
    """What may be kept of a day, in bytes or logs, and how that was asked for."""

    amount: float
    unit: Literal["bytes", "logs"]
    words: str


def budget_of(asked: Asked, day_bytes: float) -> Budget:
    """The budget of a day on which this many bytes were logged."""
    if asked.budget_logs is not None:
        return Budget(asked.budget_logs, "logs", f"The budget is {asked.budget_logs:,.0f} logs a day")
    if asked.budget_bytes is not None:
        return Budget(asked.budget_bytes, "bytes", f"The budget is {size(asked.budget_bytes)} a day")
    if asked.budget_money is not None:
        a_day = asked.budget_money / DAYS_A_MONTH / asked.price_per_gb * GB
        words = f"The budget is {asked.budget_money:,.2f} a month, which at {asked.price_per_gb:g} a GB is "
        return Budget(a_day, "bytes", f"{words}{size(a_day)} a day")
    kept = (1.0 - asked.target_reduction) * day_bytes
    return Budget(kept, "bytes", f"To save {asked.target_reduction:.0%} of the bytes, {size(kept)} may be kept")


def contradiction(given: set[str], asked: Asked) -> str | None:
    """What is wrong with the fields that were given, in words; None where they ask for one budget.

    ``given`` are the names of the fields that were set; one of `ABSOLUTE` set to None counts as not given.
    """
    wanted = [name for name in ABSOLUTE if getattr(asked, name) is not None]
    wanted += ["target_reduction"] if "target_reduction" in given else []
    if len(wanted) > 1:
        return f"{' and '.join(wanted)} are set: a budget is asked for in one way, unset the others"
    if asked.budget_money is not None and not asked.price_per_gb > 0:
        return f"budget_money is set with a price_per_gb of {asked.price_per_gb:g}: say what a gigabyte costs"
    return None


def size(bytes_: float) -> str:
    """Bytes for people."""
    for unit, of_unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= of_unit:
            return f"{bytes_ / of_unit:.3g} {unit}"
    return f"{bytes_:.0f} bytes"


def amount(value: float, unit: Literal["bytes", "logs"]) -> str:
    """Bytes or logs for people."""
    return size(value) if unit == "bytes" else f"{value:,.0f} logs"
