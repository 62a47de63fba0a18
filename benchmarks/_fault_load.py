"""Twenty tool calls a second, whatever becomes of them, on a server of its own process while a service behind it fails.

An open model: a call begins when its time has come, not when the one before has ended, so that a slow answer delays
nobody and hides nothing. The first calls begin with the fault.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.faults.faults import FAULTS, Fault, begin, end
from tests.faults.house import Call, Reply, call_tool
from tests.faults.scenes import Scene
from tests.server.running import running_server
from tests.support.faulty_proxy import FaultyProxy

__all__ = ["NO_FAULT", "Measured", "measure"]

NO_FAULT: Final = Fault("none", "all is well, to compare with")

# Of four calls two are by callers that the server knows, one by one that it does not, one by one that came later. They
# are of several users, so that none of them comes near its rate at the door (50 calls a second).
_MIX: Final = ("known", "later", "known", "new")
_LONGEST: Final = 70.0


@dataclass(frozen=True)
class Measured:
    """One cell: how many calls ended in which way, their seconds (median, 95th percentile, longest), the requests that
    reached the service, the machine's load at the end, and what callers were told most often.
    """

    service: str
    fault: str
    calls: int
    whole: int
    degraded: int
    errors: int
    median: float
    p95: float
    longest: float
    requests: int
    connections: int
    load: float
    told: dict[str, int]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


async def measure(scene: Scene, fault_name: str, *, seconds: float, rate: float) -> Measured:
    """Run one cell."""
    fault = FAULTS.get(fault_name, NO_FAULT)
    scene.crowd = round(rate)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tls = folder / "tls" if fault.tls else None
        with FaultyProxy(scene.process.port, scene.split, tls) as proxy:
            variables = _variables(scene, proxy)
            with running_server(folder, **variables) as server:
                limits = httpx2.Limits(max_connections=None)
                async with httpx2.AsyncClient(timeout=_LONGEST, limits=limits) as http:
                    ask = partial(call_tool, http, server.url)
                    await scene.prepare(ask)
                    before, accepted = sum(proxy.requests.values()), proxy.accepted
                    replies = await _through(fault, scene, proxy, _load(ask, scene, seconds, rate))
                    requests = sum(proxy.requests.values()) - before
                    return _measured(scene, fault_name, replies, requests, proxy.accepted - accepted)


async def _through(
    fault: Fault, scene: Scene, proxy: FaultyProxy, load: Coroutine[Any, Any, list[Reply]]
) -> list[Reply]:
    """Let the fault begin, and be, until the load is over."""
    if fault is NO_FAULT:
        return await load
    redis, slow = scene.service == "redis", scene.slow_by_default
    await asyncio.to_thread(begin, fault, scene.process, proxy, redis=redis, slow=slow)
    try:
        return await load
    finally:
        await asyncio.to_thread(end, fault, scene.process, proxy)


def _variables(scene: Scene, proxy: FaultyProxy) -> dict[str, str]:
    trusted = {} if proxy.trusted is None else {"SSL_CERT_FILE": str(proxy.trusted)}
    return {**scene.variables(proxy), **trusted, "LOG_LEVEL": "ERROR"}


async def _load(ask: Any, scene: Scene, seconds: float, rate: float) -> list[Reply]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks: list[asyncio.Task[Reply]] = []
    for number, call in zip(range(round(seconds * rate)), _calls(scene), strict=False):
        await asyncio.sleep(began + number / rate - loop.time())
        tasks.append(asyncio.create_task(ask(call)))
    return await asyncio.gather(*tasks)


def _calls(scene: Scene) -> Iterator[Call]:
    while True:
        for who in _MIX:
            yield getattr(scene, who)()


def _measured(scene: Scene, fault: str, replies: list[Reply], requests: int, connections: int) -> Measured:
    times = sorted(reply.seconds for reply in replies)
    kinds = [reply.kind for reply in replies]
    return Measured(
        scene.service,
        fault,
        len(replies),
        kinds.count("whole"),
        kinds.count("degraded"),
        kinds.count("error"),
        times[len(times) // 2],
        times[int(len(times) * 0.95)],
        times[-1],
        requests,
        connections,
        os.getloadavg()[0],
        dict(Counter(str(reply) for reply in replies).most_common(5)),
    )
