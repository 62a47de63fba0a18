"""How each model of the settings' chain is built: with which key, from where, and by which package."""

from __future__ import annotations

from collections.abc import Callable

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from mcp_server_langgraph.resilience import ConfigurationError
from mcp_server_langgraph.resilience.config import current
from mcp_server_langgraph.settings import LOCAL_MODEL, PROVIDERS, ModelName, Settings

from .links import Closable
from .local_weights import weights
from .providers import COMPATIBLE, Access, build_model, require_package

__all__ = ["Build", "builder_of"]

Build = Callable[[], tuple[BaseChatModel, Closable | None]]


def builder_of(settings: Settings, name: ModelName) -> Build:
    """What makes the model, and the client to close with it. Nothing is imported or connected to before it is called.

    Raises ImportError where a package is missing, ConfigurationError where a key or an address is.
    """
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
