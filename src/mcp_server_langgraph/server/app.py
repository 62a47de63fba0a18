"""The HTTP application: the SDK's ``/mcp`` behind authentication, and health beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server_langgraph.server.authentication import Authentication, TokenCheck
from mcp_server_langgraph.server.health import health_routes
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.services import Services
from mcp_server_langgraph.settings import Settings

__all__ = ["build_app"]

PATH: Final = "/mcp"
METADATA_PATH: Final = "/.well-known/oauth-protected-resource/mcp"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")


def build_app(
    server: MCPServer[Any],
    services: Services,
    lifecycle: Lifecycle,
    metrics: ServerMetrics,
    token_check: TokenCheck | None = None,
) -> ASGIApp:
    """The ASGI application. ``token_check`` None: everybody is the local development identity."""
    settings = services.settings
    inner = server.streamable_http_app(
        streamable_http_path=PATH, transport_security=transport_security(settings)
    )
    protected: ASGIApp = inner
    routes: list[Route | Mount] = [*health_routes(services, lifecycle, metrics)]
    if token_check is not None:
        issuer = issuer_of(settings)
        metadata_url = _metadata_url(settings)
        protected = Authentication(inner, token_check, issuer, metadata_url)
        routes.append(Route(METADATA_PATH, _metadata_endpoint(settings, issuer)))
    routes.append(Mount("/", app=protected))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # A mounted application's own lifespan is not run; the SDK's session manager lives in it.
        async with inner.router.lifespan_context(inner):
            services.start()
            try:
                yield
            finally:
                await services.aclose()

    return HttpEdge(Starlette(routes=routes, lifespan=lifespan), metrics)


def transport_security(settings: Settings) -> TransportSecuritySettings:
    """The Host and Origin headers that are accepted: loopback, and what the settings name."""
    hosts = [name for host in _LOOPBACK for name in (host, f"{host}:*")]
    named = [*settings.allowed_hosts]
    if settings.public_url is not None:
        named.append(settings.public_url.split("://", 1)[1].split("/", 1)[0])
    for host in named:
        hosts += [host] if ":" in host.rpartition("]")[2] else [host, f"{host}:*"]
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)


def issuer_of(settings: Settings) -> str:
    """The issuer of the tokens of the configured Keycloak realm."""
    return settings.keycloak_issuer or f"{settings.keycloak_url}/realms/{settings.keycloak_realm}"


def _base_url(settings: Settings, headers: Headers) -> str:
    """Where the client has reached this server; a host name that a stranger made up is not repeated."""
    if settings.public_url is not None:
        return settings.public_url
    host = headers.get("host", "")
    return f"http://{host}" if _is_ours(host, settings) else f"http://{settings.host}:{settings.port}"


def _is_ours(host: str, settings: Settings) -> bool:
    allowed = transport_security(settings).allowed_hosts
    name, _, port = host.rpartition(":")
    return host in allowed or (port.isdecimal() and f"{name}:*" in allowed)


def _metadata_url(settings: Settings) -> Callable[[Headers], str]:
    return lambda headers: _base_url(settings, headers) + METADATA_PATH


def _metadata_endpoint(settings: Settings, issuer: str) -> Any:
    async def metadata(request: Request) -> Response:
        """RFC 9728: where a client gets a token for this server."""
        return JSONResponse(
            {
                "resource": _base_url(settings, request.headers) + PATH,
                "authorization_servers": [issuer],
                "bearer_methods_supported": ["header"],
            }
        )

    return metadata


class HttpEdge:
    """Around everything: header values without stray blanks, and a count of every response."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # RFC 9110, section 5.5: blanks around a value are not part of it. httptools leaves the trailing ones.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        began = time.perf_counter()
        status = 0

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        finally:
            self._metrics.request(_method(scope), _route(scope), status, time.perf_counter() - began)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"


def _route(scope: Scope) -> str:
    path: str = scope["path"]
    known = (PATH, METADATA_PATH, "/metrics", "/health/live", "/health/ready", "/health/startup")
    return path if path in known else "other"
