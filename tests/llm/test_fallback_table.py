"""Who answers after which fault, for each SDK over real sockets, with the requests counted: another model where the
first cannot, and nobody else where the question is at fault.
"""

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from mcp_server_langgraph.llm.guarded import ModelsUnavailable
from tests.llm.models import ALL, ENDPOINT, NEXT, model_of, set_policies
from tests.llm.provider_server import Answer, ProviderServer

pytestmark = [pytest.mark.real_time, pytest.mark.parametrize("provider", ALL)]


@dataclass(frozen=True)
class Case:
    """``asked``: requests to the first model. ``next``: whether the second one answers."""

    answer: Answer
    asked: int
    next: bool

    def __str__(self) -> str:
        return f"{self.answer.status or 'reset'}{' late' if self.answer.delay else ''}"


def error(provider: str, status: int, code: str, message: str) -> Answer:
    """An error in the form of that provider."""
    body: dict[str, Any] = {
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": message}},
        "google": {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}},
    }.get(provider, {"error": {"message": message, "type": "invalid_request_error", "code": code}})
    return Answer(status, body)


TOO_LONG = {
    "anthropic": "prompt is too long: 250000 tokens > 200000 maximum",
    "google": "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
    "openai": "This model's maximum context length is 128000 tokens. (context_length_exceeded)",
    ENDPOINT: "This model's maximum context length is 4096 tokens. (context_length_exceeded)",
}
CASES = [
    *(Case(Answer(status), 1, next=True) for status in (404, 408, 429, 503, 504, 529)),
    *(Case(Answer(status), 3, next=True) for status in (500, 502, 520)),
    Case(Answer(0), 3, next=True),
    Case(Answer(delay=30), 1, next=True),
    *(Case(Answer(status), 1, next=False) for status in (400, 401, 403, 413, 422)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_fault(providers: ProviderServer, provider: str, case: Case) -> None:
    if case.answer.delay:
        set_policies(**{f"LLM_{provider.upper()}_ATTEMPT_TIMEOUT": "1"})
    providers.always(provider, case.answer)
    async with aclosing(model_of(providers, f"{provider}:first", f"{NEXT[provider]}:second")) as model:
        await model.prepare()
        if case.next:
            answer = await model.ainvoke("hello")
            assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:second"
        else:
            with pytest.raises(Exception) as caught:  # noqa: PT011 (the SDK's own)
                await model.ainvoke("hello")
            assert not isinstance(caught.value, ModelsUnavailable)
    assert (providers.count(provider), providers.count()) == (case.asked, case.asked + case.next)


@pytest.mark.parametrize("why", ["context", "policy"])
async def test_a_question_that_is_at_fault_is_asked_once(
    providers: ProviderServer, provider: str, why: str
) -> None:
    refusals = {
        "context": ("context_length_exceeded", TOO_LONG[provider]),
        "policy": ("content_policy_violation", "Your request was rejected by our safety system."),
    }
    providers.always(provider, error(provider, 400, *refusals[why]))
    async with aclosing(model_of(providers, f"{provider}:first", f"{NEXT[provider]}:second")) as model:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the SDK's own)
            await model.ainvoke("hello")
        assert not isinstance(caught.value, ModelsUnavailable)
        breaker = model._links[0].calls.snapshot()["circuit_breaker"]
        assert (breaker.failures, breaker.neutral) == ({}, 1)
    assert providers.count() == 1


async def test_a_refusal_in_words_is_an_answer(providers: ProviderServer, provider: str) -> None:
    providers.always(provider, Answer(body=REFUSALS[provider]))
    async with aclosing(model_of(providers, f"{provider}:first", f"{NEXT[provider]}:second")) as model:
        answer = await model.ainvoke("hello")
    assert answer.response_metadata["answered_by"] == f"{provider}:first"
    assert providers.count() == 1


def _refused_by_openai() -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "refusal": "I cannot"}
    choice = {"index": 0, "message": message, "finish_reason": "content_filter"}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


REFUSALS: dict[str, Any] = {
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": "refusal",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "google": {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": "m"},
    "openai": _refused_by_openai(),
    ENDPOINT: _refused_by_openai(),
}
