"""What the API takes and answers with."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lipservice_dagster.core.overlay import Overlay
from lipservice_dagster.core.policy import Policy
from lipservice_dagster.storage.reported import Counted

MOST_ROWS = 1_000
_MOST_COUNT = 10**15
_NO_NUL = r"^[^\x00]*$"

Team = Annotated[int, Field(ge=0, le=2**31 - 1, description="Number of the team.")]
Name = Annotated[str, Field(max_length=1_000, pattern=_NO_NUL)]
Words = Annotated[str, Field(min_length=1, max_length=2_000, pattern=_NO_NUL)]
SentTeam = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True, description="Number of the team.")]
Count = Annotated[int, Field(ge=0, le=_MOST_COUNT, strict=True)]
Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]
State = Literal["shadow", "live", "pinned"]


def _whole_hour(at: datetime) -> datetime:
    if (at.minute, at.second, at.microsecond) != (0, 0, 0):
        raise ValueError("is no whole hour")
    return at


def _text(value: object) -> object:
    """Numbers are taken as seconds otherwise."""
    if not isinstance(value, str):
        raise ValueError("is no text")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(UTC)), BeforeValidator(_text)]
SentDay = Annotated[date, BeforeValidator(_text)]
Hour = Annotated[Moment, AfterValidator(_whole_hour), Field(description="Start of the UTC hour.")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class NewService(BaseModel):
    """A service to be known before it logs."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"team_id": 7, "name": "shop", "environment": "production"}]}
    )

    team_id: SentTeam
    name: Annotated[Name, Field(min_length=1)]
    environment: Name = ""


class ServiceAnswer(_Model):
    """A service and environment."""

    id: int
    team_id: int
    name: str
    environment: str
    first_day: date | None = Field(description="First day with logs; null: it has not logged yet.")
    last_day: date | None


class PolicyAnswer(_Model):
    """What a sampler decides by."""

    team_id: int
    service: str
    environment: str
    mode: Literal["live", "shadow", "default"] = Field(
        description="live: it drops. shadow: it decides and drops nothing. default: there is none, all is kept."
    )
    version: str = Field(description="Names what the policy does; 0 for the default.")
    released_at: datetime | None
    policy: Policy | None
    overlay: Overlay
    refresh_seconds: float = Field(description="When to ask again.")


class ReleaseAnswer(_Model):
    """An entry of the ledger of releases."""

    id: int
    team_id: int
    service: str
    environment: str
    day: date
    version: str
    state: State
    actor: str
    reason: str
    by_hand: bool
    released_at: datetime


class HistoryAnswer(_Model):
    """Entries, newest first; ``next`` is the ``before`` of the older ones, null where there are none."""

    releases: list[ReleaseAnswer]
    next: int | None


class Side(_Model):
    """One of two policies."""

    day: date
    version: str


class DiffAnswer(_Model):
    """What changes, a sentence each."""

    one: Side
    other: Side
    changes: list[str]


class Rollback(BaseModel):
    """Which earlier release is pinned, by whom and why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"team_id": 7, "environment": "production", "actor": "ada", "reason": "too little left of checkout"}
            ]
        },
    )

    team_id: SentTeam
    environment: Name = ""
    day: SentDay | None = Field(default=None, description="The release of this day.")
    version: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9a-f]+$")] | None = Field(
        default=None, description="The release of this version, or its beginning. Default: the last that dropped."
    )
    actor: Words
    reason: Words


class Row(BaseModel):
    """What was seen and kept of a pattern and severity in an hour."""

    model_config = ConfigDict(extra="forbid")

    signature: Annotated[str, Field(min_length=1, max_length=64, pattern=_NO_NUL)] | None = None
    message: Annotated[str, Field(max_length=100_000, pattern=_NO_NUL)] | None = Field(
        default=None, description="The masked message, of logs that no pattern of the policy matches."
    )
    severity: Severity
    hour: Hour
    seen: Count
    kept: Count = Field(description="In shadow: what would have been kept.")
    bytes_seen: Count
    bytes_kept: Count

    @model_validator(mode="after")
    def _whole(self) -> Row:
        if (self.signature is None) == (self.message is None):
            raise ValueError("say either signature or message")
        if self.kept > self.seen or self.bytes_kept > self.bytes_seen:
            raise ValueError("more is kept than was seen")
        return self

    @property
    def counted(self) -> Counted:
        """As it is stored."""
        return Counted(**dict(self))


class Statistics(BaseModel):
    """A report of a sampler. Sent again under the same id, it counts once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "batch_id": "4b0f1a52-97d5-4a6e-8c1c-6d0f6a4e2d11",
                    "team_id": 7,
                    "service": "shop",
                    "environment": "production",
                    "policy_version": "3f9c2a7d1b5e8a60",
                    "mode": "live",
                    "sdk": "lipservice-sampler/0.1.0",
                    "from": "2026-11-24T10:02:00Z",
                    "to": "2026-11-24T10:03:00Z",
                    "patterns": [
                        {
                            "signature": "9a0c1d2e3f405162",
                            "message": None,
                            "severity": "info",
                            "hour": "2026-11-24T10:00:00Z",
                            "seen": 100,
                            "kept": 7,
                            "bytes_seen": 8200,
                            "bytes_kept": 574,
                        }
                    ],
                }
            ]
        },
    )

    batch_id: uuid.UUID
    team_id: SentTeam
    service: Name
    environment: Name
    policy_version: Annotated[str, Field(max_length=200, pattern=_NO_NUL)]
    mode: Literal["live", "shadow", "default"]
    sdk: Annotated[str, Field(max_length=200, pattern=_NO_NUL)]
    starts_at: Moment = Field(alias="from")
    ends_at: Moment = Field(alias="to")
    patterns: Annotated[Sequence[Row], Field(max_length=MOST_ROWS)]


