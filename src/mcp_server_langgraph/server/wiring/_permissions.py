"""Who may do what: OpenFGA, or everybody everything of their own."""

from __future__ import annotations

from typing import Final

from mcp_server_langgraph.resilience import CircuitBreaker, Hedge, Pipeline, Throttle, budget
from mcp_server_langgraph.server.services import AGENT_TYPE, Authorizer
from mcp_server_langgraph.settings import Settings

from ._parts import Parts

__all__ = ["FAILURE_RATE", "FAIL_MAX", "authorizer"]

# A tenth of a thousand checks a second failing by chance is five in a row every minute and a half, and retries hide
# it: docs/explanation/decisions/openfgas-breaker.md has the figures. An outage costs three calls instead of one.
FAIL_MAX: Final = 10
FAILURE_RATE: Final = 0.5


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
        _pipeline(),
        settings.openfga_fail_mode,
        critical_relations=settings.openfga_critical_relations,
        needed_relations={f"{AGENT_TYPE}#{relation}" for relation in _asked_for(settings)},
        api_token=_token(settings),
        cache_seconds=settings.openfga_cache_seconds,
    )
    parts.starters.append(built.start)
    parts.closers.append(built.aclose)
    probe = parts.http_probes.answers(f"{settings.openfga_api_url}/healthz", "status", "SERVING")
    parts.remote("openfga", "permissions", _fallback(settings), probe, built.facts)
    return built


def _token(settings: Settings) -> str | None:
    token = settings.openfga_api_token
    return None if token is None else token.get_secret_value()


def _pipeline() -> Pipeline:
    # Every request waits for its check: hedges take the tail off, and one that is busy is not asked more.
    hedge = Hedge(budget=budget.shared("openfga"))
    breaker = CircuitBreaker("openfga", fail_max=FAIL_MAX, failure_rate=FAILURE_RATE)
    # Nothing stands in for who is throttled, so where there are few calls an outage is left to the breaker.
    throttle = Throttle(min_requests=2 * FAIL_MAX)
    return Pipeline.standard("openfga", hedge=hedge, throttle=throttle, breaker=breaker)


def _asked_for(settings: Settings) -> tuple[str, str]:
    return settings.openfga_chat_relation, settings.openfga_read_relation


def _fallback(settings: Settings) -> str:
    critical = {name.rpartition("#")[2] for name in settings.openfga_critical_relations}
    if critical.issuperset(_asked_for(settings)):
        return "denied"
    return f"last known decisions; then fail {settings.openfga_fail_mode}"
