"""A server that speaks OpenAI's chat completions, through the real SDK."""

import json

import pytest

from lipservice_dagster.advisors import openai_compatible
from lipservice_dagster.advisors.model import Usage
from lipservice_dagster.advisors.questions import SYSTEM, Pattern, Question
from lipservice_dagster_tests.model_stub import Response, answer_all, error

QUESTION = Question((Pattern("a" * 16, "one", "GET /healthz <*>", 1000, 100_000, {"info": 1000}, ()),), 0.25)


def ask(stub):
    return openai_compatible.asking(
        "qwen", None, base_url=f"{stub.url}/v1", timeout=20.0, retries=1, max_output_tokens=1_000
    )(QUESTION)


def completion(content: str | None, finish_reason: str = "stop", refusal: str | None = None) -> Response:
    choice = {"role": "assistant", "content": content, "refusal": refusal}
    return Response(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "qwen",
            "choices": [{"index": 0, "message": choice, "finish_reason": finish_reason, "logprobs": None}],
            "usage": {
                "prompt_tokens": 900,
                "completion_tokens": 100,
                "total_tokens": 1_000,
                "prompt_tokens_details": {"cached_tokens": 600},
            },
        }
    )


def test_a_good_answer_is_read_with_its_tokens(stub):
    stub.reply = lambda request: completion(json.dumps(answer_all(request)))
    reply = ask(stub)
    assert reply.answer is not None
    assert [f.family for f in reply.answer.families] == ["f1"]
    assert reply.usage == Usage(input=300, output=100, cached=600)
    (request,) = stub.requests
    assert [m["role"] for m in request["messages"]] == ["system", "user"]
    assert request["messages"][0]["content"] == SYSTEM
    assert request["response_format"]["json_schema"]["schema"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (completion(None, refusal="no"), "it refused to answer"),
        (completion("", "content_filter"), "it refused to answer"),
        (completion('{"families": [', "length"), "its answer was cut off"),
        (completion("well"), "its answer was not what was asked for"),
        (Response("<html></html>", content_type="text/html"), "its answer was no message"),
        (Response("{not json"), "its answer was no message"),
        (Response({}), "its answer was no message"),
        (error(503, "busy"), "it answered with HTTP status 503"),
    ],
)
def test_what_is_no_answer_says_why(stub, response, problem):
    stub.reply = lambda _: response
    reply = ask(stub)
    assert (reply.answer, reply.problem) == (None, problem)


@pytest.mark.parametrize("content", [{"families": []}, 5, ["{}"]])
def test_a_text_that_is_no_text_is_nonsense(stub, content):
    stub.reply = lambda _: completion(content)
    assert ask(stub).problem == "its answer was not what was asked for"


@pytest.mark.parametrize("choices", ["x", [None], ["x"], [{}], [{"message": None}], {"a": 1}, 3])
def test_choices_that_are_none_are_no_message(stub, choices):
    response = completion("x")
    assert isinstance(response.body, dict)
    response.body["choices"] = choices
    stub.reply = lambda _: response
    assert ask(stub).problem == "its answer was no message"


@pytest.mark.parametrize("count", [10**30, -5, "many"])
def test_a_count_of_tokens_that_cannot_be_is_none_and_said(stub, count):
    response = completion(json.dumps({"families": []}))
    assert isinstance(response.body, dict)
    response.body["usage"]["completion_tokens"] = count
    stub.reply = lambda _: response
    with pytest.warns(UserWarning, match="says completion_tokens is .*: no number of tokens"):
        assert ask(stub).usage == Usage(input=300, output=0, cached=600)
