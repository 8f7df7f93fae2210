"""Servers that speak OpenAI's chat completions (vLLM, Ollama, gateways), through the extra ``openai``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lipservice_dagster.advisors.model import CUT_OFF, REFUSED, AdvisorError, Reply, failed, reply_of, usage_of
from lipservice_dagster.advisors.questions import SYSTEM, Question, answer_schema


def asking(
    name: str, key: str | None, *, base_url: str | None, timeout: float, retries: int, max_output_tokens: int
) -> Callable[[Question], Reply]:
    """A function that puts a question to the model; ``timeout`` in seconds, for each try.

    Raises AdvisorError where the extra is not installed.
    """
    try:
        import openai
        from openai.types.chat import ChatCompletionMessage
        from openai.types.chat.chat_completion import Choice
    except ImportError:
        raise AdvisorError(
            "LIPSERVICE_ADVISOR is openai: install the extra, pip install 'lipservice-dagster[openai]'"
        ) from None
    # Servers of one's own want no key, the SDK does.
    client = openai.OpenAI(api_key=key or "none", base_url=base_url, timeout=timeout, max_retries=retries)

    def ask(question: Question) -> Reply:
        try:
            done = client.chat.completions.create(
                model=name,
                max_completion_tokens=max_output_tokens,
                messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.text()}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "judgements", "strict": True, "schema": answer_schema()},
                },
            )
        except openai.APITimeoutError:
            return failed(timed_out=True)
        except openai.APIStatusError as error:
            return failed(error.status_code)
        except openai.APIConnectionError:
            return failed()
        except (openai.OpenAIError, ValueError):
            return Reply(problem="its answer was no message")
        choices = getattr(done, "choices", None)
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Choice):
            return Reply(problem="its answer was no message")
        choice = choices[0]
        if not isinstance(getattr(choice, "message", None), ChatCompletionMessage):
            return Reply(problem="its answer was no message")
        used = getattr(done, "usage", None)
        usage = usage_of(used, "prompt_tokens", "completion_tokens")
        cached = usage_of(getattr(used, "prompt_tokens_details", None), "cached_tokens", "").input
        usage = replace(usage, input=max(usage.input - cached, 0), cached=cached)  # counted among the others there
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return Reply(problem=REFUSED, usage=usage)
        if choice.finish_reason == "length":
            return Reply(problem=CUT_OFF, usage=usage, cut_off=True)
        return reply_of([choice.message.content], usage)

    return ask
