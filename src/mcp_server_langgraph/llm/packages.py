"""Which package asks which provider. Light: looked at before anything of a model is imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from mcp_server_langgraph.settings import PROVIDERS, ModelName, Settings

from .local_weights import missing_for_local_model

__all__ = ["COMPATIBLE", "PACKAGES", "missing_for_chain", "missing_package"]

COMPATIBLE: Final = "compatible"
"""The kind of provider that speaks OpenAI's API at an address of its own."""

PACKAGES: Final = {
    "anthropic": "langchain_anthropic",
    COMPATIBLE: "langchain_openai",
    "google": "langchain_google_genai",
    "local": "langchain_openai",
    "openai": "langchain_openai",
}


def missing_package(kind: str) -> str | None:
    """Which package that kind of provider lacks, and what to install; None where it is there. Imports nothing."""
    package = PACKAGES.get(kind)
    if package is None or find_spec(package) is not None:
        return None
    return f"{kind} needs the package {package.replace('_', '-')}: install mcp-server-langgraph[server]"


def missing_for_chain(settings: Settings) -> list[str]:
    """A sentence for each package that a model of the settings lacks: it could never answer."""
    return list(dict.fromkeys(_missing(settings)))


def _missing(settings: Settings) -> Iterator[str]:
    models = {"LLM_PROVIDER": [settings.llm_provider], "LLM_FALLBACK_MODELS": settings.llm_fallback_models}
    for variable, names in models.items():
        for provider in (ModelName.read(name).provider for name in names):
            kind = provider if provider in PROVIDERS else COMPATIBLE
            wanted = [missing_for_local_model()] if kind == "local" else []
            for missing in (*wanted, missing_package(kind)):
                if missing is not None:
                    yield f"{variable} names {provider}: {missing}"
