"""What the settings become."""

import subprocess
import sys

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import SecretStr

from mcp_server_langgraph.llm import packages
from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.llm.providers import DEFAULT_MODELS
from mcp_server_langgraph.resilience import ConfigurationError, registry
from mcp_server_langgraph.settings import Settings
from tests.llm.models import KEY, set_policies

PACKAGES = (
    "langchain_anthropic",
    "langchain_google_genai",
    "langchain_openai",
    "anthropic",
    "openai",
    "google.genai",
)


@tool
def calculator(expression: str) -> str:
    """Calculate."""
    return "4"


def keys() -> dict[str, str]:
    return {f"{provider}_api_key": KEY for provider in ("anthropic", "google", "openai")}


def names(settings: Settings) -> list[str]:
    return [link.name for link in create_chat_model(settings)._links]


def test_the_chain_is_the_model_and_its_fallbacks_each_once() -> None:
    settings = Settings(
        llm_provider="openai",
        llm_model="big",
        llm_fallback_models=["anthropic:claude", "openai:big", "openai:small", "offline"],
        **keys(),  # type: ignore[arg-type]
    )
    assert names(settings) == ["openai:big", "anthropic:claude", "openai:small", "offline:offline"]


@pytest.mark.parametrize("provider", ["anthropic", "google", "openai", "offline"])
def test_a_provider_has_a_model_by_default(provider: str) -> None:
    settings = Settings(llm_provider=provider, **keys())  # type: ignore[arg-type]
    assert names(settings) == [f"{provider}:{DEFAULT_MODELS[provider]}"]


def test_a_missing_key_is_named_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY is not set"):
        create_chat_model(Settings(llm_provider="anthropic"))


def test_a_missing_package_is_named_at_the_start_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"langchain-openai: install mcp-server-langgraph\[server\]"):
        create_chat_model(Settings(llm_provider="openai", **keys()))  # type: ignore[arg-type]


def test_no_provider_is_imported_before_it_is_asked() -> None:
    program = f"""
import sys
from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.settings import Settings
create_chat_model(Settings(llm_provider="openai", openai_api_key="k", anthropic_api_key="k", google_api_key="k",
                           llm_fallback_models=["anthropic:a", "google:b"]))
print([name for name in {PACKAGES} if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert ran.stdout.strip() == "[]"


def test_only_the_provider_that_is_asked_is_imported() -> None:
    program = f"""
import asyncio, sys
from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.settings import Settings
model = create_chat_model(Settings(llm_provider="openai", openai_api_key="k", anthropic_api_key="k",
                                   llm_fallback_models=["anthropic:a"]))
asyncio.run(model._links[0].ready())
print([name for name in {PACKAGES} if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert ran.stdout.strip() == "['langchain_openai', 'openai']"


def test_models_of_one_provider_share_its_places_and_have_breakers_of_their_own() -> None:
    settings = Settings(
        llm_provider="openai",
        llm_model="big",
        llm_fallback_models=["openai:small", "google:g"],
        **keys(),  # type: ignore[arg-type]
    )
    model = create_chat_model(settings)
    bulkheads = [link.calls.policies[0] for link in model._links]
    assert bulkheads[0] is bulkheads[1]
    assert bulkheads[0] is not bulkheads[2]
    assert {"llm.openai.big", "llm.openai.small", "llm.google.g"} <= registry.breakers().keys()


def test_limits_and_times_come_from_the_settings_of_the_layer() -> None:
    set_policies(LLM_CONCURRENCY_LIMIT="7", LLM_OPENAI_CONCURRENCY_LIMIT="3", LLM_TIMEOUT="30")
    settings = Settings(llm_provider="openai", llm_fallback_models=["google:g"], **keys())  # type: ignore[arg-type]
    model = create_chat_model(settings)
    limits = [link.calls.describe()["policies"][0]["limit"] for link in model._links]
    seconds = [link.calls.describe()["policies"][-1]["seconds"] for link in model._links]
    assert limits == [3, 7]
    assert seconds == [pytest.approx(14.25), pytest.approx(28.5)]
    assert model._answers.describe()["seconds"] == 30


@pytest.mark.parametrize(
    ("provider", "others", "waits"),
    [
        ("openai", ["openai:small", "google:g"], [0.25, 0.25, 5.0]),
        ("openai", ["openai:small"], [5.0, 5.0]),
        ("openai", ["google:g", "openai:small"], [5.0, 0.25, 5.0]),
        ("openai", ["openai/teamb:big"], [0.25, 5.0]),
        ("openai", ["local", "offline"], [5.0, 5.0, 5.0]),
    ],
)
def test_a_place_is_waited_for_only_shortly_where_another_provider_can_be_asked(
    provider: str, others: list[str], waits: list[float]
) -> None:
    settings = Settings(
        llm_provider=provider,
        llm_fallback_models=others,
        llm_api_keys={"openai/teamb": SecretStr(KEY)},
        **keys(),  # type: ignore[arg-type]
    )
    links = create_chat_model(settings)._links
    assert [link.calls.describe()["policies"][0]["max_wait"] for link in links] == waits


def test_how_long_a_place_is_waited_for_can_be_set() -> None:
    set_policies(LLM_BULKHEAD_MAX_WAIT="3")
    settings = Settings(llm_provider="openai", llm_fallback_models=["google:g"], **keys())  # type: ignore[arg-type]
    links = create_chat_model(settings)._links
    assert [link.calls.describe()["policies"][0]["max_wait"] for link in links] == [3, 3]


def test_neither_key_nor_link_shows_in_what_is_printed() -> None:
    model = create_chat_model(Settings(llm_provider="openai", **keys()))  # type: ignore[arg-type]
    assert KEY not in f"{model!r} {model._answers!r} {model._links[0].calls!r} {model.asdict()}"


@pytest.mark.real_time
async def test_the_offline_model_runs_its_tool_loop_behind_the_same_guard() -> None:
    model = create_chat_model(Settings())
    await model.prepare()
    bound = model.bind_tools([calculator])
    call = await bound.ainvoke([HumanMessage("what is 2 + 2?")])
    assert [each["name"] for each in call.tool_calls] == ["calculator"]
    assert call.response_metadata["answered_by"] == "offline:offline"
    result = ToolMessage("4", tool_call_id=str(call.tool_calls[0]["id"]), name="calculator")
    pieces = [chunk async for chunk in bound.astream([HumanMessage("what is 2 + 2?"), call, result])]
    assert "4" in "".join(str(piece.text) for piece in pieces)
    await model.aclose()
