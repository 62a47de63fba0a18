"""Who answers: providers of language models, and the offline stand-in."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, SecretStr

from ._fields import URL, Group, HttpUrl, Lower, Names, setting

__all__ = ["ModelSettings", "Provider"]

Provider = Literal["offline", "anthropic", "openai", "google"]


def _model_names(value: list[str]) -> list[str]:
    for name in value:
        provider, _, model = name.partition(":")
        if provider not in get_args(Provider) or (provider != "offline" and not model):
            raise ValueError("provider:model")
    return value


class ModelSettings(Group):
    """Who answers: providers of language models, and the offline stand-in."""

    llm_provider: Annotated[Provider, Lower] = setting(
        "offline",
        "Who answers: a provider of language models, or the offline stand-in.",
        ", ".join(get_args(Provider)),
    )
    llm_model: str | None = setting(None, "Model of the provider; its default where None.", "a model's name")
    llm_fallback_models: Annotated[Names, AfterValidator(_model_names)] = setting(
        [], "Models that are asked in turn when the first is unavailable.", "comma separated provider:model"
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
