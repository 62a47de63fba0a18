"""One cell of the matrix: one fault of one service behind the whole server, from before it begins until it is over."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import httpx2

from mcp_server_langgraph.auth import _http
from mcp_server_langgraph.resilience import CircuitBreaker, registry
from tests.faults.faults import Fault, begin, end
from tests.faults.house import Reply, call_tool, whole_server
from tests.faults.scene import Ask, Scene
from tests.support.eventually import until
from tests.support.faulty_proxy import FaultyProxy

__all__ = ["SETTINGS", "Seen", "play"]

SETTINGS: Final = {
    "CIRCUIT_BREAKER_TIMEOUT_DURATION": "0.5",
    "CIRCUIT_BREAKER_TIMEOUT_MAX": "0.5",
    "RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.02",
    "MCP_SHED_MAX_LAG": "10",
    "LOG_LEVEL": "ERROR",
}
"""Shorter waits than the defaults, so that a cell takes a second or two, and a busy test machine sheds no calls. All
else is as it is without settings, but for `_patience`."""

_CALLS: Final = 8
_RECOVERY_LIMIT: Final = 30.0
_READ_WITHIN: Final = 5.0


@dataclass(frozen=True)
class Seen:
    """What a run of the cell found. ``seconds``: the slowest call. ``recovery``: seconds from the end of the fault to a
    whole answer with the breaker closed.

    Of the first call: ``requests`` on the wire, ``attempts`` that the layer counted, ``promised`` by the pipelines'
    ``describe()`` as the most. ``probes``: requests of the server's own that may be among them, to find out that the
    service is back. ``silent``: attempts that may end before the wire, on a connection that is found closed.
    """

    known: str
    new: str
    later: str
    opened: bool
    requests: int
    attempts: int
    promised: int
    probes: int
    silent: int
    seconds: float
    recovery: float


async def play(scene: Scene, fault: Fault, folder: Path) -> Seen:
    """Play it."""
    tls = folder / "tls" if fault.tls else None
    with FaultyProxy(scene.process.port, scene.split, tls) as proxy, _trusting(proxy.trusted):
        variables = {**scene.variables(proxy), **SETTINGS, **_patience(scene, fault)}
        variables |= scene.hurried if fault.hangs else {}
        async with whole_server(variables) as url, httpx2.AsyncClient(timeout=60.0) as http:
            ask = partial(call_tool, http, url)
            await scene.prepare(ask)
            return await _Cell(scene, fault, proxy, ask).run()


def _patience(scene: Scene, fault: Fault) -> dict[str, str]:
    """Settings for all that does not hang: of it no attempt is given up because the machine is busy."""
    hanging = {name.partition(".")[0] for name in _operations(scene)} if fault.hangs else set()
    waited_for = {"openfga", "redis", "database", "keycloak"} - hanging
    return {
        f"{service.upper()}_{time}": "20" for service in waited_for for time in ("ATTEMPT_TIMEOUT", "TIMEOUT")
    }


def _operations(scene: Scene) -> Mapping[str, int]:
    return scene.operations or {scene.breaker: 1}


class _Cell:
    def __init__(self, scene: Scene, fault: Fault, proxy: FaultyProxy, ask: Ask) -> None:
        self._scene, self._fault, self._proxy, self._ask = scene, fault, proxy, ask
        self._replies: list[Reply] = []

    async def run(self) -> Seen:
        scene, proxy = self._scene, self._proxy
        attempts, tries = self._attempts(), proxy.tries
        redis = scene.service == "redis"
        await asyncio.to_thread(begin, self._fault, scene.process, proxy, redis=redis, slow=scene.slow)
        try:
            await scene.notice(self._ask)
            known = await self._call(scene.known())
            await self._until_read(tries, attempts)
            tries, attempts = proxy.tries - tries, self._attempts() - attempts
            new = await self._call(scene.new())
            opened = await self._press()
            later = await self._call(scene.later())
        finally:
            await asyncio.to_thread(end, self._fault, scene.process, proxy)
        recovery = await self._recover()
        slowest = max(reply.seconds for reply in self._replies)
        told = (str(known), str(new), str(later), opened)
        counted = (tries, attempts, self._promised(), scene.probes, scene.silent)
        return Seen(*told, *counted, slowest, recovery)

    def _promised(self) -> int:
        """The most requests of the first call, as its pipelines describe themselves."""
        return sum(times * _requests_of(name) for name, times in _operations(self._scene).items())

    async def _until_read(self, tries: int, attempts: int) -> None:
        """Wait for the proxy, which a client that gives up is ahead of."""
        if self._fault.hangs:
            least = self._attempts() - attempts - self._scene.silent
            with suppress(TimeoutError):
                await until(lambda: self._proxy.tries - tries >= least, within=_READ_WITHIN)

    async def _call(self, call: Any) -> Reply:
        self._replies.append(await self._ask(call))
        return self._replies[-1]

    async def _press(self) -> bool:
        """Go on asking until the breaker opens; whether it did."""
        for _ in range(_CALLS):
            if self._breaker().state != "closed":
                return True
            await self._call(self._scene.later())
        return self._breaker().state != "closed"

    async def _recover(self) -> float:
        began = time.monotonic()
        while time.monotonic() - began < _RECOVERY_LIMIT:
            reply = await self._ask(self._scene.known())
            if reply.kind == "whole" and self._breaker().state == "closed":
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        raise AssertionError(
            f"not whole again after {_RECOVERY_LIMIT} s: {reply}; {self._breaker().snapshot()}"
        )

    def _breaker(self) -> CircuitBreaker:
        return registry.breakers()[self._scene.breaker]

    def _attempts(self) -> int:
        """Requests that the layer let through to the service."""
        breakers = registry.breakers()
        counts = [breakers[name].snapshot() for name in _operations(self._scene) if name in breakers]
        return sum(each.successes + sum(each.failures.values()) + each.neutral for each in counts)


def _requests_of(name: str) -> int:
    """The most requests of one call, as the pipelines of that name say."""
    return max(int(each.describe()["requests"]) for each in registry.pipelines() if each.name == name)


@contextmanager
def _trusting(bundle: Path | None) -> Iterator[None]:
    """Certificates that the server's clients trust while it is built."""
    if bundle is None:
        yield
        return
    _http._tls.cache_clear()
    try:
        with mock.patch.dict(os.environ, SSL_CERT_FILE=str(bundle)):
            yield
    finally:
        _http._tls.cache_clear()
