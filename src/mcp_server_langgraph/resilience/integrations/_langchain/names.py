"""What a model is called in metrics and settings, and what a chain of them can do."""

# pyright: reportPrivateUsage=false
# What a model is called it tells only its traces.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel, ModelProfile

__all__ = ["common_profile", "name_of", "tells_why_it_ends"]

# Where each integration keeps the address that it asks, and the addresses that need not be told apart.
_ADDRESSES: Final = (
    "azure_endpoint",
    "anthropic_api_url",
    "openai_api_base",
    "base_url",
    "endpoint_url",
)
_USUAL: Final = ("api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com")
# Providers whose streams end with a reason, whatever the model (each is tested with its own SDK).
_TELLING: Final = frozenset({"anthropic", "azure", "google_genai", "google_vertexai", "openai"})


def name_of(model: BaseChatModel) -> tuple[str, str]:
    """Provider and model; with the host where it is not the provider's own, for other hosts have troubles of their
    own.
    """
    traced = model._get_ls_params()
    provider = str(traced.get("ls_provider") or model._llm_type)
    name = str(traced.get("ls_model_name") or model._llm_type)
    host = _host_of(model)
    return provider, f"{name}@{host}" if host else name


def tells_why_it_ends(provider: str) -> bool | None:
    """Whether streams of the provider's models end with a reason; None where that is not known."""
    return True if provider in _TELLING else None


def _host_of(model: BaseChatModel) -> str:
    for name in _ADDRESSES:
        address = getattr(model, name, None)
        if isinstance(address, str) and address:
            host = urlsplit(address).netloc
            return "" if host in _USUAL else host
    return ""


def common_profile(models: Sequence[BaseChatModel]) -> ModelProfile | None:
    """What all of them can do, as one of them may have to answer; None where one does not say."""
    profiles = [_profile_of(model) for model in models]
    if not all(profiles):
        return None
    first, *rest = profiles
    common = {
        name: _least([value, *(other[name] for other in rest)])
        for name, value in first.items()
        if all(name in other for other in rest)
    }
    return cast(ModelProfile, {name: value for name, value in common.items() if value is not None})


def _profile_of(model: BaseChatModel) -> Mapping[str, Any]:
    profile = dict(model.profile or {})
    name = name_of(model)[1].lower()
    if profile and "gemini" in name and "gemini-3" not in name:
        profile["structured_output"] = (
            False  # those cannot do it together with tools, as `create_agent` knows
        )
    return profile


def _least(values: Sequence[Any]) -> Any:
    """What holds for all: the smallest number, True only where all say so; None where that makes no sense."""
    if all(isinstance(value, (bool, int, float)) for value in values):
        return min(values)
    return values[0] if all(value == values[0] for value in values) else None
