"""Who answers: providers of language models, endpoints that speak OpenAI's API, a small local model, and the offline
stand-in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Final

from pydantic import AfterValidator, SecretStr

from ._fields import URL, Group, HttpUrl, Names, Pairs, setting
from ._model_names import LOCAL_MODEL, ModelName, checked_source

__all__ = ["PROVIDERS", "ModelSettings", "missing_for_models"]

PROVIDERS: Final = ("offline", "local", "anthropic", "openai", "google")
# Models of this process and of this machine: they need no key, and have one model.
_OURS: Final = frozenset({"offline", "local"})
_WITH_KEYS: Final = frozenset(PROVIDERS) - _OURS
_PROVIDER: Final = f"{', '.join(PROVIDERS)}, a name of LLM_ENDPOINTS, or one of these with /account"
_PRICE: Final = re.compile(r"\d+(\.\d+)?(/\d+(\.\d+)?){1,2}")
_QUOTA: Final = re.compile(r"(?=.*\d)(-|[1-9]\d{0,11})/(-|[1-9]\d{0,11})")


def _model_names(value: list[str]) -> list[str]:
    for text in value:
        _complete(text)
    return value


def _complete(text: str) -> ModelName:
    name = ModelName.read(text)
    if not name.model and name.provider not in _OURS:
        raise ValueError("provider:model")
    return name


def _endpoints(value: dict[str, str]) -> dict[str, str]:
    for name, url in value.items():
        if checked_source(name) != name or "/" in name or name in PROVIDERS or "@" in url:
            raise ValueError("name=URL")
    return value


def _keys(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if any(checked_source(name) != name or name in PROVIDERS for name in value):
        raise ValueError("name=key")
    return value


def _prices(value: dict[str, str]) -> dict[str, str]:
    for name, price in value.items():
        if not _complete(name) or not _PRICE.fullmatch(price):
            raise ValueError("provider:model=input/output")
    return value


def _quotas(value: dict[str, str]) -> dict[str, str]:
    quotas: dict[str, str] = {}
    for text, quota in value.items():
        name = _complete(text)
        if not name.model or not _QUOTA.fullmatch(quota):
            raise ValueError("provider:model=requests/tokens, - for one that is not limited")
        quotas[str(name).lower()] = quota
    return quotas


class ModelSettings(Group):
    """Who answers: providers of language models, endpoints that speak OpenAI's API, and the offline stand-in."""

    llm_provider: Annotated[str, AfterValidator(checked_source)] = setting(
        "offline",
        "Who answers: a provider of language models, the small local model, or the offline stand-in.",
        _PROVIDER,
    )
    llm_model: str | None = setting(None, "Model of the provider; its default where unset.", "a model's name")
    llm_fallback_models: Annotated[Names, AfterValidator(_model_names)] = setting(
        [],
        "Models that are asked in turn when the first is unavailable.",
        "comma separated provider:model or provider/account:model",
    )
    llm_endpoints: Annotated[Pairs[HttpUrl], AfterValidator(_endpoints)] = setting(
        {},
        "Servers that speak OpenAI's API (vLLM, llama.cpp, Ollama), usable as providers by these names.",
        "comma separated name=URL: http:// or https:// without a password, a name that no provider has",
    )
    llm_api_keys: Annotated[Pairs[SecretStr], AfterValidator(_keys)] = setting(
        {},
        "Keys of endpoints, and of further accounts of a provider.",
        "comma separated endpoint=key or provider/account=key",
    )
    llm_prices: Annotated[Pairs[str], AfterValidator(_prices)] = setting(
        {},
        "What a million tokens of a model cost; models that are not named are not counted in costs.",
        "comma separated provider:model=input/output or provider:model=input/output/cached input",
    )
    llm_quotas: Annotated[Pairs[str], AfterValidator(_quotas)] = setting(
        {},
        "What an account may ask of a model in a minute, where its provider does not tell it with each answer (Google, "
        "most endpoints); of Google's tokens those of the input count.",
        "comma separated provider:model=requests/tokens or provider/account:model=requests/tokens: integers of at "
        "least 1, or - for one of them that is not limited",
    )
    llm_max_output_tokens: int | None = setting(
        None,
        "Tokens that an answer may have; where unset, as the provider wants.",
        "an integer of at least 1",
        ge=1,
    )
    llm_connect_seconds: float = setting(
        5.0, "Seconds that connecting to a provider may take.", "a number above 0, to 60", gt=0, le=60
    )
    llm_cached_answer_seconds: float = setting(
        3600.0,
        "Age up to which an earlier answer to the same question of the same caller stands in, while no model answers; "
        "0: never.",
        "a number of seconds, 0 to 604800",
        ge=0,
        le=604800,
    )
    llm_max_tool_rounds: int = setting(
        6, "Rounds of tool calls that one message may cost.", "an integer, 1 to 50", ge=1, le=50
    )
    llm_offline_delay_seconds: float = setting(
        0.0, "Seconds that the offline model takes to answer.", "a number, 0 to 600", ge=0, le=600
    )
    anthropic_api_key: SecretStr | None = setting(None, "Key for Anthropic.", "an API key")
    openai_api_key: SecretStr | None = setting(None, "Key for OpenAI.", "an API key")
    google_api_key: SecretStr | None = setting(None, "Key for Google.", "an API key")
    anthropic_base_url: HttpUrl | None = setting(None, "Where Anthropic's API is, if elsewhere.", URL)
    openai_base_url: HttpUrl | None = setting(None, "Where OpenAI's API is, if elsewhere.", URL)
    google_base_url: HttpUrl | None = setting(None, "Where Google's API is, if elsewhere.", URL)


