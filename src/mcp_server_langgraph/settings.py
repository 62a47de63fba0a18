"""The server's settings, read from the environment (the name of a variable is the upper case of its field).

The settings of the resilience layer belong to ``resilience.config``; ``load`` reads both and reports what is wrong in
either, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mcp_server_langgraph.resilience.config import Settings as ResilienceSettings
from mcp_server_langgraph.resilience.errors import SettingsError

__all__ = ["Provider", "Settings", "load"]

Provider = Literal["offline", "anthropic", "openai", "google"]

_SECRET = "(secret)"
_URL = "an http:// or https:// URL with a host"
_COMPANIONS = {
    "keycloak_url": ("keycloak_realm", "keycloak_audience"),
    "openfga_api_url": ("openfga_store_id",),
}


def _setting(default: Any, meaning: str, allowed: str, **constraints: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed}, **constraints)


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(_URL)
    return value.rstrip("/")


def _redis_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.path):
        raise ValueError("a Redis URL")
    return value


def _model_names(value: list[str]) -> list[str]:
    for name in value:
        provider, _, model = name.partition(":")
        if provider not in get_args(Provider) or (provider != "offline" and not model):
            raise ValueError("provider:model")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Everything the server can be told. Nothing is required: the defaults answer with no service and no key."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    host: str = _setting(
        "127.0.0.1", "Address that the HTTP transport listens on.", "an address or a host name"
    )
    port: int = _setting(
        8000, "Port of the HTTP transport.", "an integer, 0 (any free port) to 65535", ge=0, le=65535
    )
    public_url: HttpUrl | None = _setting(
        None, "URL of this server as its clients see it, without /mcp.", _URL
    )
    allowed_hosts: Names = _setting(
        [], "Host headers accepted beside the loopback names.", "comma separated host, host:port or host:*"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = _setting(
        "INFO", "Least severe level that is logged.", "DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Annotated[Literal["json", "text"], BeforeValidator(_lower)] = _setting(
        "json", "Form of the log lines on stderr.", "json or text"
    )
    drain_seconds: float = _setting(
        20.0,
        "Seconds that calls in flight get to finish after SIGTERM.",
        "a number, 0 or more",
        ge=0,
        le=3600,
    )

    llm_provider: Annotated[Provider, BeforeValidator(_lower)] = _setting(
        "offline",
        "Who answers: a provider of language models, or the offline stand-in.",
        ", ".join(get_args(Provider)),
    )
    llm_model: str | None = _setting(None, "Model of the provider; its default where None.", "a model's name")
    llm_fallback_models: Annotated[Names, AfterValidator(_model_names)] = _setting(
        [], "Models that are asked in turn when the first is unavailable.", "comma separated provider:model"
    )
    llm_max_tool_rounds: int = _setting(
        6, "Rounds of tool calls that one message may cost.", "an integer, 1 to 50", ge=1, le=50
    )
    llm_offline_delay_seconds: float = _setting(
        0.0, "Seconds that the offline model takes to answer.", "a number, 0 to 600", ge=0, le=600
    )
    anthropic_api_key: SecretStr | None = _setting(None, "Key for Anthropic.", "an API key")
    openai_api_key: SecretStr | None = _setting(None, "Key for OpenAI.", "an API key")
    google_api_key: SecretStr | None = _setting(None, "Key for Google.", "an API key")
    anthropic_base_url: HttpUrl | None = _setting(None, "Where Anthropic's API is, if elsewhere.", _URL)
    openai_base_url: HttpUrl | None = _setting(None, "Where OpenAI's API is, if elsewhere.", _URL)
    google_base_url: HttpUrl | None = _setting(None, "Where Google's API is, if elsewhere.", _URL)

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = _setting(
        None,
        "Where conversations are kept; in this process's memory where None.",
        "a redis:// or rediss:// URL",
    )
    session_ttl_seconds: float = _setting(
        86400.0, "Seconds that an untouched conversation is kept.", "a number, 1 or more", ge=1
    )

    keycloak_url: HttpUrl | None = _setting(
        None, "Keycloak that issues the callers' tokens; a local development identity where None.", _URL
    )
    keycloak_realm: str | None = _setting(None, "Realm of the tokens.", "a realm's name")
    keycloak_audience: str | None = _setting(None, "Audience that a token must be meant for.", "an audience")
    openfga_api_url: HttpUrl | None = _setting(
        None, "OpenFGA that is asked for permission; nobody where None.", _URL
    )
    openfga_store_id: str | None = _setting(None, "Store in OpenFGA.", "a store id")
    openfga_model_id: str | None = _setting(
        None, "Authorization model; the store's latest where None.", "a model id"
    )
    openfga_fail_mode: Annotated[Literal["open", "closed"], BeforeValidator(_lower)] = _setting(
        "open", "What OpenFGA's outage means for actions that are not critical.", "open or closed"
    )
    prometheus_url: HttpUrl | None = _setting(None, "Prometheus that the agent's metrics tool asks.", _URL)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in ``environ`` (and nowhere else).

        Raises SettingsError with one sentence per wrong variable.
        """
        given = {name: value for name in cls.model_fields if (value := environ.get(name.upper(), "")) != ""}
        problems = _missing_companions(given)
        try:
            settings = _GivenSettings.model_validate(given)
        except ValidationError as error:
            problems = [_sentence(str(item["loc"][0]), given) for item in error.errors()] + problems
        else:
            if not problems:
                return settings
        raise SettingsError(list(dict.fromkeys(problems)))

    def public(self) -> dict[str, Any]:
        """The settings as JSON values, without secrets (which read ``(secret)`` when set)."""
        return {name: _shown(name, getattr(self, name)) for name in type(self).model_fields}


