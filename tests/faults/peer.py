"""Stand-ins as processes of their own, so that they can be stopped and killed as real ones can.

``provider``: the scripted providers of language models. ``realm``: what a realm of Keycloak publishes, read from files.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.llm.provider_server import ProviderServer
from tests.support.http_server import HttpServer, Request, Response
from tests.support.ports import accepts
from tests.support.process import Process

__all__ = ["ProviderProcess", "RealmProcess"]

ROOT = Path(__file__).parents[2]


class _Peer(Process):
    """This module as a program."""

    kind = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "python")

    def command(self) -> list[str]:
        start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.faults.peer import main; main()"
        return [sys.executable, "-c", start, self.kind, str(self.port), str(self.folder)]

    def answers(self) -> bool:
        return accepts(self.port)


class ProviderProcess(_Peer):
    """The providers' chat APIs; everything is answered well."""

    kind = "provider"


class RealmProcess(_Peer):
    """What a realm of Keycloak publishes: its endpoints and its keys, under the address that asks; `publish` changes
    the keys.
    """

    kind = "realm"

    def publish(self, keys: list[dict[str, object]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "keys.json").write_text(json.dumps({"keys": keys}))

    def called(self, issuer: str) -> None:
        """The realm is known under this address."""
        self.folder.mkdir(parents=True, exist_ok=True)
        endpoints = {"issuer": issuer, "jwks_uri": f"{issuer}/protocol/openid-connect/certs"}
        (self.folder / "endpoints.json").write_text(json.dumps(endpoints))


class _Realm(HttpServer):
    def __init__(self, port: int, folder: Path) -> None:
        super().__init__()
        self.port = port
        self._folder = folder

    async def handle(self, request: Request) -> Response:
        name = "keys" if request.path.endswith("/certs") else "endpoints"
        return Response(json.loads((self._folder / f"{name}.json").read_text()))


def main() -> None:
    """Serve until killed."""
    kind, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    server: ProviderServer | HttpServer = ProviderServer() if kind == "provider" else _Realm(port, folder)
    server.port = port
    with server:
        while True:
            time.sleep(3600)
