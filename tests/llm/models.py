"""Guarded models that ask servers on this machine, under the layer's real policies."""

from typing import Any

from langchain_core.language_models import BaseChatModel

from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.llm.guarded import GuardedChatModel
from mcp_server_langgraph.resilience.config import Settings as ResilienceSettings
from mcp_server_langgraph.resilience.config import install
from mcp_server_langgraph.settings import Settings

__all__ = [
    "ALL",
    "ENDPOINT",
    "KEY",
    "NEXT",
    "PROVIDERS",
    "ask",
    "built",
    "model_of",
    "set_policies",
    "settings_for",
]

PROVIDERS = ("anthropic", "google", "openai")
ENDPOINT = "vllm"
"""A server that speaks OpenAI's API under a name of its own."""
ALL = (*PROVIDERS, ENDPOINT)
NEXT = {"anthropic": "openai", "google": "anthropic", "openai": "google", ENDPOINT: "anthropic"}
"""Who is asked behind each of them."""
KEY = "sk-not-a-real-key"


def set_policies(**variables: str) -> None:
    """Settings of the layer for what is built from now on; the waits between attempts are short."""
    install(ResilienceSettings({"LLM_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01", **variables}))


def model_of(server: Any, *names: str, **options_of_factory: Any) -> GuardedChatModel:
    """The guarded model for "provider:model" and its fallbacks, asking the server given."""
    return create_chat_model(settings_for(server, *names), **options_of_factory)


def settings_for(server: Any, *names: str, **more: Any) -> Settings:
    """Settings with that chain, every provider of which is the server given."""
    provider, _, model = names[0].partition(":")
    options: dict[str, Any] = {f"{name}_api_key": KEY for name in PROVIDERS}
    options |= {f"{name}_base_url": server.base_url(name) for name in PROVIDERS}
    options["llm_endpoints"] = {ENDPOINT: server.base_url(ENDPOINT)}
    return Settings(
        llm_provider=provider,
        llm_model=model or "model-1",
        llm_fallback_models=list(names[1:]),
        **options | more,
    )


async def built(model: GuardedChatModel, index: int = 0) -> BaseChatModel:
    """The provider's own model behind a link."""
    return await model._links[index].ready()


async def ask(model: GuardedChatModel, streamed: bool) -> Any:
    """The answer to "hello", put together where it came in pieces."""
    if not streamed:
        return await model.ainvoke("hello")
    whole: Any = None
    async for chunk in model.astream("hello"):
        whole = chunk if whole is None else whole + chunk
    return whole
