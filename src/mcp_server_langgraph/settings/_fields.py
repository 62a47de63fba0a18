"""What the groups of settings are made of: a field with its meaning and what it allows, and the kinds of values."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["URL", "Group", "HttpUrl", "Lower", "Names", "Pairs", "Upper", "setting"]

URL: Final = "an http:// or https:// URL with a host"


class Group(BaseSettings):
    """Settings that belong together."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )


def setting(default: Any, meaning: str, allowed: str, **constraints: Any) -> Any:
    """A field: its default, what it means and, for people, what it may be."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed}, **constraints)


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_pairs(value: object) -> object:
    parts = _split(value)
    if parts is value or not isinstance(parts, list):
        return value
    pairs: dict[str, str] = {}
    for part in parts:
        name, _, text = (piece.strip() for piece in part.partition("="))
        if not text or name.lower() in pairs:
            raise ValueError("name=value, each name once")
        pairs[name.lower()] = text
    return pairs


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(URL)
    return value.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]
_Value = TypeVar("_Value")
Pairs = Annotated[dict[str, _Value], NoDecode, BeforeValidator(_split_pairs)]
Lower = BeforeValidator(_lower)
Upper = BeforeValidator(_upper)
