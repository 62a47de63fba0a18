"""The HTTP client of one model: every wait is bounded, and nothing goes or comes that is not between us and the
provider.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx2

__all__ = ["CONNECT_TIMEOUT", "http_client"]

# Connecting takes two round trips; a host that swallows packets must not eat the time of a whole answer.
CONNECT_TIMEOUT: Final = 5.0


def http_client(
    timeout: float, *, connect: float = CONNECT_TIMEOUT, without: Collection[str] = (), proxies: bool = True
) -> httpx2.AsyncClient:
    """A client of its own for one model. ``timeout`` bounds each wait on the socket, ``connect`` the one for the
    connection, in seconds. ``without``: headers that the SDK adds and this host is not to be sent. ``proxies``:
    whether it goes through those of the environment (HTTPS_PROXY, NO_PROXY).
    """
    import httpx2

    from mcp_server_langgraph.resilience.integrations.langchain import observe_headers

    from .bounded_body import BoundedBody

    async def before(request: httpx2.Request) -> None:
        # The SDKs pass one number for all the waits with each request, which overrules the client's own.
        limits = dict(request.extensions.get("timeout") or {})
        limits["connect"] = min(limits.get("connect") or connect, connect)
        request.extensions = {**request.extensions, "timeout": limits}
        for name in without:
            request.headers.pop(name, None)

    async def after(response: httpx2.Response) -> None:
        observe_headers(response.headers)
        # A proxy's or captive portal's page, which the SDKs would take for a strange answer of the provider.
        if response.headers.get("content-type", "").startswith("text/html"):
            raise httpx2.RemoteProtocolError(f"a web page instead of an answer ({response.status_code})")
        if response.has_redirect_location and _elsewhere(response):
            raise httpx2.RemoteProtocolError(f"a redirect to another host ({response.status_code})")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = BoundedBody(response.stream)

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeout, connect=connect),
        event_hooks={"request": [before], "response": [after]},
        follow_redirects=True,
        trust_env=proxies,
    )


def _elsewhere(response: httpx2.Response) -> bool:
    """Whether it redirects to another origin. httpx would take ``Authorization`` off, but neither ``x-api-key``
    (Anthropic) nor ``x-goog-api-key`` (Google), nor the question itself.
    """
    here = response.request.url
    return _origin(here.join(response.headers["location"])) != _origin(here)


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