def missing_for_models(given: Mapping[str, str]) -> Iterator[str]:
    """What the variables that are ``given`` want of each other, a sentence for each thing that is not there."""
    if "llm_model" in given and "llm_provider" not in given:
        yield f"LLM_PROVIDER is not set: it is needed because LLM_MODEL is {given['llm_model']!r}"
    endpoints, keys = (_names(given.get(name, "")) for name in ("llm_endpoints", "llm_api_keys"))
    for variable, name in _wanted(given):
        said = given.get(variable, "")
        why = f"it is needed because {variable.upper()} is {said!r}"
        if name.provider == "local" and name.model not in ("", LOCAL_MODEL):
            yield f"{name} is not there: the local model is {LOCAL_MODEL}, and there is no other"
        elif name.provider not in PROVIDERS and name.provider not in endpoints:
            known = ", ".join((*PROVIDERS, *endpoints))
            yield f"{variable.upper()}={said!r} names {name.provider!r}: the providers are {known}"
        elif name.account and name.source not in keys:
            yield f"LLM_API_KEYS holds no key of {name.source}: {why}"
        elif not name.account and name.provider in _WITH_KEYS and f"{name.provider}_api_key" not in given:
            yield f"{name.provider.upper()}_API_KEY is not set: {why}"
        if variable == "llm_provider" and name.provider in endpoints and "llm_model" not in given:
            yield f"LLM_MODEL is not set: {why}"


def _wanted(given: Mapping[str, str]) -> Iterator[tuple[str, ModelName]]:
    """The models that are asked for, and by which variable. What cannot be read is found wrong elsewhere."""
    first, others = given.get("llm_provider", "offline"), given.get("llm_fallback_models", "")
    with suppress(ValueError):
        yield "llm_provider", ModelName(checked_source(first), given.get("llm_model", ""))
    for text in others.split(","):
        with suppress(ValueError):
            yield "llm_fallback_models", _complete(text)


def _names(pairs: str) -> list[str]:
    return [pair.partition("=")[0].strip().lower() for pair in pairs.split(",") if pair.strip()]