class _GivenSettings(Settings):
    """Settings made from the given values only, whatever the process's environment holds."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def load(environ: Mapping[str, str]) -> tuple[Settings, ResilienceSettings]:
    """The server's settings and the layer's.

    Raises SettingsError with what is wrong in both together.
    """
    problems: list[str] = []
    settings = resilience = None
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        problems += error.problems
    try:
        resilience = ResilienceSettings.from_env(environ)
    except SettingsError as error:
        problems += error.problems
    if settings is None or resilience is None:
        raise SettingsError(problems)
    return settings, resilience


def _missing_companions(given: Mapping[str, str]) -> list[str]:
    needed = [
        (name, companion) for name, others in _COMPANIONS.items() if name in given for companion in others
    ]
    providers = {given.get("llm_provider", "offline").lower(): "llm_provider"}
    for name in given.get("llm_fallback_models", "").split(","):
        providers.setdefault(name.partition(":")[0].strip(), "llm_fallback_models")
    with_keys = set(get_args(Provider)) - {"offline"}
    needed += [(name, f"{provider}_api_key") for provider, name in providers.items() if provider in with_keys]
    return [
        f"{companion.upper()} is not set: it is needed because {name.upper()} is {_shown(name, given[name])!r}"
        for name, companion in needed
        if companion not in given
    ]


def _sentence(name: str, given: Mapping[str, str]) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    allowed = extra["allowed"] if isinstance(extra, dict) else ""
    variable = name.upper()
    return f"{variable}={_shown(name, given[name])!r} is not allowed: {variable} must be {allowed}"


def _shown(name: str, value: Any) -> Any:
    """``value`` as it may be printed: secrets and the user part of a URL are blotted out."""
    secret = "SecretStr" in str(Settings.model_fields[name].annotation)
    if value is None or not (secret or isinstance(value, str)):
        return value
    if secret:
        return _SECRET
    head, separator, tail = value.partition("://")
    return f"{head}://***@{tail.rpartition('@')[2]}" if separator and "@" in tail else value
