"""Whether an environment variable is a setting of ours."""

from __future__ import annotations

from mcp_server_langgraph.resilience.config import Settings as ResilienceSettings
from mcp_server_langgraph.resilience.errors import SettingsError
from mcp_server_langgraph.settings import Settings

__all__ = ["is_setting"]

_NONSENSE = "no setting takes this"


def is_setting(name: str) -> bool:
    """Whether the server or the layer reads that environment variable."""
    if name.lower() in Settings.model_fields:
        return True
    try:
        ResilienceSettings({name: _NONSENSE})
    except SettingsError:
        return True
    return False
