"""The chat model that the settings describe, guarded: a breaker for each account and model of a provider, a bulkhead
for each account, the ADR's ``LLM_TIMEOUT`` over the whole chain of models, and the providers' own retries off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, ConfigurationError, Cooldown, Retry
from mcp_server_langgraph.resilience.config import current
from mcp_server_langgraph.resilience.integrations.langchain import (
    IDLE_TIMEOUT,
    LONGEST_COOLDOWN,
    TYPICAL_OUTPUT,
    ModelPolicies,
    ModelQuota,
    Price,
    Spending,
)
from mcp_server_langgraph.settings import PROVIDERS, ModelName, Settings

from .guarded import GuardedChatModel
from .links import Closable, LazyLink
from .local_weights import MODEL as LOCAL_MODEL
from .local_weights import weights
from .prices import Prices
from .providers import COMPATIBLE, DEFAULT_MODELS, Access, build_model, require_package

__all__ = ["SHORT_WAIT", "SILENT", "chain_of", "create_chat_model", "guarded_link", "quota_of"]

SILENT: Final = frozenset({"google", "local", "offline"})
"""Providers whose answers tell nothing of our quota."""

SHORT_WAIT: Final = 1.0
"""Seconds for which quota is waited for where another model could be asked: about what asking that one costs."""

LOCAL_PLACES: Final = 4
"""More would wait longer than their callers do."""

Build = Callable[[], tuple[BaseChatModel, Closable | None]]


def create_chat_model(settings: Settings, *, idle: float = IDLE_TIMEOUT) -> GuardedChatModel:
    """The model of the settings with its fallback models behind it. ``idle``: seconds between pieces of a stream.

    Nothing of a provider is imported before its model is first asked (or ``prepare`` is awaited). Raises ImportError
    where a provider's package is missing, ConfigurationError where its key or address is.
    """
    chain, prices = chain_of(settings), Prices(settings)
    bulkheads = {name.source: _places(name) for name in chain}
    links = []
    for index, name in enumerate(chain):
        followers = len(chain) - index - 1
        link = guarded_link(
            name,
            _builder(settings, name),
            bulkhead=bulkheads[name.source],
            quota=quota_of(name, followers=followers, output=settings.llm_max_output_tokens),
            price=prices.of(str(name)),
            followers=followers,
            idle=idle,
        )
        links.append(link)
    return GuardedChatModel(links, remembers=settings.llm_cached_answer_seconds)


def quota_of(name: ModelName, *, followers: int, output: int | None = None) -> ModelQuota | None:
    """The quota of an account for a model; None where its provider tells nothing of it. ``output``: tokens that an
    answer may have.
    """
    if name.provider in SILENT:
        return None
    return ModelQuota(
        max_wait=SHORT_WAIT if followers else LONGEST_COOLDOWN,
        name=service_of(name),
        output=TYPICAL_OUTPUT if output is None else output,
        cached=name.provider != "anthropic",
    )


def chain_of(settings: Settings) -> list[ModelName]:
    """The models that are asked in turn, without repetitions."""
    first = ModelName(settings.llm_provider, settings.llm_model or "")
    names = [first, *map(ModelName.read, settings.llm_fallback_models)]
    return list(dict.fromkeys(_with_model(name) for name in names))


def _with_model(name: ModelName) -> ModelName:
    model = name.model or DEFAULT_MODELS.get(name.provider)
    if not model:
        raise ConfigurationError(f"{name.source}: LLM_MODEL must name its model, as it has none by default")
    return name._replace(model=model)


def _places(name: ModelName) -> Bulkhead:
    """Calls at a time: as many as the settings say, but for the local model, which answers one after the other."""
    return Bulkhead(LOCAL_PLACES if name.provider == "local" else None, name=f"llm.{name.source}")


def guarded_link(
    name: ModelName,
    build: Build,
    *,
    bulkhead: Bulkhead,
    quota: ModelQuota | None = None,
    price: Price | None = None,
    followers: int = 0,
    idle: float = IDLE_TIMEOUT,
) -> LazyLink:
    """One model behind its pipelines. ``followers``: how many models can be asked after it; each must be left time."""
    cooldown = Cooldown(max_wait=0.0 if followers else LONGEST_COOLDOWN)
    breaker = CircuitBreaker(service_of(name))
    policies = ModelPolicies(Retry(), cooldown, breaker, bulkhead, quota, Spending(str(name), price))
    return LazyLink(name, service_of(name), build, policies, followers=followers, idle=idle)


def service_of(name: ModelName) -> str:
    """What metrics and settings call a model."""
    return f"llm.{name.source}.{name.model}"


def _builder(settings: Settings, name: ModelName) -> Build:
    if name.provider == "offline":
        return lambda: (_offline(settings), None)
    if name.provider == "local":
        return _local(name)
    kind = name.provider if name.provider in PROVIDERS else COMPATIBLE
    require_package(kind)
    access = _compatible_access(settings, name) if kind == COMPATIBLE else _access(settings, name)
    return lambda: build_model(kind, name.model, access)


def _access(settings: Settings, name: ModelName) -> Access:
    variable = f"{name.provider}_api_key"
    key = settings.llm_api_keys.get(name.source) if name.account else getattr(settings, variable)
    if key is None:
        where = (
            f"LLM_API_KEYS holds no key of {name.source}"
            if name.account
            else f"{variable.upper()} is not set"
        )
        raise ConfigurationError(f"{where}: it is needed for {name}")
    return _reached(settings, key, getattr(settings, f"{name.provider}_base_url"))


def _compatible_access(settings: Settings, name: ModelName) -> Access:
    url = settings.llm_endpoints.get(name.provider)
    if url is None:
        known = ", ".join((*PROVIDERS, *settings.llm_endpoints))
        raise ConfigurationError(f"{name}: {name.provider!r} is no provider; there are {known}")
    key = settings.llm_api_keys.get(name.source)
    if name.account and key is None:
        raise ConfigurationError(f"LLM_API_KEYS holds no key of {name.source}: it is needed for {name}")
    return _reached(settings, key, url)


def _reached(settings: Settings, key: SecretStr | None, url: str | None) -> Access:
    return Access(_seconds(), key, url, settings.llm_max_output_tokens, settings.llm_connect_seconds)


def _seconds() -> float:
    """The socket's limit stands behind the pipeline's, for whoever switches the patterns off."""
    return current().timeout("llm")


def _local(name: ModelName) -> Build:
    if name.model != LOCAL_MODEL:
        raise ConfigurationError(f"{name}: the local model is {LOCAL_MODEL}, and there is no other")
    weights()
    require_package(COMPATIBLE)
    seconds = _seconds()

    def build() -> tuple[BaseChatModel, Closable]:
        from .local import LocalChatModel

        model = LocalChatModel(timeout=seconds)
        return model, model

    return build


def _offline(settings: Settings) -> BaseChatModel:
    from .offline import OfflineChatModel

    return OfflineChatModel(delay=settings.llm_offline_delay_seconds)
