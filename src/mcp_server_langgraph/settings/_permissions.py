"""Who may do what: OpenFGA."""

from __future__ import annotations

from typing import Annotated, Literal

from ._fields import URL, Group, HttpUrl, Lower, setting

__all__ = ["PermissionSettings"]


class PermissionSettings(Group):
    """Who may do what: OpenFGA."""

    openfga_api_url: HttpUrl | None = setting(
        None, "OpenFGA that is asked for permission; nobody where None.", URL
    )
    openfga_store_id: str | None = setting(None, "Store in OpenFGA.", "a store id")
    openfga_model_id: str | None = setting(
        None, "Authorization model; the store's latest where None.", "a model id"
    )
    openfga_fail_mode: Annotated[Literal["open", "closed"], Lower] = setting(
        "open", "What OpenFGA's outage means for actions that are not critical.", "open or closed"
    )
