"""Chaos: what it does to a call and to a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Call,
    Chaos,
    CircuitBreaker,
    Event,
    Pipeline,
    Retry,
    Settings,
    TimedOut,
    Timeout,
    config,
    registry,
    subscribe,
)

ON = {"CHAOS_ENABLED": "true"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    config.install(Settings(ON))
    yield
    registry.reset()


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []

    def listen(event: Event) -> None:
        if event.kind == "chaos":
            events.append(event.details)

    unsubscribe = subscribe(listen)
    yield events
    unsubscribe()


def every(**options: Any) -> Chaos:
    return Chaos(rate=1, enabled=True, **options)


async def fine() -> str:
    return "fine"


def metric(name: str) -> dict[tuple[str, ...], Any]:
    return next(each.samples for each in registry.metrics() if each.name == name)


# What it does


@pytest.mark.parametrize("fault", [ConnectionError("x"), ConnectionError, lambda: ConnectionError("made")])
async def test_a_fault_is_raised_instead_of_the_call_and_says_so(fault: Any) -> None:
    pipeline = Pipeline("s", every(fault=fault))
    for _ in range(2):
        with pytest.raises(ConnectionError) as raised:
            await pipeline.call(fine)
        assert raised.value.__notes__ == ["resilience: injected by chaos of 's'"]


async def test_latency_is_added_to_the_call() -> None:
    loop = asyncio.get_running_loop()
    assert await Pipeline("s", every(latency=3)).call(fine) == "fine"
    assert loop.time() == 3
    pair = Pipeline("s", every(latency=(1, 2), seed=1))
    drawn = Pipeline("s", every(latency=lambda chance: chance.choice([-5.0, 0.5]), seed=1))
    lengths: list[float] = []
    for pipeline in [pair] * 20 + [drawn] * 20:
        began = loop.time()
        await pipeline.call(fine)
        lengths.append(loop.time() - began)
    assert all(1 <= length <= 2 for length in lengths[:20])
    assert len(set(lengths[:20])) > 10
    assert {round(length, 6) for length in lengths[20:]} == {0.0, 0.5}


async def test_an_outcome_is_given_instead_of_the_call_and_judged_like_one() -> None:
    assert await Pipeline("s", every(outcome=None)).call(fine) is None
    breaker = CircuitBreaker("s", fail_max=1)
    judged = Pipeline("s", breaker, every(outcome="bad"), is_failure=lambda text: text == "bad")
    assert await judged.call(fine) == "bad"
    assert breaker.state == "open"


async def test_a_behaviour_is_given_the_call_whether_it_waits_or_not() -> None:
    seen: list[tuple[Any, ...]] = []

    def plain(call: Call) -> None:
        seen.append((*call.args, call.attempt))

    async def waiting(call: Call) -> None:
        await asyncio.sleep(1)
        plain(call)

    async def echo(text: str) -> str:
        return text

    for behaviour in (plain, waiting):
        assert await Pipeline("s", every(behaviour=behaviour)).call(echo, "text") == "text"
    assert seen == [("text", 1), ("text", 1)]
    assert asyncio.get_running_loop().time() == 1


async def test_all_of_them_come_in_order() -> None:
    steps: list[float] = []
    chaos = every(behaviour=lambda call: steps.append(0.0), latency=2, fault=ConnectionError)
    with pytest.raises(ConnectionError):
        await Pipeline("s", chaos).call(fine)
    assert (steps, asyncio.get_running_loop().time()) == ([0.0], 2.0)
    assert chaos.snapshot().injected == {"behaviour": 1, "latency": 1, "fault": 1, "outcome": 0}


async def test_what_stands_around_it_deals_with_it_as_with_the_real_thing() -> None:
    late = Pipeline("s", Timeout(1), every(latency=60))
    with pytest.raises(TimedOut):
        await late.call(fine)
    flaky = Pipeline(
        "s", Retry(max_attempts=20), Chaos(fault=ConnectionError, rate=0.5, seed=3, enabled=True)
    )
    assert await flaky.call(fine) == "fine"


def test_plain_functions_are_struck_too() -> None:
    def plain() -> str:
        return "fine"

    seen: list[Call] = []
    assert Pipeline("s", every(outcome="other")).call_sync(plain) == "other"
    assert Pipeline("s", every(behaviour=seen.append, latency=0.001)).call_sync(plain) == "fine"
    assert len(seen) == 1
    assert Pipeline("s", every(latency=lambda chance: -1.0)).call_sync(plain) == "fine"
    with pytest.raises(ConnectionError):
        Pipeline("s", every(fault=ConnectionError)).call_sync(plain)
    assert Pipeline("s", Chaos(fault=ConnectionError, rate=0, enabled=True)).call_sync(plain) == "fine"


def test_a_behaviour_that_waits_cannot_strike_a_plain_function() -> None:
    async def waiting(call: Call) -> None: ...

    with pytest.raises(TypeError, match="its behaviour is asynchronous"):
        Pipeline("s", every(behaviour=waiting)).call_sync(lambda: "fine")
    with pytest.raises(TypeError, match="awaitable"):
        Pipeline("s", every(behaviour=lambda call: waiting(call))).call_sync(lambda: "fine")


# Streams


async def numbers(count: int = 4) -> AsyncGenerator[int, Any]:
    for number in range(count):
        yield number


async def read(pipeline: Pipeline) -> tuple[list[int], str]:
    items: list[int] = []
    try:
        async for item in pipeline.stream(numbers):
            items.append(item)  # noqa: PERF401 (what came before the error counts)
    except Exception as exc:
        return items, type(exc.__cause__ or exc).__name__
    return items, "ended"


@pytest.mark.parametrize(
    ("after", "expected"),
    [(0, ([], "ConnectionError")), (2, ([0, 1], "ConnectionError")), (9, ([0, 1, 2, 3], "ended"))],
)
async def test_a_stream_breaks_after_so_many_items(after: int, expected: tuple[list[int], str]) -> None:
    chaos = every(fault=ConnectionError, after_items=after)
    assert await read(Pipeline("s", chaos)) == expected
    assert chaos.snapshot().injected["fault"] == (1 if expected[1] != "ended" else 0)


async def test_a_stream_may_be_late_or_replaced_or_left_alone() -> None:
    assert await read(Pipeline("s", every(latency=5))) == ([0, 1, 2, 3], "ended")
    assert asyncio.get_running_loop().time() == 5
    assert await read(Pipeline("s", every(outcome=7))) == ([7], "ended")
    assert await read(Pipeline("s", Chaos(fault=ConnectionError, rate=0, enabled=True))) == (
        [0, 1, 2, 3],
        "ended",
    )


async def test_what_a_consumer_sends_and_throws_reaches_a_struck_stream() -> None:
    got: list[Any] = []

    async def echo() -> AsyncGenerator[str, str]:
        said = "begin"
        while said != "end":
            try:
                said = yield said
            except LookupError:
                said = "caught"
            got.append(said)

    stream = Pipeline("s", every(latency=1)).stream(echo)
    assert await anext(stream) == "begin"
    assert await stream.asend("one") == "one"
    assert await stream.athrow(LookupError()) == "caught"
    with pytest.raises(StopAsyncIteration):
        await stream.asend("end")
    assert got == ["one", "caught", "end"]
