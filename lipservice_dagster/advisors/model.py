"""A language model as an advisor: what it is, what a reply holds, what it costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from lipservice_dagster.advisors.questions import Answer, Question
from lipservice_dagster.settings import Settings

DEFAULT_MODEL = "claude-haiku-5-5"


class AdvisorError(ValueError):
    """The settings name no usable model; the message says what to set."""


@dataclass(frozen=True)
class Usage:
    """Tokens: read in full, written, read from the prompt cache, written into it."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cache_write + other.cache_write,
        )

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input + self.output + self.cached + self.cache_write


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens."""

    input: float
    output: float
    cached: float
    cache_write: float

    def cost(self, usage: Usage) -> float:
        """The money that these tokens cost."""
        return (
            usage.input * self.input
            + usage.output * self.output
            + usage.cached * self.cached
            + usage.cache_write * self.cache_write
        ) / 1e6


@dataclass(frozen=True)
class Reply:
    """What came back: an answer, or why there is none, in words without anything that differs from call to call.

    ``cut_off``: the answer did not fit, a smaller question may. ``unavailable``: any other question would now fare the
    same, so none should be asked.
    """

    answer: Answer | None = None
    problem: str = ""
    usage: Usage = field(default_factory=Usage)
    cut_off: bool = False
    unavailable: bool = False


@dataclass(frozen=True)
class Limits:
    """How much is asked, of what, and how long an answer holds."""

    min_logs: int
    max_patterns: int
    batch_patterns: int
    max_output_tokens: int
    tokens_per_run: int
    tokens_per_day: int
    judgement_days: int


@dataclass(frozen=True)
class Model:
    """A model that can be asked."""

    name: str
    ask: Callable[[Question], Reply]
    limits: Limits
    prices: Prices
    teams: frozenset[int] | None = None  # None: all

    def for_team(self, team_id: int) -> bool:
        """Whether this team's patterns may be shown to it."""
        return self.teams is None or team_id in self.teams


def model_of(settings: Settings) -> Model | None:
    """The model that the settings choose; None where rules alone advise. Connects to nothing.

    Raises AdvisorError where they choose one that cannot be asked.
    """
    key, name = settings.anthropic_api_key, settings.llm_model
    if settings.advisor == "rules" or (settings.advisor == "auto" and key is None):
        return None
    if settings.advisor == "openai":
        from lipservice_dagster.advisors import openai_compatible

        if name is None:
            raise AdvisorError("LIPSERVICE_ADVISOR is openai: name the server's model in LIPSERVICE_LLM_MODEL")
        ask = openai_compatible.asking(
            name,
            settings.openai_api_key.get_secret_value() if settings.openai_api_key else None,
            base_url=settings.llm_base_url,
            timeout=settings.llm_timeout_seconds,
            retries=settings.llm_retries,
            max_output_tokens=settings.llm_max_output_tokens,
        )
    else:
        # The SDK takes a second to import, and nobody without a model should wait for it.
        from lipservice_dagster.advisors import claude

        if key is None:
            raise AdvisorError("LIPSERVICE_ADVISOR is anthropic: set LIPSERVICE_ANTHROPIC_API_KEY")
        name = name or DEFAULT_MODEL
        if settings.llm_base_url is None:
            claude.check_name(name)
        ask = claude.asking(
            name,
            key.get_secret_value(),
            base_url=settings.llm_base_url,
            timeout=settings.llm_timeout_seconds,
            retries=settings.llm_retries,
            max_output_tokens=settings.llm_max_output_tokens,
        )
    return Model(
        name,
        ask,
        Limits(
            settings.llm_min_logs,
            settings.llm_max_patterns,
            settings.llm_batch_patterns,
            settings.llm_max_output_tokens,
            settings.llm_tokens_per_run,
            settings.llm_tokens_per_day,
            settings.llm_judgement_days,
        ),
        Prices(
            settings.llm_price_input,
            settings.llm_price_output,
            settings.llm_price_cached,
            settings.llm_price_cache_write,
        ),
        None if settings.llm_teams is None else frozenset(settings.llm_teams),
    )


def reply_of(texts: Sequence[object], usage: Usage) -> Reply:
    """The reply that the parts of a model's text are: an answer as its schema asks, or nonsense.

    SDKs do not check what servers send: a part may be anything, and one that is no text makes it nonsense.
    """
    nonsense = Reply(problem="its answer was not what was asked for", usage=usage)
    parts = [text for text in texts if isinstance(text, str)]
    if len(parts) < len(texts):
        return nonsense
    try:
        return Reply(Answer.model_validate_json("".join(parts)), usage=usage)
    except ValidationError:
        return nonsense


MOST_TOKENS = 10**8
"""No request has as many tokens by far: a server that says more does not count."""


def usage_of(used: object, read: str, written: str, cached: str = "", cache_write: str = "") -> Usage:
    """The tokens in the fields so named; SDKs do not check what servers send.

    What is no whole number from 0 to `MOST_TOKENS` counts as none, with a warning: the ledger could not be added up.
    """

    def tokens(name: str) -> int:
        value = getattr(used, name, None)
        if value is None:
            return 0
        if type(value) is int and 0 <= value <= MOST_TOKENS:
            return value
        warnings.warn(
            f"the model's server says {name} is {value!r:.40}: no number of tokens, none counted", stacklevel=2
        )
        return 0

    return Usage(tokens(read), tokens(written), tokens(cached), tokens(cache_write))


CUT_OFF, REFUSED = "its answer was cut off", "it refused to answer"


def failed(status: int | None = None, *, timed_out: bool = False) -> Reply:
    """The reply of an API that gave none: by its HTTP status, or for want of any."""
    if timed_out:
        return Reply(problem="it did not answer in time", unavailable=True)
    if status is None:
        return Reply(problem="it could not be reached", unavailable=True)
    # A request that the server cannot take (too long, say) tells of that request alone.
    return Reply(problem=f"it answered with HTTP status {status}", unavailable=status not in (400, 413, 422))
