"""Where conversations are kept."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from ._fields import Group, setting
from .redis_url import RedisUrl

__all__ = ["SessionSettings"]


def _certificates(value: Path) -> Path:
    try:
        ssl.create_default_context(cafile=value)
    except (OSError, ssl.SSLError) as error:
        raise ValueError("a file of certificates") from error
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    RedisUrl.parse(value.get_secret_value())
    return value


class SessionSettings(Group):
    """Where conversations are kept."""

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = setting(
        None,
        "Where conversations are kept; in this process's memory where unset.",
        "a redis://, redis+sentinel://hosts/name or redis+cluster://hosts URL; rediss for TLS",
    )
    redis_ca_file: Annotated[Path, AfterValidator(_certificates)] | None = setting(
        None,
        "Certificates (PEM) that vouch for Redis; those of the system where unset.",
        "the path of a file of certificates (PEM) that can be read",
    )
    session_ttl_seconds: float = setting(
        86400.0, "Seconds that an untouched conversation is kept.", "a number, 1 or more", ge=1
    )
    session_extend_on_read: bool = setting(
        False, "Whether reading a conversation keeps it for the whole time again.", "true or false"
    )
    session_max_conversations: int = setting(
        1_000, "Most conversations of one user; beyond it none can be begun.", "an integer, 1 or more", ge=1
    )
    session_max_messages: int = setting(
        2_000, "Most messages of one conversation.", "an integer, 1 or more", ge=1
    )
    session_max_bytes: int = setting(
        4_194_304, "Most bytes of text in one conversation.", "an integer, 1 or more", ge=1
    )
    session_memory_bytes: int = setting(
        268_435_456,
        "Bytes of this process's memory for conversations; those used longest ago make room.",
        "an integer, 1048576 or more",
        ge=1_048_576,
    )
    session_memory_bytes_per_user: int | None = setting(
        None,
        "The part of it that one user may have; a quarter where unset.",
        "an integer, 262144 or more",
        ge=262_144,
    )
    turn_ttl_seconds: float = setting(
        900.0,
        "Seconds that the steps of a turn that was cut off are kept in Redis, to go on from.",
        "a number, 1 or more",
        ge=1,
    )
