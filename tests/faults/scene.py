"""A service on the stage: the one that will fail is a real process, the others are well.

Each scene has three kinds of caller: one that the server has served before (``known``), one that it has not (``new``),
and one that comes when the fault is no news any more (``later``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from tests.faults.house import Call, Reply
from tests.support.faulty_proxy import FaultyProxy
from tests.support.keycloak_server import KeycloakServer
from tests.support.openfga_server import OpenFGAServer
from tests.support.ports import HOST
from tests.support.process import Process
from tests.support.redis_server import RedisServer
from tests.support.requests_in import HTTP, Split

__all__ = ["MODEL", "USERS", "Ask", "Scene", "url_of", "whole"]

Ask = Callable[[Call], Awaitable[Reply]]

USERS: Final = ("alice", "bob", "carol", "dave", "erin")
_RELATION: Final = {"this": {}}
MODEL: Final[dict[str, Any]] = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {
            "type": "service",
            "relations": {"can_chat": _RELATION},
            "metadata": {"relations": {"can_chat": {"directly_related_user_types": [{"type": "user"}]}}},
        },
    ],
}


class Scene:
    """One service before the audience. ``process`` is what fails, ``keycloak`` signs the callers' tokens."""

    service = ""
    breaker = ""
    split: Split = staticmethod(HTTP)
    hurried: Mapping[str, str] = MappingProxyType({})
    """Settings for faults that hang, where an attempt may take long. Not for others: a client that tries again by
    itself has to be given the time to do it."""
    slow = 0.8
    slow_by_default = 0.8
    """Seconds of an answer that is too slow, for the settings of the tests and for the defaults."""
    callers: tuple[str, str, str] = ("", "", "")
    """Who ``known``, ``new`` and ``later`` are, for people."""
    crowd = 1
    """Known callers at once: of one conversation only one turn can go on."""
    operations: Mapping[str, int] = MappingProxyType({})
    """Calls of the service that the first caller's call consists of, by the breaker before them (default: one)."""
    probes = 0
    """Requests of the server's own, to see whether the service is back, that can fall into that time."""
    silent = 0
    """Attempts of it that can end on a connection that is found closed, and so are not seen on the wire."""

    def __init__(self, folder: Path) -> None:
        self.keycloak = KeycloakServer()
        self.openfga = OpenFGAServer(MODEL)
        for user in USERS:
            self.openfga.grant(f"user:{user}", "can_chat", "service:agent")
        self.redis = RedisServer(folder / "redis")
        self.folder = folder
        self.issuer = ""

    @property
    def process(self) -> Process:
        """What fails."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.keycloak.start()
        self.openfga.start()
        self.redis.start()
        if self.process is not self.redis:
            self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
        self.redis.stop()
        self.openfga.__exit__()
        self.keycloak.__exit__()

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        """The server's settings, with the proxy in the place of the service."""
        self.issuer = self.keycloak.issuer
        return {
            "LLM_PROVIDER": "offline",
            "KEYCLOAK_URL": self.keycloak.url,
            "KEYCLOAK_REALM": "demo",
            "KEYCLOAK_AUDIENCE": "mcp-server",
            "OPENFGA_API_URL": self.openfga.url,
            "OPENFGA_STORE_ID": self.openfga.store_id,
            "REDIS_URL": self.redis.url,
        }

    def chat(self, user: str, message: str = "hello", conversation: str | None = None) -> Call:
        """A turn of a conversation."""
        arguments = {"message": message} | ({"conversation_id": conversation} if conversation else {})
        return Call("agent_chat", arguments, self.keycloak.token(sub=user, iss=self.issuer))

    async def prepare(self, ask: Ask) -> None:
        """While all is well: make the known caller known."""
        await whole(ask, self.known())

    async def notice(self, ask: Ask) -> None:
        """When the fault has begun: let the server notice, where that is not for the first caller to do."""

    def known(self) -> Call:
        return self.chat("alice")

    def new(self) -> Call:
        raise NotImplementedError

    def later(self) -> Call:
        return self.known()


async def whole(ask: Ask, call: Call) -> Reply:
    """The reply to a call while nothing is wrong; on a busy machine something may be too slow at first."""
    give_up = time.monotonic() + 60.0
    while (reply := await ask(call)).kind != "whole":
        assert time.monotonic() < give_up, reply
        await asyncio.sleep(0.2)
    return reply


def url_of(proxy: FaultyProxy) -> str:
    """Where the proxy is, for whoever speaks HTTP."""
    return f"{'http' if proxy.trusted is None else 'https'}://{HOST}:{proxy.port}"
