"""The quota of an account and model as its provider tells it: heard on the wire, taken before, settled after a call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from mcp_server_langgraph.llm.factory import create_chat_model, quota_of
from mcp_server_langgraph.llm.guarded import GuardedChatModel, ModelsUnavailable
from mcp_server_langgraph.resilience import Pipeline, Quota, QuotaUsed
from mcp_server_langgraph.resilience.integrations.langchain import ModelQuota, Question, observe_headers
from mcp_server_langgraph.settings import ModelName
from tests.llm.models import ENDPOINT, KEY, ask, model_of, settings_for
from tests.llm.provider_server import Answer, ProviderServer, Stream
from tests.support.clock import now

OF_OPENAI = {
    "x-ratelimit-limit-requests": "5",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m2.5s",
    "x-ratelimit-limit-tokens": "10000",
    "x-ratelimit-remaining-tokens": "9000",
    "x-ratelimit-reset-tokens": "6s",
}


def of_anthropic() -> dict[str, str]:
    reset = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    names = ("requests", "input-tokens", "output-tokens")
    said = {f"anthropic-ratelimit-{name}-limit": "100000" for name in names}
    said |= {f"anthropic-ratelimit-{name}-remaining": "50000" for name in names}
    said |= {f"anthropic-ratelimit-{name}-reset": reset for name in names}
    return said | {"anthropic-ratelimit-requests-limit": "5", "anthropic-ratelimit-requests-remaining": "0"}


HEADERS = {"anthropic": of_anthropic, "openai": lambda: OF_OPENAI, ENDPOINT: lambda: OF_OPENAI}


def quota(model: GuardedChatModel, index: int = 0) -> Quota:
    found = model._links[index]._policies.quota
    assert found is not None
    return found


def question(text: str = "", **options: Any) -> Question:
    return Question([HumanMessage(text)], None, None, options)


def answer(text: str = "fine", cached: int = 0, **usage: int) -> ChatResult:
    told: Any = {"total_tokens": sum(usage.values()), "input_token_details": {"cache_read": cached}, **usage}
    return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=told))])


@pytest.mark.real_time
@pytest.mark.parametrize("provider", HEADERS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_an_answers_headers_say_keeps_the_next_call_from_a_refusal(
    providers: ProviderServer, provider: str, streamed: bool
) -> None:
    said = HEADERS[provider]()
    good: Any = Stream(headers=said) if streamed else Answer(headers=said)
    providers.always(provider, good)
    async with aclosing(model_of(providers, f"{provider}:first", "google:second")) as model:
        await ask(model, streamed)
        left = quota(model).snapshot().left
        assert left["requests"] < 1
        assert len(left) == len(said) // 3
        again = await ask(model, streamed)
    assert again.response_metadata["answered_by"] == "google:second"
    assert again.response_metadata["degraded"] == f"{provider}:first our quota is used up for now"
    assert providers.count(provider) == 1


@pytest.mark.real_time
async def test_headers_of_a_stream_are_heard_when_it_begins(providers: ProviderServer) -> None:
    providers.always("openai", Stream(("one ",), end="pings", headers=OF_OPENAI))
    async with aclosing(model_of(providers, "openai")) as model:
        stream = model.astream("hello")
        await anext(stream)
        assert quota(model).snapshot().left["tokens"] == pytest.approx(9000, abs=500)
        await stream.aclose()  # type: ignore[attr-defined]
        observe_headers({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-limit-tokens": "10000"})
        assert quota(model).snapshot().left["tokens"] > 8000, "our own context hears nothing of it"


@pytest.mark.real_time
async def test_the_headers_of_an_error_are_heard_too(providers: ProviderServer) -> None:
    providers.always("anthropic", Answer(500, headers=of_anthropic()))
    async with aclosing(model_of(providers, "anthropic:first", "google:second")) as model:
        await model.ainvoke("hello")
        assert quota(model).snapshot().left["requests"] < 1
    assert providers.count("anthropic") == 1, "its second attempt would have been refused"


@pytest.mark.real_time
async def test_each_account_has_its_own_quota(providers: ProviderServer) -> None:
    providers.script("openai", Answer(headers=OF_OPENAI))
    settings = settings_for(providers, "openai:m", "openai/b:m", llm_api_keys={"openai/b": KEY})
    async with aclosing(create_chat_model(settings)) as model:
        await model.ainvoke("hello")
        assert (await model.ainvoke("hello")).response_metadata["answered_by"] == "openai/b:m"
        assert quota(model, 1).snapshot().left == {}


@pytest.mark.real_time
async def test_the_only_model_is_not_asked_while_its_quota_is_used_up_for_long(
    providers: ProviderServer,
) -> None:
    providers.script("openai", Answer(headers=OF_OPENAI | {"x-ratelimit-reset-requests": "3h0m0s"}))
    async with aclosing(model_of(providers, "openai")) as model:
        await model.ainvoke("hello")
        with pytest.raises(ModelsUnavailable, match="quota is used up") as refused:
            await model.ainvoke("hello again")
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 60
    assert providers.count() == 1


@pytest.mark.parametrize(("bounded", "given"), [(None, 1024), (300, 300)])
def test_an_answer_is_thought_to_be_as_long_as_it_may_be(bounded: int | None, given: int) -> None:
    made = quota_of(ModelName("openai", "m"), followers=0, output=bounded)
    assert made is not None
    assert made.tokens is not None
    assert made.tokens(None, question("x" * 400)) == (104, given)
    assert made.tokens(None, question("x" * 400, max_tokens=50)) == (104, 50)


def test_tools_and_attachments_count() -> None:
    made = ModelQuota()
    assert made.tokens is not None
    image = Question([HumanMessage([{"type": "image", "base64": "A" * 100_000}])], None, None, {})
    assert made.tokens(None, image)[0] == 1004  # type: ignore[index]


@pytest.mark.parametrize(("provider", "counts"), [("anthropic", False), ("openai", True), (ENDPOINT, True)])
def test_anthropic_does_not_count_what_its_cache_gave(provider: str, counts: bool) -> None:
    made = quota_of(ModelName(provider, "m"), followers=0)
    assert made is not None
    assert made.cached is counts


def test_providers_that_tell_nothing_have_none() -> None:
    assert quota_of(ModelName("google", "m"), followers=0) is None
    assert quota_of(ModelName("offline", "offline"), followers=0) is None


async def test_a_call_settles_with_what_it_used_and_cached_input_where_it_counts() -> None:
    async def ask(model: None, asked: Question) -> ChatResult:
        return answer(input_tokens=100, output_tokens=20, cached=80)

    for cached, taken in ((True, 120), (False, 40)):
        made = ModelQuota(cached=cached)
        made.observe({"x-ratelimit-limit-tokens": "600000", "x-ratelimit-remaining-tokens": "600000"})
        await Pipeline("llm", made).call(ask, None, question())
        assert made.machine.taken.each == (1, taken, taken - 20, 20)


async def test_the_pieces_of_a_stream_are_added_up() -> None:
    async def ask(model: None, asked: Question) -> AsyncIterator[ChatGenerationChunk]:
        for sent, got in ((100, 1), (0, 0), (20, 9)):
            told: Any = {"input_tokens": sent, "output_tokens": got, "total_tokens": sent + got}
            yield ChatGenerationChunk(message=AIMessageChunk("word", usage_metadata=told))

    made = ModelQuota()
    _ = [item async for item in Pipeline("llm", made).stream(ask, None, question())]
    assert made.machine.taken.each == (1, 130, 120, 10)


async def test_quota_is_waited_for_where_it_comes_soon() -> None:
    made = quota_of(ModelName("openai", "m"), followers=1, output=1)
    assert made is not None
    used = {"limit": "60", "remaining": "0", "reset": "60s"}
    made.observe({f"x-ratelimit-{name}-requests": value for name, value in used.items()})

    async def ask(model: None, asked: Question) -> float:
        return now()

    pipeline = Pipeline("llm", made)
    assert await pipeline.call(ask, None, question()) == pytest.approx(1)
    first, second = await asyncio.gather(
        pipeline.call(ask, None, question()),
        pipeline.call(ask, None, question()),
        return_exceptions=True,
    )
    assert first == pytest.approx(2)
    assert isinstance(second, QuotaUsed)
