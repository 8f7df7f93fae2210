"""Claude, through Anthropic's SDK, which retries what may pass (429, 529, time-outs) by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import get_args

import anthropic
from anthropic.resources.messages import DEPRECATED_MODELS
from anthropic.types import Message, Model, TextBlock

from lipservice_dagster.advisors.model import CUT_OFF, REFUSED, AdvisorError, Reply, failed, reply_of, usage_of
from lipservice_dagster.advisors.questions import SYSTEM, Answer, Question


def check_name(name: str) -> None:
    """Raise AdvisorError where the SDK does not know the model: a slip would else only show as a fallback to rules.

    Warns of one that is on its way out.
    """
    known = [n for part in get_args(Model) for n in get_args(part)]
    if name not in known:
        raise AdvisorError(
            f"LIPSERVICE_LLM_MODEL is {name!r}, which is no model that anthropic {anthropic.__version__} knows: take"
            f" one of {', '.join(known)}, or upgrade the package; behind LIPSERVICE_LLM_BASE_URL any name is taken"
        )
    if name in DEPRECATED_MODELS:
        warnings.warn(
            f"LIPSERVICE_LLM_MODEL is {name}, whose end of life is {DEPRECATED_MODELS[name]}: choose another before, or"
            " rules will judge",
            stacklevel=2,
        )


def asking(
    name: str, key: str, *, base_url: str | None, timeout: float, retries: int, max_output_tokens: int
) -> Callable[[Question], Reply]:
    """A function that puts a question to the model. ``timeout`` is in seconds, for each try."""
    client = anthropic.Anthropic(api_key=key, base_url=base_url, timeout=timeout, max_retries=retries)
    # `messages.parse` raises on an answer that is cut off or refused in words, before its tokens can be read; the same
    # schema is sent here, and the answer read after its stop reason and its usage.
    schema = anthropic.transform_schema(Answer)

    def ask(question: Question) -> Reply:
        try:
            message = client.messages.create(
                model=name,
                max_tokens=max_output_tokens,
                # The same for every request, so it is cached from one to the next.
                system=[{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": question.text()}],
                output_config={"format": {"type": "json_schema", "schema": schema}},
            )
        except anthropic.APITimeoutError:
            return failed(timed_out=True)
        except anthropic.APIStatusError as error:
            return failed(error.status_code)
        except anthropic.APIConnectionError:
            return failed()
        except (anthropic.AnthropicError, ValueError):  # a body that is no JSON, though it says so
            return Reply(problem="its answer was no message")
        if not isinstance(message, Message) or not isinstance(getattr(message, "content", None), list):
            return Reply(problem="its answer was no message")
        usage = usage_of(
            getattr(message, "usage", None),
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        )
        if message.stop_reason == "refusal":
            return Reply(problem=REFUSED, usage=usage)
        if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            return Reply(problem=CUT_OFF, usage=usage, cut_off=True)
        return reply_of([block.text for block in message.content if isinstance(block, TextBlock)], usage)

    return ask
