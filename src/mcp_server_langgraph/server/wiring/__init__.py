"""The one place that builds the services from the settings. What is not configured is not imported."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_server_langgraph.server.authentication import TokenCheck
from mcp_server_langgraph.server.services import Services
from mcp_server_langgraph.server.status import StatusBoard
from mcp_server_langgraph.settings import Settings

from ._agent import agent
from ._identity import token_check
from ._metrics import prometheus_client
from ._parts import Parts
from ._permissions import authorizer
from ._sessions import records, sessions

__all__ = ["Wired", "wire"]


@dataclass(frozen=True, slots=True)
class Wired:
    """The services, and what checks a token; None where no identity provider is configured."""

    services: Services
    token_check: TokenCheck | None


def wire(settings: Settings) -> Wired:
    """Build everything that the settings ask for. Connects to nothing yet."""
    parts = Parts(settings)
    steps = records(parts)
    kept = sessions(parts, steps)
    permissions = authorizer(parts)
    check = token_check(parts)
    prometheus = prometheus_client(parts)
    loader = agent(parts, kept, prometheus, steps)
    services = Services(
        settings,
        kept,
        loader,
        StatusBoard(parts.dependencies),
        authorizer=permissions,
        prometheus=prometheus,
        starters=parts.starters,
        closers=parts.closers,
    )
    return Wired(services, check)
