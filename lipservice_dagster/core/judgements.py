"""What a pattern is worth and why: the type that every advisor, rules or model, gives to the optimiser.

A judgement holds worth and words, never a rate: the model proposes, arithmetic decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Category = Literal[
    "health_check",
    "access_log",
    "audit",
    "security",
    "billing",
    "debug",
    "error",
    "business_event",
    "other",
]
CATEGORIES: tuple[Category, ...] = get_args(Category)

Level = Literal["noise", "low", "normal", "high", "must_keep"]

WORTH: dict[Level, float] = {"noise": 0.1, "low": 0.15, "normal": 0.3, "high": 0.7, "must_keep": 1.0}
"""The worth of each level. Rates go with its square root: of two patterns alike, one worth high is kept 2.2 times as
often as one worth low, and 2.6 times as often as noise. Noise is worth its count: that it stops, or doubles, is found
on what is kept. Were it worth half as much, fewer of such incidents would be found on a tenth of the bytes
(benchmarks/policies.py)."""


def _number(worth: Any) -> Any:
    """The number of a level's name; anything else as it is, for pydantic to judge."""
    if not isinstance(worth, str):
        return worth
    if worth not in WORTH:
        raise ValueError(f"{worth!r} is no level of worth: use a number from 0 to 1, or one of {', '.join(WORTH)}")
    return WORTH[worth]


class Judgement(BaseModel):
    """What one pattern is worth; ``worth`` is given as a number from 0 to 1 or as the name of a `Level`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    signature: str
    worth: Annotated[float, BeforeValidator(_number), Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    category: Category
    reason: str = Field(min_length=1, description="One sentence.")

    @property
    def level(self) -> Level:
        """The highest level whose worth this reaches; noise below them all."""
        reached: Level = "noise"
        for level, worth in WORTH.items():
            if self.worth >= worth:
                reached = level
        return reached


@dataclass(frozen=True)
class Judged:
    """A judgement by a model, and whether it was given for the pattern's family."""

    judgement: Judgement
    of_family: bool
