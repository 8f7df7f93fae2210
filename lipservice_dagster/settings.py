"""Every limit is a setting with a default: environment variables ``LIPSERVICE_…`` first, then a ``.env`` file.

`Settings` is read once, by what assembles (definitions, command line, local stack), and handed on; nothing else reads
the environment. `explain` shows each setting with its value and where it came from, secrets hidden.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lipservice_dagster.core.anomalies import Detector
from lipservice_dagster.core.boosts import BoostSettings
from lipservice_dagster.core.budget import TeamBudget, contradiction, unpriced
from lipservice_dagster.core.policy_settings import PolicySettings

PREFIX = "LIPSERVICE_"
PROJECT = Path(__file__).resolve().parent.parent


def _default_home() -> Path:
    """Beside the checkout for a project in a checkout, else in the user's data folder."""
    if (PROJECT / "pyproject.toml").is_file():
        return PROJECT / ".lipservice"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "lipservice"


POSTHOG_LOOKS = {"discover_seconds": 3600, "spike_seconds": 300, "late_seconds": 3600}
"""Defaults over PostHog's API: 14 questions an hour, of the 120 that it allows."""


class Settings(BaseSettings):
    """The settings of LipService; each field is the environment variable ``LIPSERVICE_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a key
    )

    home: Path = Field(
        default_factory=_default_home,
        description="Folder of the embedded stack: its PostgreSQL, its log store, Dagster's files.",
    )
    postgres_dsn: SecretStr | None = Field(
        default=None,
        description="PostgreSQL of LipService, postgresql://user:password@host:5432/database. Unset: the embedded one.",
    )
    logs_dsn: SecretStr | None = Field(
        default=None,
        description="Where logs are read: clickhouse://user:password@host:8123/database?table=logs (clickhouses:// for "
        "TLS), parquet:///folder, or PostHog's API, posthog+https://eu.posthog.com/project/123 (several projects: "
        "123,456). Unset: the embedded log store.",
    )
    posthog_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(PREFIX + "POSTHOG_API_KEY", "POSTHOG_PERSONAL_API_KEY"),
        description="Personal API key of PostHog with the scopes query:read and logs:read; POSTHOG_PERSONAL_API_KEY is "
        "read too.",
    )
    posthog_keys: dict[int, SecretStr] = Field(
        default_factory=dict,
        description='Keys of single projects in place of the one above, as JSON: {"123": "phx_…", "456": "phx_…"}.',
    )
    posthog_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Time that PostHog may take to answer a request."
    )
    posthog_retries: int = Field(
        default=5, ge=0, le=20, description="Tries after the first, where PostHog is busy or does not answer."
    )
    posthog_queries_per_hour: int = Field(
        default=110,
        ge=1,
        description="HogQL queries an hour of a project that all runs and sensors make together; PostHog allows 120.",
    )
    posthog_pages_per_hour: int = Field(
        default=1_000, ge=1, description="Likewise pages of logs, of 2,000 each; PostHog allows 1,200."
    )
    first_day: date | None = Field(
        default=None,
        description="The first day that is a partition (UTC). Unset: history_days before today.",
    )
    history_days: int = Field(
        default=100, ge=1, le=3660, description="Days of partitions up to today, where first_day is unset."
    )
    window_days: int = Field(default=14, ge=1, le=90, description="Trailing days that an anomaly report compares with.")
    detector: Literal["predictive", "ratio", "zscore"] = Field(
        default="predictive",
        description="What judges a day: the predictive distribution of its window, or a plain rule for each hour, at "
        "2, 3, 5 times its mean (or a half, a third, a fifth), or more than 3 standard deviations from it.",
    )
    first_days_detector: Literal["none", "ratio", "zscore"] = Field(
        default="none",
        description="The plain rule that judges a team's first days, of which the predictive detector only learns.",
    )
    team_names: dict[int, str] = Field(
        default_factory=dict, description='Names of teams for people, as JSON: {"42": "checkout"}.'
    )
    team_lookback_days: int = Field(
        default=7, ge=1, description="A team is discovered when it logged within these last days."
    )
    teams: list[int] | None = Field(
        default=None, description="The teams that are taken through the graph, as JSON: [1, 42]. Unset: all that log."
    )
    teams_denied: list[int] = Field(
        default=[], description="Teams that are not, as JSON; what is stored of them stays, and nothing is added."
    )
    fill_days: int = Field(
        default=14,
        ge=0,
        le=366,
        description="Days up to yesterday that are made, once, of a team that is new; 0: none.",
    )
    fill_runs: int = Field(default=2, ge=1, description="Runs at a time that make the days of new teams.")
    daily_runs: int = Field(
        default=50,
        ge=1,
        description="Runs that the daily schedule asks for at most: with more teams, neighbouring ones share a run.",
    )
    daily_run_time: str = Field(
        default="01:30",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="UTC time of day at which yesterday is taken through the graph; leaves late logs time to arrive.",
    )
    stale_reports_per_tick: int = Field(
        default=60, ge=1, description="Anomaly reports that are being made again at a time where their window changed."
    )
    late_days: int = Field(
        default=3, ge=1, le=30, description="Latest closed days that are made again where logs arrive late."
    )
    spike_minutes: int = Field(
        default=30, ge=5, le=60, multiple_of=5, description="Minutes that are looked at for volume spikes."
    )
    spike_factor: float = Field(
        default=3.0, gt=1, description="So many times what is usual at these hours is a volume spike."
    )
    spike_least_logs: int = Field(default=500, ge=1, description="Fewer logs than these in those minutes are none.")
    spike_least_errors: int = Field(default=50, ge=1, description="Likewise errors.")
    spike_rest_hours: int = Field(
        default=3, ge=0, le=48, description="Hours after a volume spike in which a team's next one asks for nothing."
    )
    spike_runs_per_tick: int = Field(default=20, ge=1, description="Runs that volume spikes ask for at a time.")
    webhook_url: SecretStr | None = Field(
        default=None,
        description="Where people are told of failed runs, failed gates and high anomalies, in Slack's JSON.",
    )
    notify_days: int = Field(
        default=2,
        ge=1,
        le=30,
        description="Gates and anomalies of so many latest days are told; older ones are no news.",
    )
    ui_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^@\s]+$",
        description="Address of the Dagster UI for links in messages. Unset: the embedded one.",
    )
    max_messages: int = Field(
        default=50_000,
        ge=100,
        description="Distinct masked messages kept apart for a team-day; the rarest beyond are counted in rest-rows.",
    )
    max_threads: int = Field(
        default=0, ge=0, description="Threads that a query may use in the log store; 0: as many as it likes."
    )
    max_memory_bytes: int = Field(
        default=8 * 1024**3,
        ge=256 * 1024**2,
        description="Memory that a query may use in the log store before it fails; grouping spills to disk at half.",
    )
    query_timeout_seconds: int = Field(default=900, ge=1, description="Time that a query of the log store may take.")
    target_reduction: float = Field(
        default=0.7, ge=0, le=0.99, description="Share of a service's bytes that a policy aims to save."
    )
    budget_bytes: float | None = Field(
        default=None,
        gt=0,
        description="Bytes a day that the policies of a team aim to keep, instead of target_reduction; they are spent "
        "over its services together, where the patterns are worth most.",
    )
    budget_logs: float | None = Field(default=None, gt=0, description="Likewise logs a day.")
    budget_money: float | None = Field(
        default=None, gt=0, description="Likewise money a month (30 days), at price_per_gb."
    )
    team_budgets: dict[int, TeamBudget] = Field(
        default_factory=dict,
        description='Budgets of single teams in place of the one above, as JSON: {"42": {"money": 300}, "7": '
        '{"reduction": 0.5}}; each is one of reduction (of the bytes of the team), bytes, logs, money.',
    )
    price_per_gb: float = Field(
        default=0.25, ge=0, description="Price of a gigabyte (10⁹ bytes) of logs, for savings and a budget of money."
    )
    min_rate: float = Field(default=0.01, gt=0, le=1, description="The least rate that a policy gives to anything.")
    floor_per_hour: float = Field(
        default=10, ge=0, description="Logs of a pattern that a policy keeps in an active hour, on average."
    )
    fall_a_day: float = Field(
        default=0.5, gt=0, le=0.9, description="Least share of a rate that the next day's policy keeps; rising is free."
    )
    advisor: Literal["auto", "rules", "anthropic", "openai"] = Field(
        default="auto",
        description="Who says what a pattern is worth. auto: Claude where an Anthropic key is set, else rules; openai: "
        "a server that speaks OpenAI's chat completions (extra openai).",
    )
    anthropic_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(PREFIX + "ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"),
        description="Key of Anthropic's API; ANTHROPIC_API_KEY is read too.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(PREFIX + "OPENAI_API_KEY", "OPENAI_API_KEY"),
        description="Key of the OpenAI-compatible server, where it wants one; OPENAI_API_KEY is read too.",
    )
    llm_model: str | None = Field(
        default=None, min_length=1, description="Name of the model. Unset: claude-haiku-5-5 of Anthropic."
    )
    llm_base_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^@\s]+$",  # it is shown, so it holds no password
        description="Where the API is: a gateway, a server of your own.",
    )
    llm_teams: list[int] | None = Field(
        default=None, description="The teams whose templates may be sent to the model, as JSON: [1, 42]. Unset: all."
    )
    llm_min_logs: int = Field(
        default=20, ge=2, description="Stored logs of the day that must share a template before it is sent."
    )
    llm_max_patterns: int = Field(
        default=300, ge=1, description="Patterns of a team-day, the largest by bytes, that the model judges."
    )
    llm_batch_patterns: int = Field(default=40, ge=1, le=200, description="Patterns asked about in one request.")
    llm_judgement_days: int = Field(
        default=30, ge=1, description="Days after (and before) the one it was asked for that a judgement holds."
    )
    llm_timeout_seconds: float = Field(default=90.0, gt=0, description="Time that each try of a request may take.")
    llm_retries: int = Field(
        default=2, ge=0, le=10, description="Tries after the first, where the API is busy or does not answer."
    )
    llm_max_output_tokens: int = Field(
        default=8_000, ge=256, le=20_000, description="Tokens that one answer may have before it is cut off."
    )
    llm_tokens_per_run: int = Field(
        default=500_000, ge=0, description="Tokens, read and written, that a run may use; what is left, rules judge."
    )
    llm_tokens_per_day: int = Field(
        default=2_000_000, ge=0, description="Tokens that all runs of a UTC day may use together."
    )
    llm_concurrent_runs: int = Field(
        default=1, ge=1, description="Runs of the embedded stack that may ask the model at a time (pool llm)."
    )
    llm_price_input: float = Field(default=1.0, ge=0, description="Price of a million tokens read, for what is shown.")
    llm_price_output: float = Field(default=5.0, ge=0, description="Price of a million tokens written.")
    llm_price_cached: float = Field(default=0.1, ge=0, description="Price of a million tokens read from the cache.")
    llm_price_cache_write: float = Field(
        default=1.25, ge=0, description="Price of a million tokens written into the cache."
    )
    backtest_days: int = Field(
        default=7, ge=1, le=90, description="Latest days over which policies of the day before are replayed."
    )
    backtest_min_days: int = Field(
        default=3, ge=1, le=90, description="Replayed days without which no policy of a service is released."
    )
    gate_patterns_share: float = Field(
        default=0.99, ge=0, le=1, description="Share of patterns of which a log must be kept for a release."
    )
    gate_budget_excess: float = Field(
        default=0.05, ge=0, description="Share by which the budget in force may be exceeded for a release."
    )
    gate_day_excess: float = Field(
        default=0.75,
        ge=0,
        description="Likewise on a single day; gate_budget_excess is over the replayed days together.",
    )
    gate_anomalies_share: float = Field(
        default=0.95, ge=0, le=1, description="Share of anomalies that must be found again for a release."
    )
    gate_few_anomalies: int = Field(
        default=5, ge=0, description="With fewer anomalies than these, gate_few_missed counts instead of the share."
    )
    gate_few_missed: int = Field(default=1, ge=0, description="So many of few anomalies may be missed for a release.")
    gate_added: int = Field(
        default=1,
        ge=0,
        description="So many anomalies that sampling alone brings about are allowed for a release; with many real ones,"
        " the share that may be missed.",
    )
    boost_factor: float = Field(
        default=10.0, ge=1, le=1_000, description="Rates are multiplied by this, up to 1.0, around an anomaly."
    )
    boost_hours: int = Field(default=6, ge=0, le=168, description="Hours that a boost lasts after its anomaly.")
    marts_schema: str = Field(
        default="marts", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema in PostgreSQL that dbt fills."
    )
    marts_patterns: int = Field(
        default=50, ge=1, description="Patterns of a team-day in the mart of the noisiest; the others are one row."
    )
    discover_seconds: int = Field(default=60, ge=1, description="Seconds between two looks for new teams.")
    spike_seconds: int = Field(default=120, ge=1, description="Seconds between two looks for volume spikes.")
    late_seconds: int = Field(default=600, ge=1, description="Seconds between two looks for late logs.")
    stale_seconds: int = Field(default=120, ge=1, description="Seconds between two looks for stale reports.")
    notify_seconds: int = Field(default=60, ge=1, description="Seconds between two looks for what to tell the webhook.")
    marts_seconds: int = Field(
        default=300, ge=1, description="Seconds between two looks for days whose teams are done."
    )
    concurrent_runs: int = Field(default=2, ge=1, description="Dagster runs at a time on the embedded stack.")
    log_store_concurrent_runs: int = Field(
        default=2,
        ge=1,
        description="Runs of the embedded stack that may read the log store at a time (pool log_store).",
    )
    max_runtime_minutes: int = Field(default=120, ge=1, description="A run that takes longer is ended, as failed.")
    backfill_partitions_per_run: int = Field(
        default=200,
        ge=1,
        description="Team-days that a run of `lipservice backfill` holds; all days of a team share a run.",
    )
    webserver_port: int = Field(default=3000, ge=1, le=65535, description="Port of the Dagster UI of `lipservice dev`.")
    api_port: int = Field(default=8080, ge=1, le=65535, description="Port of the HTTP API.")
    api_rate: float = Field(
        default=200.0,
        gt=0,
        description="Requests a second that a key may make at the API, and a burst of twice as many.",
    )
    api_max_body_bytes: int = Field(
        default=8 * 1024**2, ge=1024, description="Largest body of a request that the API takes."
    )
    api_cache_bytes: int = Field(
        default=256 * 1024**2, ge=0, description="Memory for policies that the API has served and that still hold."
    )
    api_refresh_seconds: float = Field(
        default=30.0, ge=1, le=3600, description="How often samplers ask whether their policy has changed."
    )

    exports_folder: Path | None = Field(
        default=None, description="Folder of the files of `policy_exports`. Unset: exports, below the home."
    )
    export_formats: list[Literal["otelcol", "vector", "fluentbit"]] = Field(
        default=["otelcol", "vector", "fluentbit"],
        description='Collectors whose configurations are written there, as JSON: ["vector"]; [] writes none.',
    )

    @field_validator("postgres_dsn", mode="after")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked(value, ("postgresql", "postgres"))

    @field_validator("logs_dsn", mode="after")
    @classmethod
    def _logs(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked(value, ("clickhouse", "clickhouses", "parquet", "posthog+https", "posthog+http"))

    @field_validator("webhook_url", mode="after")
    @classmethod
    def _webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        checked = _checked(SecretStr(value.get_secret_value().strip()), ("http", "https"))
        address = checked.get_secret_value() if checked else ""
        if any(not "!" <= sign <= "~" for sign in address):
            raise ValueError("holds spaces or signs that no address has")
        if "@" in urlsplit(address).netloc:
            raise ValueError("names a user, with which no webhook is called: leave out what stands before the @")
        return checked

    @field_validator("anthropic_api_key", "openai_api_key", "posthog_api_key", mode="after")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        return _plain_key(value) if value else None

    @field_validator("posthog_keys", mode="after")
    @classmethod
    def _posthog_keys(cls, value: dict[int, SecretStr]) -> dict[int, SecretStr]:
        return {project: found for project, key in value.items() if (found := _plain_key(key))}

    @model_validator(mode="before")
    @classmethod
    def _fewer_looks(cls, values: Any) -> Any:
        """Sensors look less often over an API that allows so many questions an hour, unless they are told."""
        dsn = values.get("logs_dsn") if isinstance(values, dict) else None
        if str(dsn.get_secret_value() if isinstance(dsn, SecretStr) else dsn or "").startswith("posthog+"):
            return POSTHOG_LOOKS | values
        return values

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="after")
    def _one_budget(self) -> Settings:
        if problem := contradiction(self.model_fields_set, self) or unpriced(self.team_budgets, self.price_per_gb):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _enough_days(self) -> Settings:
        if self.backtest_min_days > self.backtest_days:
            raise ValueError(
                f"backtest_min_days is {self.backtest_min_days} with a backtest_days of {self.backtest_days}: so many"
                " days are never replayed, lower the one or raise the other"
            )
        return self

    def boost_settings(self) -> BoostSettings:
        """What boosts are raised with."""
        return BoostSettings(factor=self.boost_factor, hours=self.boost_hours)

    def detectors(self) -> Detector:
        """What judges a day."""
        return Detector(self.detector, self.first_days_detector)

    def policy_settings(self) -> PolicySettings:
        """What policies are made with."""
        given = self.model_fields_set & set(PolicySettings.model_fields)
        return PolicySettings(**{name: getattr(self, name) for name in given})

    @property
    def embedded_logs(self) -> Path:
        """The folder of the embedded log store."""
        return self.home / "log_store"

    def exports(self) -> Path:
        """The folder of exported policies."""
        return self.exports_folder or self.home / "exports"

    def logs_url(self) -> str:
        """The DSN of the log store in force."""
        return self.logs_dsn.get_secret_value() if self.logs_dsn else f"parquet://{self.embedded_logs}"

    def partitions_start(self, today: date | None = None) -> date:
        """The first day that is a partition."""
        today = today or datetime.now(UTC).date()
        return self.first_day or today - timedelta(days=self.history_days - 1)

    def takes(self, team_id: int) -> bool:
        """Whether a team is taken through the graph: on the list where there is one, and not denied."""
        return (self.teams is None or team_id in self.teams) and team_id not in self.teams_denied

    def ui_address(self) -> str:
        """Address of the Dagster UI, without a slash at its end."""
        return (self.ui_url or f"http://127.0.0.1:{self.webserver_port}").rstrip("/")

    def team_name(self, team_id: int) -> str:
        """The team's name for people."""
        return self.team_names.get(team_id, f"team {team_id}")


