"""What is left to a caller while nobody can tell whether its token was revoked.

Left: its own conversations (to read, to search, to go on with), and the state of this server. Withheld: what reaches
beyond that. So who holds a token of a session that has ended gains nothing from the outage that it did not have
anyway, and who holds a good one goes on working.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mcp.server.mcpserver.exceptions import ToolError

from mcp_server_langgraph.auth.authorization import Decision
from mcp_server_langgraph.server.identity import Caller
from mcp_server_langgraph.server.outcomes import unserved

__all__ = ["LIMITED", "check_decision", "check_relation", "withheld_from"]

LIMITED: Final = "last good keys: limited features"
"""What stands in for Keycloak."""

_WHY: Final = (
    "whether your token was revoked cannot be checked now, so features are limited to your own conversations"
)


def withheld_from(caller: Caller) -> str | None:
    """What is said in place of what is withheld from this caller; None where nothing is."""
    return f"withheld: {_WHY}" if caller.degraded else None


def check_relation(caller: Caller, relation: str, left: Collection[str]) -> None:
    """Raise ToolError for what a limited caller may not do, whatever its permissions. ``left``: the relations that it
    takes to use conversations of one's own; any other is withheld.
    """
    if caller.degraded and relation not in left:
        unserved()
        raise ToolError(f"permission denied: {relation} ({_WHY})")


def check_decision(caller: Caller, relation: str, decision: Decision) -> None:
    """Raise ToolError where a limited caller is allowed something that nobody has checked, now or earlier."""
    unchecked = decision.allowed and decision.degraded and decision.age is None
    if caller.degraded and unchecked:
        unserved()
        raise ToolError(f"permission denied: {relation} (neither token nor permission can be checked now)")
