"""Quotas that the settings tell, for providers whose answers tell nothing: Google over real sockets."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.llm.factory import chain_of, create_chat_model, limits_of, quota_of
from mcp_server_langgraph.llm.guarded import GuardedChatModel, ModelsUnavailable
from mcp_server_langgraph.resilience import Quota
from mcp_server_langgraph.settings import ModelName, Settings
from tests.llm.models import ENDPOINT, ask, model_of, set_policies, settings_for
from tests.llm.provider_server import Answer, ProviderServer

GOOGLE = "google:m"


def limited(server: ProviderServer, quotas: dict[str, str], *names: str) -> GuardedChatModel:
    return create_chat_model(settings_for(server, *names, llm_quotas=quotas))


def quota(model: GuardedChatModel) -> Quota:
    found = model._links[0]._policies.quota
    assert found is not None
    return found


def retry_info(delay: str, *more: dict[str, Any]) -> Answer:
    """Google's 429, which tells in its body how long to wait."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down", "details": [*more, info]}
    return Answer(429, {"error": error})


def google_answer(streamed: bool) -> Answer:
    """An answer with thoughts and cached input; a stream tells with each piece what was used so far."""
    used = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 127,
    }
    content = {"content": {"role": "model", "parts": [{"text": "fine"}]}, "index": 0}
    last = {"candidates": [content | {"finishReason": "STOP"}], "usageMetadata": used, "modelVersion": "m"}
    if not streamed:
        return Answer(body=last)
    early = used | {"candidatesTokenCount": 3, "totalTokenCount": 123}
    first = {"candidates": [content], "usageMetadata": early, "modelVersion": "m"}
    events = "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in (first, last))
    return Answer(body=events.encode(), headers={"content-type": "text/event-stream"})


@pytest.mark.real_time
@pytest.mark.parametrize("name", [GOOGLE, f"{ENDPOINT}:m"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_more_requests_leave_for_a_silent_provider_than_were_set(
    providers: ProviderServer, name: str, streamed: bool
) -> None:
    async with aclosing(limited(providers, {name: "2/-"}, name, "anthropic:second")) as model:
        await model.prepare()  # imports may take longer than the minute that is counted
        answered = [(await ask(model, streamed)).response_metadata["answered_by"] for _ in range(4)]
    assert answered == [name, name, "anthropic:second", "anthropic:second"]
    assert providers.count(name.partition(":")[0]) == 2


@pytest.mark.real_time
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_googles_answers_used_is_settled(providers: ProviderServer, streamed: bool) -> None:
    providers.always("google", google_answer(streamed))
    async with aclosing(limited(providers, {GOOGLE: "10/1000"}, GOOGLE)) as model:
        assert (await ask(model, streamed)).text.startswith("fine")
        assert quota(model).machine.taken.each == (1, 127, 100, 27)
        assert quota(model).snapshot().left == {"requests": 9, "input_tokens": 900}


@pytest.mark.real_time
async def test_what_an_endpoint_tells_after_all_overrules_the_setting(providers: ProviderServer) -> None:
    told = {"x-ratelimit-limit-requests": "50", "x-ratelimit-remaining-requests": "49"}
    providers.always(ENDPOINT, Answer(headers=told))
    name = f"{ENDPOINT}:m"
    async with aclosing(limited(providers, {name: "1/5000"}, name)) as model:
        for _ in range(3):
            await model.ainvoke("hello")
        assert quota(model).snapshot().limits == {"requests": 50, "tokens": 5000}
    assert providers.count() == 3


@pytest.mark.real_time
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_wait_in_the_body_of_googles_refusal_keeps_all_calls_away(
    providers: ProviderServer, streamed: bool
) -> None:
    providers.always("google", retry_info("3600s"))
    async with aclosing(limited(providers, {GOOGLE: "10/-"}, GOOGLE)) as model:
        for reason in ("rate limited", "asked to be left alone"):
            with pytest.raises(ModelsUnavailable, match=reason) as caught:
                await ask(model, streamed)
            assert caught.value.retry_after == pytest.approx(3600, rel=0.2)
        assert quota(model).refuses_for(asyncio.get_running_loop().time()) > 1800
    assert providers.count() == 1


@pytest.mark.real_time
async def test_a_wait_in_the_body_is_waited_for_where_there_is_no_other_model(
    providers: ProviderServer,
) -> None:
    providers.script("google", retry_info("1.25s"))
    async with aclosing(model_of(providers, GOOGLE)) as model:
        assert (await model.ainvoke("hello")).text == "fine"
    first, second = providers.arrivals
    assert second - first >= 1.25


@pytest.mark.real_time
async def test_a_wait_for_a_quota_of_the_day_holds_nobody(providers: ProviderServer) -> None:
    """Google sends some seconds with it too, after which it would refuse again."""
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
    providers.script("google", retry_info("3600s", failure))
    async with aclosing(limited(providers, {GOOGLE: "10/-"}, GOOGLE)) as model:
        with pytest.raises(ModelsUnavailable, match="quota exhausted"):
            await model.ainvoke("hello")
        assert (await model.ainvoke("hello")).text == "fine"


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("google:gemini-x", {"requests": 10, "input_tokens": 250_000}),
        ("google:Gemini-X", {"requests": 10, "input_tokens": 250_000}),
        ("vllm:a/b:c", {"requests": 60}),
        ("openai:m", {"tokens": 90_000}),
        ("openai/b:m", {}),
        ("openai:other", {}),
    ],
)
def test_a_limit_is_of_one_account_and_model_and_google_counts_the_input(
    name: str, limits: dict[str, float]
) -> None:
    quotas = "google:gemini-X=10/250000, vllm:a/b:c=60/-, openai:m=-/90000"
    assert limits_of(Settings.from_env({"LLM_QUOTAS": quotas}), ModelName.read(name)) == limits


def test_a_model_that_is_the_providers_default_is_limited_by_its_name() -> None:
    given = {"LLM_PROVIDER": "google", "GOOGLE_API_KEY": "k", "LLM_QUOTAS": "google:gemini-3.5-flash=5/-"}
    settings = Settings.from_env(given)
    (name,) = chain_of(settings)
    assert limits_of(settings, name) == {"requests": 5}


async def test_models_of_this_process_have_a_quota_only_where_it_is_set() -> None:
    set_policies()
    assert quota_of(ModelName("google", "m"), followers=0, limits={}) is None
    async with aclosing(create_chat_model(Settings(llm_quotas={"offline:offline": "1/-"}))) as model:
        await model.ainvoke("hello")
        assert quota(model).snapshot().left == {"requests": 0}
