"""The server's settings, read from the environment (the name of a variable is the upper case of its field).

Each module holds the fields of one service. The settings of the resilience layer belong to ``resilience.config``;
``load`` reads both and reports what is wrong in either, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from mcp_server_langgraph.resilience.config import Settings as ResilienceSettings
from mcp_server_langgraph.resilience.errors import SettingsError

from ._http import HttpSettings
from ._identity import IdentitySettings
from ._metrics import MetricsSettings
from ._model_names import LOCAL_MODEL, ModelName
from ._models import PROVIDERS, ModelSettings, missing_for_models
from ._permissions import PermissionSettings
from ._sessions import SessionSettings

__all__ = ["LOCAL_MODEL", "PROVIDERS", "ModelName", "Settings", "load"]

_SECRET = "(secret)"
_COMPANIONS = {
    "keycloak_url": ("keycloak_realm", "keycloak_audience"),
    "keycloak_client_id": ("keycloak_client_secret",),
    "keycloak_client_secret": ("keycloak_url",),
    "openfga_api_token": ("openfga_api_url",),
    "openfga_api_url": ("openfga_store_id",),
}


# Fields come in the order of the last base class to the first.
class Settings(
    MetricsSettings, PermissionSettings, IdentitySettings, SessionSettings, ModelSettings, HttpSettings
):
    """Everything the server can be told. Nothing is required: the defaults answer with no service and no key."""

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
    missing = [
        f"{companion.upper()} is not set: it is needed because {name.upper()} is {_shown(name, given[name])!r}"
        for name, companions in _COMPANIONS.items()
        if name in given
        for companion in companions
        if companion not in given
    ]
    return [*missing, *missing_for_models(given)]


def _sentence(name: str, given: Mapping[str, str]) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    allowed = extra["allowed"] if isinstance(extra, dict) else ""
    variable = name.upper()
    return f"{variable}={_shown(name, given[name])!r} is not allowed: {variable} must be {allowed}"


def _shown(name: str, value: Any) -> Any:
    """``value`` as it may be printed: secrets and the user part of a URL are blotted out."""
    secret = "SecretStr" in str(Settings.model_fields[name].annotation)
    if isinstance(value, PurePath):
        value = str(value)
    if value is None or not (secret or isinstance(value, str)):
        return value
    if secret:
        return _SECRET
    head, separator, tail = value.partition("://")
    return f"{head}://***@{tail.rpartition('@')[2]}" if separator and "@" in tail else value
