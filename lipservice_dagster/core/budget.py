"""The budget of a day, in any of the ways it can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class AskedOf(Asked, Protocol):
    """The same, and whose budget a target reduction is."""

    @property
    def reduction_of_team(self) -> bool:
        """Whether it is a share of the bytes of the team's services together, else of each service's."""


ABSOLUTE = ("budget_bytes", "budget_logs", "budget_money")


Kind = Literal["reduction", "bytes", "logs", "money"]
Unit = Literal["bytes", "logs"]


@dataclass(frozen=True)
class Budget:
    """What may be kept of a day, of a service or of a team's services together, in bytes or logs, and how that was
    asked for.

    ``asked`` is what the setting says: a share of the bytes to save, or bytes or logs a day or money a month of the
    whole team.
    """

    amount: float
    unit: Unit
    kind: Kind
    asked: float
    words: str


def kind_of(asked: Asked) -> tuple[Kind, float]:
    """In which way a budget is asked for, and how much."""
    if asked.budget_logs is not None:
        return "logs", asked.budget_logs
    if asked.budget_bytes is not None:
        return "bytes", asked.budget_bytes
    if asked.budget_money is not None:
        return "money", asked.budget_money
    return "reduction", asked.target_reduction


def unit_of(asked: Asked) -> Unit:
    """What the budget counts."""
    return "logs" if asked.budget_logs is not None else "bytes"


def of_team(asked: AskedOf) -> bool:
    """Whether the budget is one of the team's services together, which they share by what their patterns are worth."""
    return kind_of(asked)[0] != "reduction" or asked.reduction_of_team


def in_words(asked: AskedOf) -> str:
    """The budget that is asked for, for people."""
    kind, value = kind_of(asked)
    if kind == "reduction":
        return f"save {value:.0%} of {'the team' if of_team(asked) else 'each service'}'s bytes"
    if kind == "money":
        return f"{value:,.2f} a month at {asked.price_per_gb:g} a GB"
    return f"{amount(value, kind)} a day"


def key_of(asked: AskedOf) -> str:
    """A text that is the same exactly where the same budget is asked for: what a policy was made with."""
    kind, value = kind_of(asked)
    if kind == "reduction":
        return f"{kind} {value!r}" + " of the team" * of_team(asked)
    return f"{kind} {value!r}" + (f" at {asked.price_per_gb!r}" if kind == "money" else "")


def budget_of(asked: AskedOf, day_bytes: float) -> Budget:
    """The budget of a day on which so many bytes were logged: by the service, or where it is one of the team, by all of
    its services."""
    kind, value = kind_of(asked)
    if kind == "reduction":
        kept = (1.0 - value) * day_bytes
        whose = " of the team" * of_team(asked)
        return Budget(kept, "bytes", kind, value, f"To save {value:.0%} of the bytes{whose}, {size(kept)} may be kept")
    unit = unit_of(asked)
    whole = value / DAYS_A_MONTH / asked.price_per_gb * GB if kind == "money" else value
    words = f"{amount(whole, unit)} a day"
    if kind == "money":
        words = f"{value:,.2f} a month, which at {asked.price_per_gb:g} a GB is {words}"
    return Budget(whole, unit, kind, value, f"The team's budget is {words}")


def part_of(budget: Budget, share: float) -> Budget:
    """What a service has of a budget of the team: this share of it."""
    part = budget.amount * share
    words = f"{budget.words}; this service's part, {share:.1%}, is {amount(part, budget.unit)}"
    return replace(budget, amount=part, words=words)


class TeamBudget(BaseModel):
    """The budget of one team, in one way, in place of the general one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reduction: float | None = Field(default=None, ge=0.0, lt=1.0, description="Share of the team's bytes to save.")
    bytes: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, description="Bytes a day.")
    logs: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, description="Logs a day.")
    money: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, description="Money a month (30 days).")

    @model_validator(mode="after")
    def _one_way(self) -> TeamBudget:
        named = list(self.asked)
        if len(named) != 1:
            raise ValueError(f"names {' and '.join(named) or 'no budget'}: name one of reduction, bytes, logs, money")
        return self

    @property
    def asked(self) -> dict[str, float]:
        """What is named, as in the setting."""
        return self.model_dump(exclude_none=True)

    @property
    def fields(self) -> dict[str, float | bool | None]:
        """The fields of `Asked` that say the same."""
        wanted: dict[str, float | bool | None] = {
            "budget_bytes": self.bytes,
            "budget_logs": self.logs,
            "budget_money": self.money,
        }
        if self.reduction is not None:
            wanted |= {"target_reduction": self.reduction, "reduction_of_team": True}
        return wanted


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


def unpriced(team_budgets: Mapping[int, TeamBudget], price_per_gb: float) -> str | None:
    """What is wrong with teams' budgets of money where a gigabyte costs nothing, in words; None where nothing is."""
    paid = sorted(team for team, budget in team_budgets.items() if budget.money is not None)
    if price_per_gb > 0 or not paid:
        return None
    return (
        f"team_budgets of {paid[0]} is one of money with a price_per_gb of {price_per_gb:g}: say what a gigabyte costs"
    )


def size(bytes_: float) -> str:
    """Bytes for people."""
    for unit, of_unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= of_unit:
            return f"{bytes_ / of_unit:.3g} {unit}"
    return f"{bytes_:.0f} bytes"


def amount(value: float, unit: Unit) -> str:
    """Bytes or logs for people."""
    return size(value) if unit == "bytes" else f"{value:,.0f} logs"
