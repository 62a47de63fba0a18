"""Requests to Prometheus, one attempt each, of a bounded size and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx2

from mcp_server_langgraph.resilience.integrations.httpx2 import send_deadline

from ._answers import envelope_of
from ._errors import BadQuery, error_of

__all__ = ["Form", "Wire"]

Form = Mapping[str, str | tuple[str, ...]]

_CONNECT_TIMEOUT: Final = 2.0
# Proxies cut request lines of some thousand characters; Prometheus takes the same as a form.
_LONGEST_URL_QUERY: Final = 2000
# The part of an attempt's time after which the server itself gives a query up, says so and stops working on it.
_SERVER_HEAD_START: Final = 0.8


class Wire:
    """One Prometheus over HTTP. ``url``: its root. ``attempt_timeout``: seconds. ``max_bytes``: the largest answer."""

    def __init__(self, url: str, attempt_timeout: float, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._limit = f"{max(1, round(attempt_timeout * _SERVER_HEAD_START * 1000))}ms"
        timeout = httpx2.Timeout(attempt_timeout, connect=min(_CONNECT_TIMEOUT, attempt_timeout))
        self._http = httpx2.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1/",
            timeout=timeout,
            event_hooks={"request": [send_deadline]},
        )

    async def ask(self, endpoint: str, form: Form) -> bytes:
        """The body of a 200 answer. Raises PrometheusError, and what httpx2 raises."""
        limited = {**form, "timeout": self._limit} if "query" in form else dict(form)
        if len(form.get("query", "")) > _LONGEST_URL_QUERY:
            request = self._http.build_request("POST", endpoint, data=limited)
        else:
            request = self._http.build_request("GET", endpoint, params=limited)
        response = await self._http.send(request, stream=True)
        try:
            body = await self._read(response)
        finally:
            await response.aclose()
        if response.status_code != 200:
            raise error_of(response.status_code, envelope_of(body), response.headers)
        return body

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                raise BadQuery(
                    f"the answer is larger than {self._max_bytes} bytes; ask for less, or a longer step"
                )
        return bytes(body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
