"""One policy for each key: kept apart, bounded in number, in calls of every kind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Fallback,
    Keyed,
    Pipeline,
    Retry,
    Timeout,
    Value,
)
from mcp_server_langgraph.resilience.policy import Call, Policy, Proceed, ProceedStream, Site
from mcp_server_langgraph.resilience.testing import settle


def breaker_for(key: object) -> CircuitBreaker:
    return CircuitBreaker(fail_max=1, timeout=60)


def by_host(host: str, *args: object, **kwargs: object) -> str:
    return host


async def fetch(host: str, *, fails: bool = False) -> str:
    if fails:
        raise ConnectionError(host)
    return host


async def fail(pipeline: Pipeline, host: str) -> None:
    with pytest.raises(ConnectionError):
        await pipeline.call(fetch, host, fails=True)


def breaker_of(keyed: Keyed, key: object) -> CircuitBreaker:
    policy = keyed.get(key)
    assert isinstance(policy, CircuitBreaker)
    return policy


async def test_an_open_breaker_of_one_key_refuses_no_other() -> None:
    keyed = Keyed(breaker_for, key=by_host)
    pipeline = Pipeline("search", keyed)

    await fail(pipeline, "dead")

    with pytest.raises(CircuitOpen) as refused:
        await pipeline.call(fetch, "dead")
    assert refused.value.pipeline == "search.dead"
    assert await pipeline.call(fetch, "alive") == "alive"
    assert (breaker_of(keyed, "dead").state, breaker_of(keyed, "alive").state) == ("open", "closed")
    assert keyed.get("never seen") is None


async def test_one_keyed_policy_serves_many_pipelines_with_one_state_per_key() -> None:
    keyed = Keyed(breaker_for, key=by_host)
    reads, writes = Pipeline("reads", keyed), Pipeline("writes", keyed)

    await fail(reads, "dead")

    with pytest.raises(CircuitOpen):
        await writes.call(fetch, "dead")


async def test_the_key_may_come_from_the_context() -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    pipeline = Pipeline("search", Keyed(breaker_for, key=lambda *args, **kwargs: tenant.get()))

    tenant.set("greedy")
    await fail(pipeline, "x")
    with pytest.raises(CircuitOpen):
        await pipeline.call(fetch, "x")
    tenant.set("modest")
    assert await pipeline.call(fetch, "x") == "x"


async def test_what_the_key_function_raises_is_raised_and_no_place_is_taken() -> None:
    keyed = Keyed(breaker_for, key=lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await Pipeline("search", keyed).call(idle)
    assert keyed.snapshot().keys == 0


async def idle() -> None:
    """Nothing to do."""


async def test_a_bulkhead_for_each_tenant_waits_for_its_own_places() -> None:
    keyed = Keyed(lambda tenant: Bulkhead(1, max_queue=1, max_wait=5), key=by_host)
    pipeline = Pipeline("search", keyed)
    gate = asyncio.Event()

    async def work(tenant: str) -> str:
        await gate.wait()
        return tenant

    calls = [asyncio.ensure_future(pipeline.call(work, tenant)) for tenant in ("a", "a", "b")]
    await settle()
    with pytest.raises(BulkheadFull):
        await pipeline.call(work, "a")
    assert keyed.snapshot().in_use == 2
    gate.set()

    assert await asyncio.gather(*calls) == ["a", "a", "b"]
    assert keyed.snapshot().in_use == 0


async def test_plain_functions_are_guarded_too() -> None:
    pipeline = Pipeline("search", Keyed(breaker_for, key=by_host))

    @pipeline
    def read(host: str) -> str:
        if host == "dead":
            raise ConnectionError
        return host

    with pytest.raises(ConnectionError):
        read("dead")
    with pytest.raises(CircuitOpen):
        read("dead")
    assert read("alive") == "alive"


async def test_the_outcome_of_a_stream_is_recorded_at_its_end() -> None:
    keyed = Keyed(breaker_for, key=by_host)
    pipeline = Pipeline("search", keyed)

    @pipeline
    async def items(host: str, breaks: bool) -> AsyncGenerator[int, None]:
        yield 1
        if breaks:
            raise ConnectionError
        yield 2

    assert [item async for item in items("a", False)] == [1, 2]
    assert breaker_of(keyed, "a").snapshot().successes == 1
    stream = items("a", True)
    assert await anext(stream) == 1
    assert (breaker_of(keyed, "a").state, keyed.snapshot().in_use) == ("closed", 1)
    with pytest.raises(Exception, match="interrupted"):
        await anext(stream)
    assert (breaker_of(keyed, "a").state, keyed.snapshot().in_use) == ("open", 0)
    with pytest.raises(CircuitOpen):
        await anext(items("a", False))


async def test_a_stream_that_its_consumer_leaves_early_is_neutral() -> None:
    keyed = Keyed(breaker_for, key=by_host)
    closed: list[str] = []

    async def items(host: str) -> AsyncGenerator[int, int]:
        try:
            while True:
                got = yield 1
                assert got in (None, 7)
        finally:
            closed.append(host)

    stream = Pipeline("search", keyed).stream(items, "a")
    await anext(stream)
    assert await stream.asend(7) == 1
    await stream.aclose()

    shown = breaker_of(keyed, "a").snapshot()
    assert (shown.neutral, shown.successes, closed) == (1, 0, ["a"])
    assert keyed.snapshot().in_use == 0


async def test_what_is_thrown_into_a_stream_reaches_its_source() -> None:
    async def items(host: str) -> AsyncGenerator[str, None]:
        try:
            yield "first"
        except LookupError:
            yield "caught"

    stream = Pipeline("search", Keyed(breaker_for, key=by_host)).stream(items, "a")
    await anext(stream)
    assert await stream.athrow(LookupError()) == "caught"
    assert [item async for item in stream] == []


async def test_a_stream_waits_for_its_keys_place() -> None:
    keyed = Keyed(lambda key: Bulkhead(1, max_queue=1, max_wait=5), key=by_host)
    pipeline = Pipeline("search", keyed)

    async def items(host: str) -> AsyncGenerator[int, None]:
        yield 1

    first = pipeline.stream(items, "a")
    await anext(first)
    second = asyncio.ensure_future(anext(pipeline.stream(items, "a")))
    await settle()
    assert not second.done()
    await first.aclose()
    assert await second == 1
    gc.collect()


class Doubling(Policy):
    """A policy in the general form, with state."""

    kind = "doubling"

    def __init__(self) -> None:
        self.calls = 0

    async def run(self, call: Call, proceed: Proceed) -> Any:
        self.calls += 1
        return 2 * await proceed(call)

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        async for item in proceed(call):
            yield 2 * item


async def test_a_policy_in_the_general_form_can_be_keyed() -> None:
    keyed = Keyed(lambda key: Doubling(), key=lambda number: number)
    pipeline = Pipeline("numbers", keyed)

    async def give(number: int) -> int:
        return number

    async def items(number: int) -> AsyncGenerator[int, None]:
        yield number

    assert await pipeline.call(give, 4) == 8
    assert [item async for item in pipeline.stream(items, 5)] == [10]
    policy = keyed.get(4)
    assert isinstance(policy, Doubling)
    assert policy.calls == 1
    with pytest.raises(TypeError, match="doubling cannot guard one"):
        pipeline(lambda number: number)


async def test_a_cancelled_and_an_abandoned_call_give_the_key_back() -> None:
    keyed = Keyed(breaker_for, key=by_host)
    pipeline = Pipeline("search", keyed)

    async def hang(host: str) -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(pipeline.call(hang, "a"))
    await settle()
    assert keyed.snapshot().in_use == 1
    task.cancel()
    await settle()
    assert keyed.snapshot().in_use == 0

    abandoned = pipeline.call(hang, "a").__await__()
    next(abandoned)
    assert keyed.snapshot().in_use == 1
    del abandoned
    gc.collect()
    assert keyed.snapshot().in_use == 0
    assert breaker_of(keyed, "a").snapshot().neutral == 2


async def test_a_retry_does_not_wait_for_the_refusal_of_its_key() -> None:
    pipeline = Pipeline("search", Retry(max_attempts=3), Keyed(breaker_for, key=by_host))
    began = asyncio.get_running_loop().time()

    await fail(pipeline, "dead")
    assert asyncio.get_running_loop().time() == began

    tries: list[str] = []

    async def flaky(host: str) -> str:
        tries.append(host)
        if len(tries) == 1:
            raise ConnectionError
        return host

    patient = Pipeline("other", Retry(max_attempts=2), Keyed(lambda key: CircuitBreaker(), key=by_host))
    assert await patient.call(flaky, "alive") == "alive"
    assert patient.site.gates != []
    assert len(patient.site.gates) == 1  # one for all keys


@pytest.mark.parametrize("policy", [Retry(), Timeout(1), Fallback(Value(1)), Keyed(breaker_for, key=by_host)])
def test_what_is_the_same_for_every_key_is_refused(policy: Policy) -> None:
    with pytest.raises(ConfigurationError, match=f"Keyed: a {policy.kind} is the same for every key"):
        Keyed(lambda key: policy, key=by_host)


async def test_one_object_for_two_keys_is_refused() -> None:
    shared = CircuitBreaker("shared")
    with pytest.raises(ConfigurationError, match="one policy to two keys"):
        await Pipeline("search", Keyed(lambda key: shared, key=by_host)).call(fetch, "a")


def test_arguments_out_of_range_are_refused() -> None:
    for wrong in ({"max_keys": 0}, {"max_keys": 1.5}, {"max_labels": -1}):
        with pytest.raises(ConfigurationError, match=f"Keyed: {next(iter(wrong))}="):
            Keyed(breaker_for, key=by_host, **wrong)
    with pytest.raises(ConfigurationError, match="no policy"):
        Keyed(lambda key: object(), key=by_host)  # type: ignore[arg-type, return-value]


def test_a_make_that_knows_only_its_keys_needs_an_overflow() -> None:
    known = {"a": 1}
    with pytest.raises(ConfigurationError, match="give overflow="):
        Keyed(lambda key: CircuitBreaker(fail_max=known[key]), key=by_host)
    keyed = Keyed(
        lambda key: CircuitBreaker(fail_max=known[key]), key=by_host, overflow=CircuitBreaker("rest")
    )
    assert keyed.settings()["each"].name == "rest"


async def test_a_refusal_met_in_another_pipeline_is_not_this_ones() -> None:
    keyed = Keyed(breaker_for, key=by_host)
    ours, others = (Pipeline(name, Retry(max_attempts=2), keyed) for name in ("ours", "others"))
    await fail(others, "dead")
    now = asyncio.get_running_loop().time()
    assert [gate(now) for gate in others.site.gates] == [60.0]
    assert [gate(now) for gate in ours.site.gates] == [0.0]


class Unbound(Policy):
    """Cannot be bound twice."""

    def __init__(self) -> None:
        self.bindings = 0

    def bind(self, site: Site) -> Policy:
        self.bindings += 1
        if self.name == "search.a":
            raise ConfigurationError("not here")
        return self


async def test_a_key_whose_policy_cannot_be_bound_is_not_held_in_use() -> None:
    keyed = Keyed(lambda key: Unbound(), key=by_host)
    with pytest.raises(ConfigurationError, match="not here"):
        await Pipeline("search", keyed).call(fetch, "a")
    assert (keyed.snapshot().keys, keyed.snapshot().in_use) == (1, 0)
