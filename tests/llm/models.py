"""Guarded models that ask servers on this machine, under the layer's real policies."""

from typing import Any

from langchain_core.language_models import BaseChatModel

from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.llm.guarded import GuardedChatModel
from mcp_server_langgraph.resilience.config import Settings as ResilienceSettings
from mcp_server_langgraph.resilience.config import install
from mcp_server_langgraph.settings import Settings

__all__ = ["KEY", "PROVIDERS", "built", "model_of", "set_policies"]

PROVIDERS = ("anthropic", "google", "openai")
KEY = "sk-not-a-real-key"


def set_policies(**variables: str) -> None:
    """Settings of the layer for what is built from now on; the waits between attempts are short."""
    install(ResilienceSettings({"LLM_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01", **variables}))


def model_of(server: Any, *names: str, **options_of_factory: Any) -> GuardedChatModel:
    """The guarded model for "provider:model" and its fallbacks, asking the server given."""
    provider, _, model = names[0].partition(":")
    options: dict[str, Any] = {f"{name}_api_key": KEY for name in PROVIDERS}
    options |= {f"{name}_base_url": server.base_url(name) for name in PROVIDERS}
    return create_chat_model(
        Settings(
            llm_provider=provider,  # type: ignore[arg-type]
            llm_model=model or "model-1",
            llm_fallback_models=list(names[1:]),
            **options,
        ),
        **options_of_factory,
    )


async def built(model: GuardedChatModel, index: int = 0) -> BaseChatModel:
    """The provider's own model behind a link."""
    return await model._links[index].ready()
