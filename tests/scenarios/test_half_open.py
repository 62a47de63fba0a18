"""Half-open: exactly the permitted probes reach a dependency that may still be down, whichever way the calls come."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    circuit_breaker,
    registry,
    retry_with_backoff,
    with_bulkhead,
    with_timeout,
)
from mcp_server_langgraph.resilience.policy import Call, Proceed
from mcp_server_langgraph.resilience.testing import settle

Function = Callable[..., Awaitable[Any]]

OPEN_FOR = 10.0


class Dependency:
    """Counts the calls that reach it; each lasts until it is told how to end."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.calls.append(asyncio.get_running_loop().create_future())
        return await self.calls[-1]

    def end(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self.calls[number].set_result("fine")
        else:
            self.calls[number].set_exception(error)


class Between(Policy):
    """A policy in the general form, which splits the fused frame."""

    kind = "between"

    async def run(self, call: Call, proceed: Proceed) -> Any:
        return await proceed(call)


class Told:
    """A listener that wants to know each call: the breaker runs in the general form."""

    def before_call(self, cb: object, func: object, *args: object, **kwargs: object) -> None: ...


def layered(*policies: Policy) -> Callable[[Function], Awaitable[Any]]:
    """The chain of ``run`` methods, without any fusing."""
    pipeline = Pipeline("svc", *policies)

    async def call_it(call: Call) -> Any:
        return await call.fn(*call.args, **call.kwargs)

    proceed: Callable[[Call], Awaitable[Any]] = call_it
    for bound in reversed(pipeline.bound):
        proceed = functools.partial(bound.run, proceed=proceed)
    return lambda fn: proceed(Call(fn, (), {}, pipeline.site))


def adr_stack(breaker: Callable[[Function], Function], fn: Function) -> Function:
    stack = [with_bulkhead(limit=50), with_timeout(seconds=1000), retry_with_backoff(max_attempts=1), breaker]
    for decorator in stack:
        fn = decorator(fn)
    return fn


def pipeline_of(*policies: Policy) -> Callable[[Function], Awaitable[Any]]:
    pipeline = Pipeline("svc", *policies)

    async def call(fn: Function) -> Any:
        return await pipeline.call(fn)

    return call


# How a breaker with some options is put around a function.
FORMS: dict[str, Callable[..., Callable[..., Awaitable[Any]]]] = {
    "fused": lambda b: pipeline_of(b),
    "standard order": lambda b: pipeline_of(Bulkhead(99), Retry(1), b, Timeout(1000)),
    "ADR order": lambda b: pipeline_of(b, Retry(1), Timeout(1000), Bulkhead(99)),
    "between other policies": lambda b: pipeline_of(Between(), Bulkhead(99), b, Between()),
    "with a listener": lambda b: pipeline_of(Bulkhead(99), b),
    "layered": lambda b: layered(Bulkhead(99), Retry(1), b, Timeout(1000)),
    "decorator": lambda options: circuit_breaker(name="svc", **options),
    "ADR's stack": lambda options: functools.partial(adr_stack, circuit_breaker(name="svc", **options)),
}


class Service:
    """A guarded dependency whose breaker has been open for its whole time."""

    def __init__(self, form: str, **options: int) -> None:
        self.dependency = Dependency()
        settings: dict[str, Any] = {"fail_max": 1, "timeout": OPEN_FOR, "backoff": 1, **options}
        if form in ("decorator", "ADR's stack"):
            self.guarded = FORMS[form](settings)(self.dependency)
            self.breaker = registry.breakers()["svc"]
        else:
            self.breaker = CircuitBreaker("svc", **settings, listeners=[Told()] * (form == "with a listener"))
            self.guarded = functools.partial(FORMS[form](self.breaker), self.dependency)

    @property
    def reached(self) -> int:
        return len(self.dependency.calls)

    async def call(self, count: int = 1) -> list[asyncio.Future[Any]]:
        """Begin calls, up to the point where each has reached the dependency or has been refused."""
        tasks = [asyncio.ensure_future(self.guarded()) for _ in range(count)]
        for task in tasks:
            task.add_done_callback(_retrieved)
        await settle()
        return tasks

    async def trip(self) -> None:
        (call,) = await self.call()
        self.dependency.end(-1, ConnectionError())
        with pytest.raises(ConnectionError):
            await call
        assert self.breaker.state == "open"
        await asyncio.sleep(OPEN_FOR)
        self.dependency.calls.clear()


def _retrieved(task: asyncio.Future[Any]) -> None:
    """Not every test asks every call how it ended."""
    if not task.cancelled():
        task.exception()


def refused(calls: list[asyncio.Future[Any]]) -> int:
    return sum(call.done() and isinstance(call.exception(), CircuitOpen) for call in calls)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_of_50_calls_one_reaches_the_function_and_49_fail_at_once(form: str) -> None:
    service = Service(form)
    await service.trip()
    calls = await service.call(50)
    assert (service.reached, refused(calls), service.breaker.state) == (1, 49, "half_open")
    service.dependency.end(0)
    await settle()
    assert (sum(not call.exception() for call in calls), service.breaker.state) == (1, "closed")
    later = await service.call(50)
    assert (service.reached, refused(later)) == (51, 0)
    for number in range(1, 51):
        service.dependency.end(number)
    await asyncio.gather(*later)


async def test_a_failed_probe_opens_the_breaker_at_once_for_its_whole_time(form: str) -> None:
    service = Service(form)
    await service.trip()
    calls = await service.call(50)
    service.dependency.end(0, ConnectionError())
    await settle()
    assert (service.breaker.state, service.reached) == ("open", 1)
    assert sum(isinstance(call.exception(), ConnectionError) for call in calls) == 1
    await asyncio.sleep(OPEN_FOR - 0.001)
    assert refused(await service.call(5)) == 5
    await asyncio.sleep(0.001)
    probe, *others = await service.call(5)
    assert (service.reached, refused(others)) == (2, 4)
    service.dependency.end(1)
    await probe


async def test_a_cancelled_probe_gives_its_place_back_and_stays_cancelled(form: str) -> None:
    service = Service(form)
    await service.trip()
    (probe,) = await service.call()
    assert refused(await service.call()) == 1
    assert probe.cancel()
    await settle()
    assert probe.cancelled()
    assert (service.breaker.state, service.breaker.snapshot().probes) == ("half_open", 0)
    (second,) = await service.call()
    assert service.reached == 2
    service.dependency.end(1)
    await second
    assert service.breaker.state == "closed"


async def test_a_probe_closed_from_outside_gives_its_place_back(form: str) -> None:
    service = Service(form)
    await service.trip()

    async def whole() -> None:
        await service.guarded()

    probe = whole()
    task = asyncio.ensure_future(_drive(probe))
    await settle()
    assert service.breaker.snapshot().probes == 1
    await task
    assert (service.breaker.state, service.breaker.snapshot().probes) == ("half_open", 0)


async def _drive(coroutine: Any) -> None:
    coroutine.send(None)
    await asyncio.sleep(1)
    coroutine.close()


async def test_a_timeout_of_the_caller_around_a_probe_gives_its_place_back(form: str) -> None:
    service = Service(form)
    await service.trip()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await service.guarded()
    assert (service.breaker.state, service.breaker.snapshot().probes) == ("half_open", 0)


async def test_a_hung_probe_loses_its_place_when_its_lease_runs_out(form: str) -> None:
    service = Service(form, lease=20)
    await service.trip()
    (hung,) = await service.call()
    await asyncio.sleep(19.999)
    assert refused(await service.call()) == 1
    await asyncio.sleep(0.001)
    (second,) = await service.call()
    assert service.reached == 2
    service.dependency.end(1)
    assert await second == "fine"
    service.dependency.end(0, ConnectionError())
    with pytest.raises(ConnectionError):
        await hung
    assert service.breaker.state == "closed", "what the hung probe found out is of no interest any more"


@pytest.mark.parametrize("error", [None, ConnectionError()])
@pytest.mark.parametrize("when", ["open", "half_open", "closed"])
async def test_a_stale_result_changes_nothing(form: str, error: Exception | None, when: str) -> None:
    service = Service(form, half_open_max=2)
    (stale,) = await service.call()
    (failing,) = await service.call()
    service.dependency.end(1, ConnectionError())
    with pytest.raises(ConnectionError):
        await failing
    if when != "open":
        await asyncio.sleep(OPEN_FOR)
        (probe,) = await service.call()
        if when == "closed":
            service.dependency.end(2)
            await probe
    before = service.breaker.snapshot()
    service.dependency.end(0, error)
    await asyncio.wait([stale])
    after = service.breaker.snapshot()
    assert after.state == before.state == when
    assert (after.consecutive_failures, after.probes, after.opened_at) == (
        before.consecutive_failures,
        before.probes,
        before.opened_at,
    )
    assert isinstance(stale.exception(), ConnectionError) == (error is not None)
    if when == "half_open":
        probe.cancel()


async def test_three_probes_at_a_time_and_two_successes_to_close(form: str) -> None:
    service = Service(form, half_open_max=3, success_threshold=2)
    await service.trip()
    calls = await service.call(50)
    assert (service.reached, refused(calls)) == (3, 47)
    service.dependency.end(0)
    await settle()
    assert service.breaker.state == "half_open"
    assert refused(await service.call(2)) == 1, "one place has come back"
    service.dependency.end(1)
    await settle()
    assert service.breaker.state == "closed"
    service.dependency.end(2, ConnectionError())
    service.dependency.end(3, ConnectionError())
    await settle()
    assert service.breaker.state == "closed", "late probes of a period that is over"


async def test_a_good_probe_beside_a_failed_one_does_not_close(form: str) -> None:
    service = Service(form, half_open_max=2)
    await service.trip()
    await service.call(2)
    service.dependency.end(0, ConnectionError())
    service.dependency.end(1)
    await settle()
    assert service.breaker.state == "open"


async def test_permits_of_an_earlier_half_open_period_do_not_count_in_the_next(form: str) -> None:
    service = Service(form, half_open_max=3, success_threshold=2)
    await service.trip()
    await service.call(3)
    service.dependency.end(0, ConnectionError())
    await settle()
    assert service.breaker.state == "open"
    await asyncio.sleep(OPEN_FOR)
    calls = await service.call(5)
    assert refused(calls) == 2, "three places, whoever still hangs from the period before"
    service.dependency.end(1)
    service.dependency.end(2)
    await settle()
    assert service.breaker.state == "half_open", "two successes, but of the period before"
    service.dependency.end(3)
    service.dependency.end(4)
    await settle()
    assert service.breaker.state == "closed"
    service.dependency.end(5)
    await settle()


async def test_cancellation_is_never_counted_and_never_swallowed(form: str) -> None:
    service = Service(form)
    calls = await service.call(20)
    assert all(call.cancel() for call in calls)
    await settle()
    assert all(call.cancelled() for call in calls)
    snapshot = service.breaker.snapshot()
    assert (snapshot.state, snapshot.failures, snapshot.neutral) == ("closed", {}, 20)


async def test_a_stream_is_a_probe_until_it_ends() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=OPEN_FOR)
    pipeline = Pipeline("svc", Retry(1), breaker)

    async def numbers(fail: bool = False) -> AsyncGenerator[int, None]:
        if fail:
            raise ConnectionError
        yield 1
        yield 2

    with pytest.raises(ConnectionError):
        await anext(pipeline.stream(numbers, True))
    await asyncio.sleep(OPEN_FOR)
    left_early = pipeline.stream(numbers)
    assert await anext(left_early) == 1
    with pytest.raises(CircuitOpen):
        await anext(pipeline.stream(numbers))
    await left_early.aclose()
    assert (breaker.state, breaker.snapshot().probes) == ("half_open", 0)
    assert [number async for number in pipeline.stream(numbers)] == [1, 2]
    assert breaker.state == "closed"