class StatisticsAnswer(_Model):
    """Whether it was counted before."""

    accepted: bool
    duplicate: bool


class AskedDay(BaseModel):
    """A team-day."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"team_id": 7, "day": "2026-11-23"}]})

    team_id: SentTeam
    day: SentDay = Field(description="UTC day; a partition of the graph.")


class AskedAnswer(_Model):
    """A run that was asked for."""

    run_id: str
    team_id: int
    day: date
    status_url: str


class Step(_Model):
    """What a run did to a team-day."""

    asset: str
    day: date
    status: Literal["running", "succeeded", "failed"]
    counts: dict[str, Any]
    error: str | None
    started_at: datetime
    finished_at: datetime | None


class RunAnswer(_Model):
    """A run: as Dagster tells it, and what it did to the team's days."""

    run_id: str
    team_id: int
    status: Literal["queued", "running", "succeeded", "failed", "canceled"]
    steps: list[Step]


class SavingsDay(_Model):
    """A day of a live policy: what there was, what is stored of it, what should be."""

    day: date
    version: str
    live_hours: int
    logs: float
    bytes: float
    kept_logs: int
    kept_bytes: int
    expected_logs: float
    expected_bytes: float


class ReportedDay(_Model):
    """What samplers reported of a day, by mode; in shadow ``kept`` is what would have been."""

    day: date
    mode: Literal["live", "shadow", "default"]
    seen: int
    kept: int
    bytes_seen: int
    bytes_kept: int


class SavingsAnswer(_Model):
    """Savings from what is stored, and as samplers saw them."""

    stored: list[SavingsDay]
    reported: list[ReportedDay]


class StoredPattern(_Model):
    """A pattern of a day as it is stored."""

    signature: str
    template: str
    logs: int
    bytes: int
    weighted_logs: float
    weighted_bytes: float
    messages: int
    first_seen: datetime
    last_seen: datetime


class ReportedPattern(_Model):
    """A pattern, or a message of none, as samplers saw it."""

    signature: str | None
    message: str | None
    seen: int
    kept: int
    bytes_seen: int
    bytes_kept: int
    arrived: bool | None = Field(description="Whether the day's logs hold it; null for a message of no pattern.")


class PatternsAnswer(_Model):
    """The largest patterns of a day."""

    stored: list[StoredPattern]
    reported: list[ReportedPattern]


class AnomalyAnswer(_Model):
    """An anomaly of a day."""

    day: date
    scope: str
    subject: str
    template: str
    kind: str
    start_hour: int
    end_hour: int
    observed: float
    expected: float
    ratio: float | None
    p_value: float
    confidence: float
    severity: str
    explanation: str


class StoredHour(_Model):
    """Seen (estimated from weights), kept and rate of a pattern in an hour, as the day's logs hold it."""

    signature: str
    template: str
    hour: int = Field(ge=0, le=23)
    seen: float
    kept: float
    rate: float


class ReportedHour(_Model):
    """Seen, kept and rate of a pattern, or a message of none, in an hour, as samplers counted it."""

    signature: str | None
    message: str | None
    hour: int = Field(ge=0, le=23)
    seen: int
    kept: int
    rate: float


class DroppedAnswer(_Model):
    """What of each pattern was dropped on a day, by hour."""

    stored: list[StoredHour]
    reported: list[ReportedHour] = Field(description="By live policies; patterns of which nothing was kept too.")


class Dependency(_Model):
    """Whether something that is needed answers."""

    ok: bool
    detail: str


class HealthAnswer(_Model):
    """ok: all is well. degraded: policies are served, something else is not. down: they are not."""

    status: Literal["ok", "degraded", "down"]
    dependencies: dict[str, Dependency]
