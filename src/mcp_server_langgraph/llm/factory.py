"""The chat model that the settings describe, guarded: a breaker for each account and model of a provider, a bulkhead
for each account, the ADR's ``LLM_TIMEOUT`` over the whole chain of models, and the providers' own retries off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, ConfigurationError, Cooldown, Retry
from mcp_server_langgraph.resilience.integrations.langchain import (
    IDLE_TIMEOUT,
    LONGEST_COOLDOWN,
    TYPICAL_OUTPUT,
    ModelPolicies,
    ModelQuota,
    Price,
    Spending,
)
from mcp_server_langgraph.settings import ModelName, Settings

from .building import Build, builder_of
from .guarded import GuardedChatModel
from .links import LazyLink
from .prices import Prices
from .providers import DEFAULT_MODELS

__all__ = ["SHORT_WAIT", "SILENT", "chain_of", "create_chat_model", "guarded_link", "limits_of", "quota_of"]

STAND_INS: Final = frozenset({"local", "offline"})
"""What answers where nobody else does; nothing that can be waited for is passed over for it."""

SILENT: Final = frozenset({"google", *STAND_INS})
"""Providers whose answers tell nothing of our quota, which therefore has to be set."""

SHORT_WAIT: Final = 1.0
"""Seconds for which quota is waited for where another model could be asked: about what asking that one costs."""

PEER_WAIT: Final = 0.25
"""Seconds for which a place is waited for where another provider is as good: whether the calls before are slow or hang
is not known before their time is over.
"""

LOCAL_PLACES: Final = 4
"""More would wait longer than their callers do."""


def create_chat_model(settings: Settings, *, idle: float = IDLE_TIMEOUT) -> GuardedChatModel:
    """The model of the settings with its fallback models behind it. ``idle``: seconds between pieces of a stream.

    Nothing of a provider is imported before its model is first asked (or ``prepare`` is awaited). Raises ImportError
    where a provider's package is missing, ConfigurationError where its key or address is.
    """
    chain, prices = chain_of(settings), Prices(settings)
    bulkheads = {name.source: _places(name, chain) for name in chain}
    links = []
    for index, name in enumerate(chain):
        followers = len(chain) - index - 1
        link = guarded_link(
            name,
            builder_of(settings, name),
            bulkhead=bulkheads[name.source],
            quota=quota_of(
                name,
                followers=followers,
                output=settings.llm_max_output_tokens,
                limits=limits_of(settings, name),
            ),
            price=prices.of(str(name)),
            followers=followers,
            idle=idle,
        )
        links.append(link)
    return GuardedChatModel(links, remembers=settings.llm_cached_answer_seconds)


def quota_of(
    name: ModelName,
    *,
    followers: int,
    output: int | None = None,
    limits: Mapping[str, float] | None = None,
) -> ModelQuota | None:
    """The quota of an account for a model; None where neither its provider nor the settings tell anything of it.

    ``output``: tokens that an answer may have. ``limits``: of a minute, as the settings tell them.
    """
    if name.provider in SILENT and not limits:
        return None
    return ModelQuota(
        max_wait=SHORT_WAIT if followers else LONGEST_COOLDOWN,
        name=service_of(name),
        output=TYPICAL_OUTPUT if output is None else output,
        cached=name.provider != "anthropic",
        limits=limits,
    )


def limits_of(settings: Settings, name: ModelName) -> dict[str, float]:
    """What the settings allow an account of a model in a minute, by dimension. Nothing where they do not name it: the
    limits of one account are not those of another.
    """
    requests, _, tokens = settings.llm_quotas.get(str(name).lower(), "-/-").partition("/")
    # Google's limit is one of the input: https://ai.google.dev/gemini-api/docs/rate-limits
    told = {"requests": requests, "input_tokens" if name.provider == "google" else "tokens": tokens}
    return {dimension: float(limit) for dimension, limit in told.items() if limit != "-"}


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


def _places(name: ModelName, chain: Sequence[ModelName]) -> Bulkhead:
    """Calls at a time: as many as the settings say, but for the local model, which answers one after the other."""
    limit = LOCAL_PLACES if name.provider == "local" else None
    return Bulkhead(
        limit, max_wait=PEER_WAIT if _has_a_peer(name, chain) else None, name=f"llm.{name.source}"
    )


def _has_a_peer(name: ModelName, chain: Sequence[ModelName]) -> bool:
    """Whether another account's model is asked after all of this account's. A stand-in of ours is no peer."""
    after = list(chain)
    while any(other.source == name.source for other in after):
        after.pop(0)
    return any(other.provider not in STAND_INS for other in after)


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
