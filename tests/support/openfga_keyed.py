"""The stand-in for OpenFGA as one that wants a preshared key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.http_server import Request, Response
from tests.support.openfga_server import DOCUMENT_MODEL, OpenFGAServer

__all__ = ["KeyedOpenFGAServer"]


class KeyedOpenFGAServer(OpenFGAServer):
    """Refuses who bears none of its `keys`, as OpenFGA 1.22 does: all but its health is behind them.

    `borne`: what was borne ("" for nothing), by "METHOD what", a store's and a model's own path being "store" and
    "authorization-models". `echo`: a refusal repeats what it was given, as some gateways do.
    """

    def __init__(
        self, keys: Iterable[str] = (), model: Mapping[str, Any] = DOCUMENT_MODEL, *, echo: bool = False
    ) -> None:
        super().__init__(model)
        self.keys = set(keys)
        self.echo = echo
        self.borne: dict[str, set[str]] = {}

    async def handle(self, request: Request) -> Response:
        parts = [*request.path.strip("/").split("/"), "store"]
        what = parts[0] if len(parts) < 3 else parts[2]
        given = request.headers.get("authorization", "")
        self.borne.setdefault(f"{request.method} {what}", set()).add(given)
        if what == "healthz" or given.removeprefix("Bearer ") in self.keys:
            return await super().handle(request)
        missing = not given.startswith("Bearer ")
        code, message = (
            ("bearer_token_missing", "missing bearer token") if missing else ("unauthenticated",) * 2
        )
        message += f": {given}" if self.echo else ""
        if what == "streamed-list-objects":
            return Response({"error": {"code": 16, "message": message, "details": []}}, 401)
        return Response({"code": code, "message": message}, 401)
