"""Endpoints that speak OpenAI's API, and further accounts of a provider, as links of the chain."""

from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.resilience import ConfigurationError, registry
from mcp_server_langgraph.settings import Settings
from tests.llm.models import ENDPOINT, KEY, model_of, settings_for
from tests.llm.provider_server import Answer, ProviderServer

TEAM_KEY = "sk-of-the-second-team"


def chain(**fields: Any) -> list[str]:
    return [link.name for link in create_chat_model(Settings(**fields))._links]


def test_endpoints_are_links_of_the_chain_like_providers() -> None:
    names = chain(
        llm_provider="vllm",
        llm_model="meta-llama/Llama-4",
        llm_fallback_models=["ollama:llama3.2:1b", "offline"],
        llm_endpoints={"vllm": "http://vllm:8000/v1", "ollama": "http://127.0.0.1:11434/v1"},
    )
    assert names == ["vllm:meta-llama/Llama-4", "ollama:llama3.2:1b", "offline:offline"]


def test_accounts_of_one_provider_are_links_of_their_own() -> None:
    fields: dict[str, Any] = {"openai_api_key": KEY, "llm_api_keys": {"openai/teamb": TEAM_KEY}}
    names = chain(llm_provider="openai", llm_model="m", llm_fallback_models=["openai/teamb:m"], **fields)
    assert names == ["openai:m", "openai/teamb:m"]
    assert chain(llm_provider="openai/teamb", llm_model="m", **fields) == ["openai/teamb:m"]


def test_each_account_has_its_own_breaker_bulkhead_and_cooldown_with_its_name() -> None:
    settings = Settings(
        llm_provider="openai",
        llm_model="m",
        llm_fallback_models=["openai/teamb:m", "openai/teamb:n"],
        openai_api_key=KEY,  # type: ignore[arg-type]
        llm_api_keys={"openai/teamb": TEAM_KEY},  # type: ignore[dict-item]
    )
    first, second, third = create_chat_model(settings)._links
    assert {"llm.openai.m", "llm.openai/teamb.m", "llm.openai/teamb.n"} <= registry.breakers().keys()
    assert first.calls.policies[0] is not second.calls.policies[0]
    assert second.calls.policies[0] is third.calls.policies[0], "the account's places"
    cooldowns = [link._policies.cooldown for link in (first, second, third)]
    assert len(set(map(id, cooldowns))) == 3
    assert [link.calls.describe()["name"] for link in (first, second)] == [
        "llm.openai.m",
        "llm.openai/teamb.m",
    ]


def test_limits_of_an_account_are_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.llm.models import set_policies

    set_policies(LLM_OPENAI_CONCURRENCY_LIMIT="5", LLM_OPENAI_TEAMB_CONCURRENCY_LIMIT="2")
    model = create_chat_model(
        Settings(
            llm_provider="openai",
            llm_fallback_models=["openai/teamb:m"],
            openai_api_key=KEY,  # type: ignore[arg-type]
            llm_api_keys={"openai/teamb": TEAM_KEY},  # type: ignore[dict-item]
        )
    )
    assert [link.calls.describe()["policies"][0]["limit"] for link in model._links] == [5, 2]


def test_the_key_of_an_account_is_shown_nowhere() -> None:
    settings = Settings(
        llm_provider="openai/teamb",
        llm_model="m",
        llm_api_keys={"openai/teamb": TEAM_KEY},  # type: ignore[dict-item]
    )
    model = create_chat_model(settings)
    link = model._links[0]
    shown = f"{model!r} {link.calls!r} {link.calls.describe()} {settings!r} {settings.public()} {registry.metrics()}"
    assert "teamb" in shown
    assert TEAM_KEY not in shown


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"llm_provider": "vlm", "llm_model": "m"},
            "vlm:m: 'vlm' is no provider; there are offline, ",
        ),
        ({"llm_provider": "vllm", "llm_endpoints": {"vllm": "http://h/v1"}}, "vllm: LLM_MODEL must name"),
        ({"llm_provider": "openai/b"}, "LLM_API_KEYS holds no key of openai/b"),
    ],
)
def test_what_cannot_be_built_says_what_is_missing(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        chain(**fields)
    assert said in str(refused.value)


@pytest.mark.real_time
async def test_an_account_asks_with_its_own_key(providers: ProviderServer) -> None:
    providers.script("openai", Answer(429))
    settings = settings_for(providers, "openai:m", "openai/teamb:m", llm_api_keys={"openai/teamb": TEAM_KEY})
    async with aclosing(create_chat_model(settings)) as model:
        answer = await model.ainvoke("hello")
    assert answer.response_metadata["answered_by"] == "openai/teamb:m"
    assert [head["authorization"] for head in providers.heads] == [f"Bearer {KEY}", f"Bearer {TEAM_KEY}"]


@pytest.mark.real_time
async def test_an_endpoint_without_a_key_is_sent_none_and_nothing_that_is_meant_for_openai(
    providers: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-private")
    async with aclosing(model_of(providers, ENDPOINT)) as model:
        assert (await model.ainvoke("hello")).text == "fine"
    (head,) = providers.heads
    assert "authorization" not in head
    assert "private" not in str(head)
    assert KEY not in str(head)


@pytest.mark.real_time
async def test_an_endpoint_is_sent_the_key_that_it_has(providers: ProviderServer) -> None:
    settings = settings_for(providers, f"{ENDPOINT}:m", llm_api_keys={ENDPOINT: TEAM_KEY})
    async with aclosing(create_chat_model(settings)) as model:
        await model.ainvoke("hello")
    assert providers.heads[0]["authorization"] == f"Bearer {TEAM_KEY}"


@pytest.mark.real_time
async def test_a_streamed_answer_tells_what_it_used(providers: ProviderServer) -> None:
    async with aclosing(model_of(providers, ENDPOINT)) as model:
        _ = [chunk async for chunk in model.astream("hello")]
    assert providers.seen[0][2]["stream_options"] == {"include_usage": True}
