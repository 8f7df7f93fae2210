"""Limits and defaults of policy making."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lipservice_dagster.core.budget import DEFAULT_REDUCTION, TeamBudget, contradiction, unpriced
from lipservice_dagster.core.judgements import WORTH


class PolicySettings(BaseModel):
    """Limits and defaults of policy making."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_reduction: float = Field(
        default=DEFAULT_REDUCTION, ge=0.0, lt=1.0, description="Share of a day's bytes to save, where no budget is set."
    )
    reduction_of_team: bool = Field(
        default=False,
        description="Whether that is a share of the bytes of a team's services together, else of each service's.",
    )
    budget_bytes: float | None = Field(
        default=None, gt=0.0, allow_inf_nan=False, description="Bytes a day to keep at most."
    )
    budget_logs: float | None = Field(
        default=None, gt=0.0, allow_inf_nan=False, description="Logs a day to keep at most, instead."
    )
    budget_money: float | None = Field(
        default=None, gt=0.0, allow_inf_nan=False, description="Money a month (30 days) to spend at most, instead."
    )
    price_per_gb: float = Field(default=0.25, ge=0.0, allow_inf_nan=False, description="Price of a gigabyte.")
    fall_a_day: float = Field(
        default=0.5,
        gt=0.0,
        le=0.9,
        description="A rate is at least this share of the day before's, where that is known.",
    )
    min_rate: float = Field(default=0.01, gt=0.0, le=1.0, description="The least rate of anything.")
    floor_per_hour: float = Field(
        default=10.0, ge=0.0, allow_inf_nan=False, description="Logs kept of a pattern in an active hour, on average."
    )
    rare_logs: float = Field(
        default=100.0, ge=0.0, allow_inf_nan=False, description="A pattern with fewer logs a day is kept whole."
    )
    error_share: float = Field(
        default=0.5, gt=0.0, le=1.0, description="A pattern of whose logs this share are errors is kept whole."
    )
    must_keep_worth: float = Field(
        default=WORTH["must_keep"], ge=0.0, description="A pattern judged worth this much is kept whole."
    )
    must_keep_share: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="Share of the budget that patterns kept whole by judgement may take, the smallest first; the "
        "others are sampled by their worth.",
    )
    default_worth: float = Field(
        default=WORTH["normal"], ge=0.0, le=1.0, description="Worth of a pattern without a judgement."
    )
    unknown_first_per_hour: int = Field(
        default=10,
        ge=0,
        description="Logs of each unlisted pattern that are kept in an hour before its severity's rate.",
    )
    max_patterns: int = Field(
        default=5_000,
        ge=0,
        description="Sampled patterns a policy lists, those of most logs; what is kept whole is listed besides.",
    )

    team_budgets: dict[int, TeamBudget] = Field(
        default_factory=dict, description="Budgets of teams that have one of their own."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> PolicySettings:
        if problem := contradiction(self.model_fields_set, self) or unpriced(self.team_budgets, self.price_per_gb):
            raise ValueError(problem)
        return self

    def of_team(self, team_id: int) -> PolicySettings:
        """The settings with the team's own budget, where it has one."""
        own = self.team_budgets.get(team_id)
        return self.model_copy(update={"team_budgets": {}} | ({} if own is None else own.fields))