@dataclass(frozen=True)
class Explained:
    """A setting as it is shown: secrets without their password."""

    variable: str
    value: str
    source: str
    description: str


def explain(settings: Settings) -> list[Explained]:
    """Each setting with its value and its source (environment, .env, default), passwords hidden."""
    in_file = {k.upper() for k, v in dotenv_values(".env").items() if v is not None}
    in_environment = {k.upper() for k in os.environ}
    rows = []
    for name, field in Settings.model_fields.items():
        variable = PREFIX + name.upper()
        alias = field.validation_alias
        names = {str(n) for n in alias.choices} if isinstance(alias, AliasChoices) else {variable}
        source = "environment" if names & in_environment else ".env file" if names & in_file else "default"
        rows.append(Explained(variable, shown(getattr(settings, name)), source, field.description or ""))
    return rows


def misspelled() -> dict[str, str]:
    """Variables in the environment and in .env that are no setting but read much like one, with that one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    try:
        in_file = list(dotenv_values(".env"))
    except UnicodeDecodeError:  # reading the settings says so
        in_file = []
    given = {name.upper() for name in (*os.environ, *in_file)}
    unknown = sorted(name for name in given - known if name.startswith(PREFIX))
    near = {name: get_close_matches(name.removeprefix(PREFIX), _NAMES, n=1, cutoff=0.8) for name in unknown}
    return {name: PREFIX + found[0] for name, found in near.items() if found}


_NAMES = [name.upper() for name in Settings.model_fields]


def shown(value: Any) -> str:
    """A setting's value for people; nothing of a key, of a DSN not user, password, nor what its query may carry."""
    if value is None:
        return "(unset)"
    if isinstance(value, SecretStr):
        scheme, colon, rest = value.get_secret_value().partition("://")
        if not colon:
            return "***"
        secret, at, place = rest.rpartition("@")
        place, question, _ = place.partition("?")
        if scheme in ("http", "https"):
            place = place.partition("/")[0] + "/***"  # of a webhook the path is the key
        return f"{scheme}://{'***' if secret else ''}{at}{place}{question}{'***' if question else ''}"
    if isinstance(value, dict) and any(isinstance(v, TeamBudget) for v in value.values()):
        return json.dumps({team: budget.asked for team, budget in sorted(value.items())})
    if isinstance(value, dict) and any(isinstance(v, SecretStr) for v in value.values()):
        return json.dumps(dict.fromkeys(sorted(value), "***"))
    return str(value)


def _plain_key(value: SecretStr) -> SecretStr | None:
    """The key without the blanks around it, such as the line ending of a file; nothing where it is set to nothing.

    Raises a ValueError that does not repeat it where it has a sign that no header of HTTP takes.
    """
    text = value.get_secret_value().strip()
    if not all("!" <= sign <= "~" for sign in text):
        raise ValueError(
            "has a sign in it that no key has (a blank, a line ending, an ellipsis, a letter beyond ASCII): copy the"
            " whole key again"
        )
    return SecretStr(text) if text else None


def _checked(value: SecretStr | None, schemes: tuple[str, ...]) -> SecretStr | None:
    """The DSN, or a ValueError that does not repeat it."""
    if value is None:
        return None
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in schemes:
        raise ValueError(f"must start with {' or '.join(s + '://' for s in schemes)}")
    if parts.fragment or "@" in parts.path:
        raise ValueError("has a sign in its user or password that ends it early: write # as %23, / as %2F, @ as %40")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is no number from 0 to 65535 (in a password, write : as %3A)") from None
    return value
