"""Guards that are held after the function has returned: every place is given back once, however it ends."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    Cache,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Fallback,
    Hedge,
    Keyed,
    Pipeline,
    Policy,
    Retry,
    TimedOut,
    Timeout,
    Value,
)
from mcp_server_langgraph.resilience._held import THREAD, Held, Holder, finish, of_loop
from mcp_server_langgraph.resilience.testing import Recorder
from tests.support.dependency import Dependency, HTTPError, down


class Places:
    """A bulkhead of one place for each key, and a breaker that opens at the second failure, with retries between."""

    def __init__(self, *between: Policy, keyed: bool = True) -> None:
        self.bulkhead: Any = self._each(lambda key: Bulkhead(1, max_queue=1, max_wait=9), keyed)
        self.breaker: Any = self._each(lambda key: CircuitBreaker(fail_max=2), keyed)
        self.pipeline = Pipeline("held", self.bulkhead, *between, self.breaker)
        self.holder = Holder(self.pipeline)

    def _each(self, make: Callable[[Any], Policy], keyed: bool) -> Policy:
        return Keyed(make, key=lambda key: key) if keyed else make(None)

    async def begin(self, fn: Callable[[str], Awaitable[Any]], key: str = "a") -> tuple[Any, Held]:
        return await self.holder.begin(of_loop(), fn, key)

    def states(self, key: str = "a") -> tuple[Any, Any]:
        found = self.bulkhead.snapshot(), self.breaker.snapshot()
        return found if not hasattr(found[0], "states") else tuple(each.states[key] for each in found)

    def in_use(self) -> tuple[int, int]:
        return self.bulkhead.snapshot().in_use, self.breaker.snapshot().in_use


async def answer(key: str) -> str:
    return f"answer to {key}"


keyed_or_not = pytest.mark.parametrize("keyed", [True, False])


@keyed_or_not
async def test_a_success_is_counted_when_it_is_told_and_once(keyed: bool) -> None:
    places = Places(keyed=keyed)
    result, held = await places.begin(answer)
    bulkhead, breaker = places.states()
    assert (result, bulkhead.active, breaker.successes) == ("answer to a", 1, 0)
    held.succeeded()
    held.succeeded()
    held.failed(ConnectionError())
    held.abandoned()
    bulkhead, breaker = places.states()
    assert (bulkhead.active, breaker.successes, breaker.failures) == (0, 1, {})


@keyed_or_not
async def test_a_failure_is_counted_when_it_is_told_and_once(keyed: bool) -> None:
    places = Places(keyed=keyed)
    _, held = await places.begin(answer)
    broken = ConnectionError()
    assert held.failed(broken) is broken
    held.failed(ConnectionError())
    held.succeeded()
    bulkhead, breaker = places.states()
    assert (bulkhead.active, breaker.successes, breaker.failures) == (0, 0, {"ConnectionError": 1})


@keyed_or_not
async def test_what_is_forgotten_ends_neutral(keyed: bool) -> None:
    places = Places(keyed=keyed)
    await places.begin(answer)
    gc.collect()
    bulkhead, breaker = places.states()
    assert (bulkhead.active, breaker.neutral) == (0, 1)


@pytest.mark.parametrize(("seconds", "slow"), [(1, 0.0), (3, 1.0)])
async def test_how_slow_a_call_is_the_result_says_not_what_comes_after_it(
    seconds: float, slow: float
) -> None:
    breaker = CircuitBreaker(slow_rate=0.9, slow_after=2, minimum_calls=2)
    holder = Holder(Pipeline("held", Keyed(lambda key: breaker, key=lambda: "a", overflow=Bulkhead(1))))
    _, held = await holder.begin(of_loop(), lambda: asyncio.sleep(seconds))
    await asyncio.sleep(60)
    held.succeeded()
    assert breaker.snapshot().slow_rate == slow


async def test_the_key_is_in_use_until_the_end_whatever_the_end() -> None:
    places = Places()
    ends: list[Callable[[Held], object]] = [
        lambda held: held.succeeded(),
        lambda held: held.abandoned(),
        lambda held: held.failed(ConnectionError()),
    ]
    for end in ends:
        _, held = await places.begin(answer)
        assert places.in_use() == (1, 1)
        end(held)
        assert places.in_use() == (0, 0)
    with pytest.raises(ConnectionError):
        await places.begin(Dependency(*down(1)))
    assert places.in_use() == (0, 0)
    with pytest.raises(CircuitOpen):
        await places.begin(answer)
    assert places.in_use() == (0, 0)


async def test_who_comes_next_waits_for_the_end_and_may_be_cancelled() -> None:
    places = Places()
    _, held = await places.begin(answer)
    second = asyncio.create_task(places.begin(answer))
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull):
        await places.begin(answer)
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(places.begin(answer))
    await asyncio.sleep(0)
    held.succeeded()
    _, held = await third
    held.succeeded()
    bulkhead, breaker = places.states()
    assert (bulkhead.active, breaker.successes, places.in_use()) == (0, 2, (0, 0))


async def test_a_wait_for_a_place_ends_after_its_time_and_leaves_nothing() -> None:
    places = Places()
    _, held = await places.begin(answer)
    with pytest.raises(BulkheadFull):
        await places.begin(answer)
    held.succeeded()
    assert (places.states()[0].active, places.in_use()) == (0, (0, 0))


async def test_attempts_are_made_until_a_result_is_there_and_each_is_judged() -> None:
    with Recorder() as heard:
        places = Places(Retry(max_attempts=3, jitter="none"))
        dependency = Dependency(HTTPError(503), HTTPError(429))
        _, held = await places.begin(dependency)
        assert dependency.times == [0, 1, 3]
        assert places.states()[0].active == 1
        held.succeeded()
    assert places.states()[1].failures == {"StatusError": 1}
    assert heard.number("retry_success_after_retry_total", "held") == 1
    heard.ended("held", success=1)


async def test_a_circuit_that_opens_ends_the_attempts_with_the_dependencys_error() -> None:
    places = Places(Retry(max_attempts=9, jitter="none"))
    dependency = Dependency(*down(9))
    began = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionError) as caught:
        await places.begin(dependency)
    assert asyncio.get_running_loop().time() - began == 1  # no wait for an attempt that would be refused
    assert caught.value.args == (2,)
    assert len(dependency.times) == 2
    assert places.in_use() == (0, 0)


async def test_cancelling_between_attempts_gives_everything_back() -> None:
    places = Places(Retry(max_attempts=3, jitter="none", multiplier=10))
    waiting = asyncio.create_task(places.begin(Dependency(*down(1))))
    await asyncio.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (places.states()[0].active, places.in_use()) == (0, (0, 0))


async def test_a_timeout_cuts_an_attempt_and_never_what_comes_after_it() -> None:
    bulkhead = Bulkhead(1)
    holder = Holder(Pipeline("held", bulkhead, Retry(max_attempts=2, jitter="none"), Timeout(2)))
    began = asyncio.get_running_loop().time()
    waits = iter([60, 1])

    async def slow() -> None:
        await asyncio.sleep(next(waits))

    _, held = await holder.begin(of_loop(), slow)
    assert asyncio.get_running_loop().time() - began == 2 + 1 + 1
    await asyncio.sleep(60)
    held.succeeded()

    async def hanging() -> None:
        await asyncio.sleep(60)

    with pytest.raises(TimedOut):
        await holder.begin(of_loop(), hanging)
    assert bulkhead.snapshot().active == 0


def test_a_thread_goes_the_same_way() -> None:
    with Recorder() as heard:
        places = Places(Retry(max_attempts=3, multiplier=0.01))
        errors = down(1)

        async def dependency(key: str) -> None:
            if errors:
                raise errors.pop()

        _, held = finish(places.holder.begin(THREAD, dependency, "a"))
        with pytest.raises(BulkheadFull):
            finish(Places(keyed=False).holder.begin(THREAD, _full, "a"))
        held.succeeded()
    heard.ended("held", success=1, neutral=1)
    assert places.in_use() == (0, 0)


async def _full(key: str) -> None:
    raise BulkheadFull("further in")


def test_a_thread_never_waits_for_a_loop() -> None:
    async def waits(key: str) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="must not"):
        finish(Places().holder.begin(THREAD, waits, "a"))


@pytest.mark.parametrize(
    "policy",
    [Cache(ttl=1), Fallback(Value(1)), Hedge(1), Timeout(1)],
    ids=lambda policy: policy.kind,
)
def test_what_acts_in_between_cannot_be_held(policy: Policy) -> None:
    with pytest.raises(ConfigurationError, match=f"'held': a {policy.kind} cannot be held"):
        Holder(Pipeline("held", policy, Bulkhead(1)))
    with pytest.raises(ConfigurationError, match="cannot be held"):
        Holder(Pipeline("held", Keyed(lambda key: Cache(ttl=1), key=lambda key: key)))
