"""The chat model that the settings describe, guarded: a breaker for each provider and model, a bulkhead for each
provider, the ADR's ``LLM_TIMEOUT`` over the whole chain of models, and the providers' own retries off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, ConfigurationError, Cooldown, Retry
from mcp_server_langgraph.resilience.config import current
from mcp_server_langgraph.resilience.integrations.langchain import (
    IDLE_TIMEOUT,
    LONGEST_COOLDOWN,
    ModelPolicies,
)
from mcp_server_langgraph.settings import Settings

from .guarded import GuardedChatModel
from .links import Closable, LazyLink
from .providers import DEFAULT_MODELS, build_model, require_package

__all__ = ["create_chat_model", "guarded_link"]


def create_chat_model(settings: Settings, *, idle: float = IDLE_TIMEOUT) -> GuardedChatModel:
    """The model of the settings with its fallback models behind it. ``idle``: seconds between pieces of a stream.

    Nothing of a provider is imported before its model is first asked (or ``prepare`` is awaited). Raises ImportError
    where a provider's package is missing, ConfigurationError where its key is.
    """
    chain = _wanted(settings)
    bulkheads = {provider: Bulkhead(name=f"llm.{provider}") for provider, _ in chain}
    return GuardedChatModel(
        [
            guarded_link(
                provider,
                model,
                _builder(settings, provider, model),
                bulkhead=bulkheads[provider],
                followers=len(chain) - index - 1,
                idle=idle,
            )
            for index, (provider, model) in enumerate(chain)
        ]
    )


def _wanted(settings: Settings) -> list[tuple[str, str]]:
    """Provider and model of each link, without repetitions."""
    names = [f"{settings.llm_provider}:{settings.llm_model or ''}", *settings.llm_fallback_models]
    parts = [name.partition(":") for name in names]
    return list(dict.fromkeys((provider, model or DEFAULT_MODELS[provider]) for provider, _, model in parts))


def guarded_link(
    provider: str,
    model: str,
    build: Callable[[], tuple[BaseChatModel, Closable | None]],
    *,
    bulkhead: Bulkhead,
    followers: int = 0,
    idle: float = IDLE_TIMEOUT,
) -> LazyLink:
    """One model behind its pipelines. ``followers``: how many models can be asked after it; each must be left time."""
    cooldown = Cooldown(max_wait=0.0 if followers else LONGEST_COOLDOWN)
    breaker = CircuitBreaker(f"llm.{provider}.{model}")
    policies = ModelPolicies(Retry(), cooldown, breaker, bulkhead)
    return LazyLink(provider, model, build, policies, followers=followers, idle=idle)


def _builder(
    settings: Settings, provider: str, model: str
) -> Callable[[], tuple[BaseChatModel, Closable | None]]:
    if provider == "offline":
        return lambda: (_offline(settings), None)
    require_package(provider)
    given: Mapping[str, Any] = {
        name: getattr(settings, f"{provider}_{name}") for name in ("api_key", "base_url")
    }
    key: SecretStr | None = given["api_key"]
    if key is None:
        raise ConfigurationError(
            f"{provider.upper()}_API_KEY is not set: it is needed for {provider}:{model}"
        )
    # The socket's limit stands behind the pipeline's, for whoever switches the patterns off.
    seconds = current().timeout("llm")
    return lambda: build_model(provider, model, api_key=key, base_url=given["base_url"], timeout=seconds)


def _offline(settings: Settings) -> BaseChatModel:
    from .offline import OfflineChatModel

    return OfflineChatModel(delay=settings.llm_offline_delay_seconds)
