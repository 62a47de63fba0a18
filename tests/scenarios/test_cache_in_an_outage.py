"""A flushed cache under load, and an outage under a cache: what would be a stampede is one request."""

from __future__ import annotations

import asyncio

from mcp_server_langgraph.resilience import (
    Bulkhead,
    Cache,
    CircuitBreaker,
    Pipeline,
    Retry,
    Timeout,
    collect_degradations,
)


class Service:
    def __init__(self) -> None:
        self.requests = 0
        self.up = True

    async def read(self) -> str:
        self.requests += 1
        await asyncio.sleep(0.1)
        if not self.up:
            raise ConnectionError
        return f"version {self.requests}"


def guarded(cache: Cache) -> Pipeline:
    return Pipeline(
        "service",
        Timeout(10),
        cache,
        Bulkhead(5),
        Retry(max_attempts=2, jitter="none"),
        CircuitBreaker(fail_max=4),
        Timeout(1),
    )


async def test_a_flush_under_a_thousand_readers_makes_one_request() -> None:
    cache, service = Cache(ttl=60), Service()
    pipeline = guarded(cache)
    assert await pipeline.call(service.read) == "version 1"
    cache.clear()
    answers = await asyncio.gather(*(pipeline.call(service.read) for _ in range(1000)))
    assert set(answers) == {"version 2"}
    assert service.requests == 2
    assert cache.snapshot().joined == 999


async def test_without_it_a_thousand_readers_are_refused_by_the_bulkhead() -> None:
    """What the test above shows is the cache's doing."""
    service = Service()
    pipeline = guarded(Cache(single_flight=False))
    results = await asyncio.gather(
        *(pipeline.call(service.read) for _ in range(1000)), return_exceptions=True
    )
    assert sum(isinstance(result, str) for result in results) < 20


async def test_readers_get_the_last_good_answer_through_an_outage_and_the_new_one_after_it() -> None:
    cache, service = Cache(ttl=1, max_age=600), Service()
    pipeline = guarded(cache)
    degraded = 0

    async def read_all() -> set[str]:
        nonlocal degraded
        with collect_degradations() as notes:
            answers = await asyncio.gather(*(pipeline.call(service.read) for _ in range(100)))
        degraded += len(notes)
        return set(answers)

    assert await read_all() == {"version 1"}
    service.up = False
    before = service.requests
    for _ in range(60):
        await asyncio.sleep(5)
        assert await read_all() == {"version 1"}
    assert degraded == 60 * 100
    # Two attempts of two calls open the breaker; then one probe a minute.
    assert service.requests - before <= 4 + 2 * 6
    service.up = True
    await asyncio.sleep(61)
    assert "version 1" not in await read_all()
