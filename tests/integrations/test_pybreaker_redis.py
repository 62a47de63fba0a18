"""Our breaker and one of pybreaker's share state through a real server, which dies, hangs and is slow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pybreaker
import pytest
import redis

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, Pipeline
from mcp_server_langgraph.resilience.integrations.pybreaker import SharedBreaker, share
from tests.support.eventually import until
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.real_time(limit=30)

REFRESH = 0.05


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "valkey") as running:
        yield running


def storage(port: int, **options: Any) -> Callable[[], pybreaker.CircuitRedisStorage]:
    def make() -> pybreaker.CircuitRedisStorage:
        client = redis.Redis(port=port, **{"socket_timeout": 2.0, **options})
        return pybreaker.CircuitRedisStorage("closed", client, namespace="search")

    return make


class Ours:
    """Our side: a breaker in a pipeline, and what shares its state."""

    def __init__(self, port: int, timeout: float = 60.0, patience: float = 0.2, **options: Any) -> None:
        self.breaker = CircuitBreaker("search", fail_max=2, timeout=timeout)
        self.pipeline = Pipeline("search", self.breaker)
        self.shared: SharedBreaker = share(
            self.breaker, storage(port, **options), refresh=REFRESH, patience=patience
        )

    async def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(ConnectionError):
                await self.pipeline.call(_fail)

    async def ask(self) -> str:
        return await self.pipeline.call(_answer)


@pytest.fixture
def sharing() -> Iterator[list[SharedBreaker]]:
    made: list[SharedBreaker] = []
    yield made
    for shared in made:
        shared.close()
        shared._thread.join(10)
        assert not shared._thread.is_alive()


async def _fail() -> None:
    raise ConnectionError("down")


async def _answer() -> str:
    return "answer"


async def test_an_opening_here_opens_pybreakers_and_its_closing_closes_ours(
    server: RedisServer, sharing: list[SharedBreaker]
) -> None:
    ours, theirs = (
        Ours(server.port),
        pybreaker.CircuitBreaker(reset_timeout=0, state_storage=storage(server.port)()),
    )
    sharing.append(ours.shared)
    await ours.fail(2)
    await until(lambda: theirs.current_state == "open")
    assert theirs.call(lambda: 7) == 7  # its reset_timeout is over: this is its trial call
    assert theirs.current_state == "closed"
    await until(lambda: ours.breaker.state == "closed")
    assert await ours.ask() == "answer"


async def test_an_opening_there_opens_ours_for_what_is_left_of_the_break(
    server: RedisServer, sharing: list[SharedBreaker]
) -> None:
    ours = Ours(server.port, timeout=4.0)
    theirs = pybreaker.CircuitBreaker(fail_max=1, state_storage=storage(server.port)())
    sharing.append(ours.shared)
    with pytest.raises(pybreaker.CircuitBreakerError):
        theirs.call(lambda: 1 / 0)
    await until(lambda: ours.breaker.state == "open")
    with pytest.raises(CircuitOpen) as caught:
        await ours.ask()
    assert 0 < (caught.value.retry_after or 0) <= 4.0
    assert ours.breaker.snapshot().because == "shared"
    await asyncio.sleep(caught.value.retry_after or 0)
    assert await ours.ask() == "answer"
    await until(lambda: theirs.current_state == "closed")


async def test_failures_on_both_sides_are_one_row(server: RedisServer, sharing: list[SharedBreaker]) -> None:
    ours, theirs = (
        Ours(server.port),
        pybreaker.CircuitBreaker(fail_max=5, state_storage=storage(server.port)()),
    )
    sharing.append(ours.shared)
    with pytest.raises(ZeroDivisionError):
        theirs.call(lambda: 1 / 0)
    await ours.fail()
    await until(lambda: ours.breaker.state == "open")
    await until(lambda: theirs.current_state == "open")


async def test_a_server_that_hangs_delays_no_call_and_is_told_of_once(
    server: RedisServer, sharing: list[SharedBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    ours = Ours(server.port, socket_timeout=None)
    sharing.append(ours.shared)
    await until(lambda: ours.shared.snapshot().state == "closed")
    server.pause()
    try:
        await until(lambda: not ours.shared.snapshot().reachable)
        await ours.fail(2)
        for _ in range(100):
            with pytest.raises(CircuitOpen):
                await ours.ask()  # would never come back if it asked the server
        assert not ours.shared.snapshot().reachable
    finally:
        server.resume()
    await until(lambda: ours.shared.snapshot().reachable and ours.shared.snapshot().state == "open")
    assert len([line for line in caplog.messages if "out of reach" in line]) == 1


async def test_a_dead_server_closes_no_circuit_and_hears_of_it_when_it_is_back(
    server: RedisServer, sharing: list[SharedBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ours = Ours(server.port)
    sharing.append(ours.shared)
    await until(lambda: ours.shared.snapshot().reachable and ours.shared.snapshot().state)
    server.kill()
    await until(lambda: not ours.shared.snapshot().reachable)
    await ours.fail(2)
    for _ in range(10):
        await asyncio.sleep(REFRESH)
        assert ours.breaker.state == "open"
    server.start()
    await until(lambda: ours.shared.snapshot().state == "open")
    assert storage(server.port)().state == "open"
    assert len([line for line in caplog.messages if "out of reach" in line]) == 1
    assert not [record for record in caplog.records if record.name.startswith("pybreaker")]


async def test_a_server_that_is_away_at_the_start_is_asked_again(
    server: RedisServer, sharing: list[SharedBreaker]
) -> None:
    server.kill()
    ours = Ours(server.port)
    sharing.append(ours.shared)
    assert await ours.ask() == "answer"
    await until(lambda: not ours.shared.snapshot().reachable)
    server.start()
    await until(lambda: ours.shared.snapshot().reachable)


async def test_a_slow_server_delays_no_call(server: RedisServer, sharing: list[SharedBreaker]) -> None:
    with TcpProxy(server.port) as proxy:
        proxy.slow(0.1)
        ours = Ours(proxy.port)
        sharing.append(ours.shared)
        for _ in range(1000):
            await ours.ask()  # 100 s if each asked the server
        await ours.fail(2)
        await until(lambda: storage(server.port)().state == "open")
        ours.shared.close()
        await asyncio.to_thread(ours.shared._thread.join, 10)
