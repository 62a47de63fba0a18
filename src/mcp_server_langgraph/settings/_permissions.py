"""Who may do what: OpenFGA."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, SecretStr

from ._fields import URL, Group, HttpUrl, Lower, Names, setting
from .bearer import checked_bearer

__all__ = ["PermissionSettings"]

_RELATION: Final = "the name of a relation: up to 50 characters, no blanks, no : # or @"
_RELATION_PATTERN: Final = r"^[^\s:#@]{1,50}$"


def _bearer(value: SecretStr) -> SecretStr:
    checked_bearer(value.get_secret_value())
    return value


class PermissionSettings(Group):
    """Who may do what: OpenFGA."""

    openfga_api_url: HttpUrl | None = setting(
        None, "OpenFGA that is asked for permission; nobody where unset.", URL
    )
    openfga_api_token: Annotated[SecretStr, AfterValidator(_bearer)] | None = setting(
        None,
        "Key that OpenFGA wants of this server (its preshared one); none is sent where unset.",
        "a key: printable ASCII characters without blanks",
    )
    openfga_store_id: str | None = setting(None, "Store in OpenFGA.", "a store id")
    openfga_model_id: str | None = setting(
        None, "Authorization model; the store's latest where unset.", "a model id"
    )
    openfga_fail_mode: Annotated[Literal["open", "closed"], Lower] = setting(
        "open", "What OpenFGA's outage means for actions that are not critical.", "open or closed"
    )
    openfga_critical_relations: Names = setting(
        [],
        "Relations that only OpenFGA's own answer of the moment can grant: denied in an outage, never cached.",
        "comma separated relation or type#relation",
    )
    openfga_cache_seconds: float = setting(
        0.0,
        "Seconds for which OpenFGA's yes is given again without asking, critical relations excepted.",
        "a number, 0 (never) to 300",
        ge=0,
        le=300,
    )
    openfga_chat_relation: str = setting(
        "can_chat", "Relation to service:agent that it takes to chat.", _RELATION, pattern=_RELATION_PATTERN
    )
    openfga_read_relation: str = setting(
        "can_chat",
        "Relation to service:agent that it takes to read and search conversations of one's own.",
        _RELATION,
        pattern=_RELATION_PATTERN,
    )
