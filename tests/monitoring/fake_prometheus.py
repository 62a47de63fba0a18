"""A stand-in for Prometheus that is faithful on the wire and misbehaves on demand, and a client of it."""

from typing import Any

from mcp_server_langgraph.monitoring.prometheus_client import PrometheusClient
from mcp_server_langgraph.resilience import Pipeline
from tests.support.http_server import HttpServer, Request, Response

__all__ = ["NOW", "FakePrometheus", "Wall", "client_of", "error"]

NOW = 1_800_000_000.0


class FakePrometheus(HttpServer):
    """Answers every query with ``data``; keeps the last request."""

    def __init__(self) -> None:
        super().__init__()
        self.data: Any = {"resultType": "vector", "result": [{"metric": {"job": "a"}, "value": [NOW, "42"]}]}
        self.extra: dict[str, Any] = {}
        self.last: Request | None = None

    async def handle(self, request: Request) -> Response:
        self.last = request
        return Response({"status": "success", "data": self.data, **self.extra})


class Wall:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def client_of(server: HttpServer, **options: Any) -> PrometheusClient:
    return PrometheusClient(server.url, Pipeline.standard("prometheus"), clock=Wall(), **options)


def error(kind: str, message: str) -> dict[str, Any]:
    return {"status": "error", "errorType": kind, "error": message}
