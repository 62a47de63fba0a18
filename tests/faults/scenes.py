"""The five services on the stage: the one that will fail is a real process, the others are well.

Each scene has three kinds of caller: one that the server has served before (``known``), one that it has not (``new``),
and one that comes when the fault is no news any more (``later``).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from mcp_server_langgraph.auth.session import RedisSessionStore, StoredMessage
from mcp_server_langgraph.resilience import Pipeline
from tests.faults.house import Call, Reply
from tests.faults.peer import ProviderProcess, RealmProcess
from tests.llm.models import KEY
from tests.llm.provider_server import ProviderServer
from tests.support.faulty_proxy import FaultyProxy
from tests.support.keycloak_server import KeycloakServer
from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_server import OpenFGAServer
from tests.support.ports import HOST
from tests.support.process import Process
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.requests_in import HTTP, REDIS, Split

__all__ = ["SCENES", "Scene", "on_stage"]

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
    operations = 1
    """Calls of the service that the first caller's call consists of."""
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
    give_up = time.monotonic() + 10.0
    while (reply := await ask(call)).kind != "whole":
        assert time.monotonic() < give_up, reply
        await asyncio.sleep(0.2)
    return reply


def _url(proxy: FaultyProxy) -> str:
    return f"{'http' if proxy.trusted is None else 'https'}://{HOST}:{proxy.port}"


class _OpenFGA(Scene):
    service = breaker = "openfga"
    probes = 1
    callers = ("a user whose permission was checked before", "another user", "a third user, some calls later")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._real = OpenFGAProcess(folder / "openfga", "sqlite", MODEL)
        self._turn = 0

    @property
    def process(self) -> Process:
        return self._real

    def __enter__(self) -> Self:
        super().__enter__()
        for user in USERS:
            self._real.grant(f"user:{user}", "can_chat", "service:agent")
        return self

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        changed = {"OPENFGA_API_URL": _url(proxy), "OPENFGA_STORE_ID": self._real.store_id}
        return super().variables(proxy) | changed

    def new(self) -> Call:
        return self.chat("bob")

    def later(self) -> Call:
        self._turn += 1
        return self.chat(("carol", "dave", "erin")[self._turn % 3])


_ELSEWHERE: Final = "begun-elsewhere"


class _Redis(Scene):
    service = breaker = "redis"
    split = staticmethod(REDIS)
    slow = 0.5
    operations = 2  # read the conversation, then add to it
    probes = 2
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


_REFRESH: Final = 1.0


class _Keycloak(Scene):
    service = breaker = "keycloak"
    operations = 2  # the endpoints and the keys
    probes = 1  # the next refresh may have begun
    callers = (
        "a token signed with a known key, once the keys were due",
        "a token signed with a new key",
        "a token signed with a known key",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._realm = RealmProcess(folder / "realm")
        self.keycloak.rotate()

    @property
    def process(self) -> Process:
        return self._realm

    def __enter__(self) -> Self:
        self._publish()
        return super().__enter__()

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        changed = {"KEYCLOAK_URL": _url(proxy), "KEYCLOAK_KEYS_REFRESH_SECONDS": str(_REFRESH)}
        given = super().variables(proxy) | changed
        self.issuer = f"{_url(proxy)}/realms/demo"
        self._realm.called(self.issuer)
        return given

    async def prepare(self, ask: Ask) -> None:
        self._publish()
        await super().prepare(ask)
        self.keycloak.rotate()
        self._publish()
        await asyncio.sleep(_REFRESH)  # now the keys are due

    async def notice(self, ask: Ask) -> None:
        """Callers do not wait for the refresh of keys: it takes one until somebody knows that it failed."""
        give_up = time.monotonic() + 8.0
        while (await ask(self.known())).kind == "whole" and time.monotonic() < give_up:
            await asyncio.sleep(0.05)

    def _publish(self) -> None:
        self._realm.publish([key.jwk() for key in self.keycloak.keys])

    def known(self) -> Call:
        return self._chat(self.keycloak.keys[1])

    def new(self) -> Call:
        return self._chat(self.keycloak.keys[0])

    def _chat(self, key: Any) -> Call:
        return Call(
            "agent_chat", {"message": "hello"}, self.keycloak.token(key=key, iss=self.issuer, sub="alice")
        )


class _Prometheus(Scene):
    service = breaker = "prometheus"
    hurried = MappingProxyType({"PROMETHEUS_ATTEMPT_TIMEOUT": "0.3"})
    slow = 0.6
    slow_by_default = 6.0
    callers = ("asks what was asked before", "asks something new", "asks what was asked before")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._real = PrometheusServer(folder / "prometheus")

    @property
    def process(self) -> Process:
        return self._real

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        return super().variables(proxy) | {"PROMETHEUS_URL": _url(proxy)}

    def known(self) -> Call:
        return self.chat("alice", "metrics of `vector(1)`")

    def new(self) -> Call:
        return self.chat("alice", f"metrics of `vector({time.monotonic_ns()})`")


class _LLM(Scene):
    service = "llm"
    breaker = "llm.openai.first"
    hurried = MappingProxyType({"LLM_ATTEMPT_TIMEOUT": "0.4"})
    slow_by_default = 70.0
    callers = ("asks what was asked before", "asks something new", "asks what was asked before")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._real = ProviderProcess(folder / "provider")
        self._other = ProviderServer()

    @property
    def process(self) -> Process:
        return self._real

    def __enter__(self) -> Self:
        self._other.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._other.__exit__()

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        return super().variables(proxy) | {
            "LLM_PROVIDER": "openai",
            "LLM_MODEL": "first",
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{_url(proxy)}/v1",
            "LLM_FALLBACK_MODELS": "anthropic:second",
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": self._other.base_url("anthropic"),
        }

    def new(self) -> Call:
        return self.chat("alice", f"tell me about {time.monotonic_ns()}")


class _OnlyLLM(_LLM):
    """The same without another model."""

    service = "llm, no other"

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        return {
            name: value for name, value in super().variables(proxy).items() if name != "LLM_FALLBACK_MODELS"
        }


SCENES: Final[dict[str, type[Scene]]] = {
    scene.service: scene for scene in (_LLM, _OnlyLLM, _OpenFGA, _Redis, _Keycloak, _Prometheus)
}


@contextmanager
def on_stage(service: str, folder: Path) -> Iterator[Scene]:
    """The scene of that service, its processes started and at last stopped."""
    with SCENES[service](folder) as scene:
        yield scene
