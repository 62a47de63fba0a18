"""Health over HTTP: alive, ready, started. Readiness tells the truth about each service and what stands in for it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import CONTENT_TYPE_LATEST, ServerMetrics
from mcp_server_langgraph.server.services import Services
from mcp_server_langgraph.server.status import is_degraded

__all__ = ["health_routes"]


def health_routes(services: Services, lifecycle: Lifecycle, metrics: ServerMetrics) -> list[Route]:
    """``/health/live``, ``/health/ready``, ``/health/startup`` and ``/metrics``; none asks for an identity."""

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def startup(_request: Request) -> Response:
        state = services.loader.state
        return JSONResponse({"status": state}, status_code=200 if state == "ready" else 503)

    async def ready(_request: Request) -> Response:
        body = await _readiness(services, lifecycle)
        serving = body["status"] in ("ready", "degraded")
        return JSONResponse(body, status_code=200 if serving else 503)

    async def scrape(_request: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/health/startup", startup),
        Route("/metrics", scrape),
    ]


async def _readiness(services: Services, lifecycle: Lifecycle) -> dict[str, Any]:
    states = await services.board.services()
    agent = services.loader.state
    if lifecycle.draining:
        status = "draining"
    elif agent != "ready" or any(service["state"] == "down" for service in states.values()):
        status = "not ready"
    else:
        status = "degraded" if is_degraded(states) else "ready"
    return {"status": status, "agent": agent, "calls_in_flight": lifecycle.in_flight, "services": states}
