"""Who may do what: OpenFGA, or everybody everything of their own."""

from __future__ import annotations

from mcp_server_langgraph.resilience import Hedge, Pipeline, Throttle, budget
from mcp_server_langgraph.server.services import Authorizer

from ._parts import Parts

__all__ = ["authorizer"]


def authorizer(parts: Parts) -> Authorizer | None:
    """The authorizer that the settings describe; None where nobody is asked."""
    settings = parts.settings
    if settings.openfga_api_url is None or settings.openfga_store_id is None:
        parts.embedded("openfga", "not configured: every caller may use every tool, on own conversations")
        return None
    from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer

    built = OpenFGAAuthorizer(
        settings.openfga_api_url,
        settings.openfga_store_id,
        settings.openfga_model_id,
        # Every request waits for its check: hedges take the tail off, and one that is busy is not asked more.
        Pipeline.standard("openfga", hedge=Hedge(budget=budget.shared("openfga")), throttle=Throttle()),
        settings.openfga_fail_mode,
    )
    parts.closers.append(built.aclose)
    fallback = f"last known decisions; then fail {settings.openfga_fail_mode}"
    probe = parts.http_probes.answers(f"{settings.openfga_api_url}/healthz", "status", "SERVING")
    parts.remote("openfga", "permissions", fallback, probe)
    return built
