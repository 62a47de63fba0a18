"""What type checkers make of the public interface. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, assert_type

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Bulkhead,
    BulkheadFull,
    Cache,
    Chaos,
    CircuitBreaker,
    CircuitOpen,
    Criticality,
    Degradation,
    Ended,
    Endpoints,
    Fallback,
    Hedge,
    Incoming,
    Keyed,
    Kind,
    LastGood,
    Outcome,
    Outlier,
    OutlierRules,
    Pipeline,
    Quota,
    RateLimit,
    Rejected,
    Reservation,
    ResilienceError,
    Retry,
    Rung,
    StreamInterrupted,
    TimedOut,
    Timeout,
    Usage,
    Value,
    Verdict,
    Window,
    carried,
    circuit_breaker,
    classify,
    collect_degradations,
    current_attempt,
    current_endpoint,
    current_hedge,
    detached,
    in_thread,
    incoming,
    outgoing_headers,
    registry,
    remaining,
    retry_with_backoff,
    timeout,
    with_bulkhead,
    with_fallback,
    with_hedge,
    with_timeout,
)

# The decorators leave a function's type as it is.


@circuit_breaker(name="openfga", fail_max=5, timeout=60)
@retry_with_backoff(max_attempts=3, exponential_base=2)
@with_timeout(seconds=5)
@with_bulkhead(limit=50)
async def check_permission(user: str, resource: str, *, fast: bool = False) -> bool:
    return bool(user and resource and fast)


@with_fallback(Value([]))
@circuit_breaker()
def read(path: str) -> list[str]:
    return [path]


@with_hedge()
async def look_up(word: str) -> int:
    return len(word)


@with_timeout(seconds=60, idle=5)
async def tokens(prompt: str) -> AsyncGenerator[str, None]:
    yield prompt


pipeline = Pipeline(
    "search",
    Fallback(LastGood(60), Rung(Value(None), source="nothing", also=(BulkheadFull,))),
    Timeout(30, first_item=5, idle=2),
    Cache(ttl=10, max_age=300, key=str.lower, max_size=100, single_flight=True),
    AdaptiveLimit("vegas", initial=10, partitions={Criticality.CRITICAL: 0.7, Criticality.SHEDDABLE: 0.1}),
    Bulkhead(10, max_queue=5, max_wait=1),
    Retry(max_attempts=3, kind=Kind.IDEMPOTENT_READ),
    CircuitBreaker("search", fail_max=5, timeout=60),
    Timeout(5),
    Chaos(latency=(0.1, 2), outcome=[], rate=0.01, seed=1, schedule=[Window(0, 10, every=60)], enabled=True),
)


@pipeline
async def search(query: str, limit: int = 10) -> list[str]:
    return [query] * limit


@pipeline
async def stream(query: str) -> AsyncGenerator[int, str]:
    yield len(query)


class Service:
    @circuit_breaker()
    async def fetch(self, key: str) -> bytes:
        return key.encode()

    @with_timeout(seconds=1)
    @staticmethod
    async def free(key: str) -> bytes:
        return key.encode()

    @pipeline
    async def piped(self, key: str) -> bytes:
        return key.encode()


async def decorated(service: Service) -> None:
    assert_type(await check_permission("anne", "doc", fast=True), bool)
    unsent: Coroutine[Any, Any, bool] = check_permission("anne", resource="doc")
    unsent.close()
    assert_type(read("path"), list[str])
    assert_type([token async for token in tokens("hello")], list[str])
    assert_type(await search("x", limit=3), list[str])
    assert_type(await stream("x").asend("y"), int)
    assert_type(await service.fetch("x"), bytes)
    assert_type(await Service.free("x"), bytes)
    assert_type(await service.piped("x"), bytes)
    await check_permission("anne")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await check_permission("anne", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await search("x", limt=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await service.fetch(b"x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# A pipeline's `call` takes the function's arguments and gives its result.


async def fetch(url: str, *, retries: int = 0) -> bytes:
    return url.encode() * retries


def parse(text: str) -> int:
    return len(text)


async def called(service: Service, other: Callable[[int], Awaitable[str]]) -> None:
    assert_type(await pipeline.call(fetch, "url", retries=2), bytes)
    assert_type(await pipeline.call(service.fetch, "key"), bytes)
    assert_type(await pipeline.call(other, 1), str)
    assert_type(pipeline.call_sync(parse, "text"), int)
    ended = await pipeline.try_call(fetch, "url", retries=2)
    assert_type(ended, Ended[bytes])
    assert_type(ended.value, bytes | None)
    assert_type(ended.error, Exception | None)
    assert_type(ended.unwrap(), bytes)
    assert_type(ended.verdict, Verdict)
    assert_type(pipeline.try_call_sync(parse, "text").unwrap(), int)
    assert_type([item async for item in pipeline.stream(tokens, "hello")], list[str])
    await pipeline.call(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pipeline.call(fetch)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await pipeline.try_call(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pipeline.call(parse, "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline.stream(fetch, "url")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Blocks and errors.


async def blocks() -> None:
    async with timeout(5, name="block") as block:
        assert_type(block, timeout)
        assert_type(block.when(), float | None)
        assert_type(block.expired(), bool)
        block.reschedule(None)
    async with timeout(None):
        assert_type(remaining(), float | None)
    with detached():
        pass
    with collect_degradations() as notes:
        assert_type(notes, list[Degradation])


async def carrying() -> None:
    headers: dict[str, str] = outgoing_headers()
    with incoming(headers, max_criticality=Criticality.CRITICAL_PLUS) as came:
        assert_type(came, Incoming)
    async with incoming([(b"grpc-timeout", b"5S")], margin=0.1) as again:
        assert_type(again.seconds, float | None)
    assert_type(carried(parse)("text"), int)
    assert_type(await in_thread(parse, "text"), int)
    assert_type(current_attempt(), int)
    await in_thread(parse, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def estimate(prompt: str) -> Usage:
    return Usage(len(prompt), 500)


async def reservations(limit: RateLimit) -> None:
    with await limit.acquire(5) as reservation:
        assert_type(reservation, Reservation)
        reservation.settle(3.5)
    assert_type(limit.reserve().weight, float)
    RateLimit(10, per=60, weight=len, settle=lambda result: None)
    Quota(tokens=estimate, usage=lambda answer: None)
    Quota(tokens=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RateLimit(10, weight="heavy")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def hedged() -> None:
    assert_type(await look_up("x"), int)
    assert_type(current_hedge(), int)
    assert_type(Hedge(0.5, max_hedges=2).snapshot().off, str | None)
    Hedge(saturated=lambda: 1)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType, reportReturnType]


async def errors() -> None:
    try:
        await search("x")
    except CircuitOpen as exc:
        assert_type(exc.retry_after, float | None)
        assert_type(exc.pipeline, str)
        rejected: Rejected = exc
        ours: ResilienceError = rejected
        assert_type(classify(ours), Verdict)
        assert_type(classify(ours).outcome, Outcome)
    except TimedOut as exc:
        cut: TimeoutError = exc
        assert_type(exc.seconds, float)
        raise cut from None
    except StreamInterrupted as exc:
        assert_type(exc.received, tuple[Any, ...])


def looked_at() -> None:
    assert_type(registry.pipelines(), list[Pipeline])
    assert_type(registry.breakers(), dict[str, CircuitBreaker])
    assert_type(pipeline.policies[0].name, str | None)


# A policy for each key.


def host_of(url: str, limit: int = 10) -> str:
    return url[:limit]


def breaker_of(host: str) -> CircuitBreaker:
    return CircuitBreaker(host, fail_max=3)


per_host = Keyed(breaker_of, key=host_of, max_keys=100)
assert_type(per_host.snapshot().keys, int)

# One of several endpoints.

endpoints = Endpoints(["eu", "us"], OutlierRules(consecutive_failures=3), pick="least_in_flight")
outlier = Outlier(endpoints, argument="host")
assert_type(endpoints.pick(0.0, 0.5).name, str)
assert_type(outlier.snapshot().rotation, tuple[str, ...])
assert_type(current_endpoint(), str | None)
