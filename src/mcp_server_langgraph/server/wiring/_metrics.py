"""Where metrics are asked for: Prometheus, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcp_server_langgraph.resilience import Cache, Pipeline, Retry, Timeout, budget

from ._parts import Parts

if TYPE_CHECKING:
    from mcp_server_langgraph.monitoring.prometheus_client import PrometheusClient

__all__ = ["prometheus_client"]

PROMETHEUS_ATTEMPT: Final = 5.0
"""Seconds of one request to Prometheus, so that a second one fits into the total."""
LONGEST_RETRY_AFTER: Final = 0.4
"""Seconds that Prometheus may ask us to wait before a retry; longer waits are the caller's, who is told of them."""


def prometheus_client(parts: Parts) -> PrometheusClient | None:
    """The Prometheus that the settings name; None where they name none."""
    url = parts.settings.prometheus_url
    if url is None:
        parts.embedded(
            "prometheus", "not configured: no metrics for the agent, the service level is this process's"
        )
        return None
    from mcp_server_langgraph.monitoring.prometheus_client import Patience, PrometheusClient

    # Agents ask the same at the same time. What stands in during an outage is the client's, which marks it.
    once = Cache(max_age=0, key=lambda endpoint, form, _read: (endpoint, *sorted(form.items())))
    patience = Patience()
    attempt = Timeout(PROMETHEUS_ATTEMPT, seconds_for=patience.of_attempt)
    # A caller who is told to come again is served better than one who waits for Prometheus to be ready.
    retry = Retry(retry_after_max=LONGEST_RETRY_AFTER, budget=budget.shared("prometheus"))
    pipeline = Pipeline.standard("prometheus", cache=once, retry=retry, attempt=attempt)
    client = PrometheusClient(url, pipeline, attempt_timeout=PROMETHEUS_ATTEMPT, patience=patience)
    parts.closers.append(client.aclose)
    probe = parts.http_probes.answers(f"{url}/api/v1/query?query=vector(1)", "status", "success")
    fallback = "last results, marked with their age; the service level is this process's"
    parts.remote("prometheus", "metrics for the agent, and the service level", fallback, probe)
    return client
