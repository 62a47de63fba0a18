"""A server of the Redis protocol, and conversations in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mcp_server_langgraph.auth.session import RedisSessionStore, StoredMessage
from mcp_server_langgraph.resilience import Pipeline
from tests.faults.house import Call
from tests.faults.scene import Ask, Scene, whole
from tests.support.faulty_proxy import FaultyProxy
from tests.support.ports import HOST
from tests.support.process import Process
from tests.support.requests_in import REDIS

__all__ = ["RedisScene"]


_ELSEWHERE: Final = "begun-elsewhere"


class RedisScene(Scene):
    service = breaker = "redis"
    split = staticmethod(REDIS)
    slow = 0.5
    # Read the conversation, then add to it; and keep the steps of the turn meanwhile.
    operations = MappingProxyType({"redis": 2, "database": 8})
    probes = 4
    silent = 1
    callers = (
        "goes on with a conversation of this server",
        "reads a conversation that only Redis knows",
        "begins a conversation",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._here: Iterator[str] = iter(())

    @property
    def process(self) -> Process:
        return self.redis

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        secure = "" if proxy.trusted is None else "s"
        trusted = "" if proxy.trusted is None else f"?ssl_ca_certs={proxy.trusted}"
        url = f"redis{secure}://{HOST}:{proxy.port}/0{trusted}"
        return super().variables(proxy) | {"REDIS_URL": url}

    async def prepare(self, ask: Ask) -> None:
        begun = [await whole(ask, self.chat("alice")) for _ in range(self.crowd)]
        self._here = itertools.cycle([str(reply.body["conversation_id"]) for reply in begun])
        other = RedisSessionStore(self.redis.url, Pipeline("another server"))
        await other.append(_ELSEWHERE, "alice", [StoredMessage.new("user", "hello")])
        await other.aclose()

    def known(self) -> Call:
        return self.chat("alice", conversation=next(self._here))

    def new(self) -> Call:
        token = self.keycloak.token(sub="alice", iss=self.issuer)
        return Call("conversation_get", {"conversation_id": _ELSEWHERE}, token)

    def later(self) -> Call:
        return self.chat("alice")
