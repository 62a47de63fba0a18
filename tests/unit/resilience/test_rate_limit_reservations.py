"""Reserve an estimate, settle what was used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Event,
    Pipeline,
    RateLimit,
    RateLimited,
    subscribe,
)
from mcp_server_langgraph.resilience.testing import settle


def left(limit: RateLimit) -> float:
    return limit.snapshot().left


async def test_what_was_not_used_comes_back_and_the_line_has_it_at_once() -> None:
    limit = RateLimit(100, per=100, max_wait=1000)
    reservation = limit.reserve(100)
    waiting = asyncio.ensure_future(limit.acquire(60))
    await settle()
    assert not waiting.done()
    reservation.settle(40)
    await settle()
    assert waiting.done()
    assert left(limit) == pytest.approx(0)
    (await waiting).keep()


async def test_what_was_used_beyond_the_estimate_is_a_debt_that_delays_the_next() -> None:
    limit = RateLimit(10, per=10, max_wait=100)
    limit.reserve(10).settle(25)
    assert left(limit) == -15
    began = asyncio.get_running_loop().time()
    (await limit.acquire(1)).keep()
    assert asyncio.get_running_loop().time() - began == pytest.approx(16)


async def test_the_first_ending_of_a_reservation_counts() -> None:
    limit = RateLimit(10, per=10)
    reservation = limit.reserve(6)
    reservation.settle(2)
    reservation.cancel()
    reservation.settle(9)
    assert left(limit) == 8


async def test_a_cancelled_reservation_leaves_no_trace() -> None:
    limit = RateLimit(10, per=10)
    limit.reserve(6).cancel()
    assert left(limit) == 10


async def test_as_a_context_manager_it_is_kept_or_cancelled_where_nothing_was_begun() -> None:
    limit = RateLimit(10, per=10)
    with limit.reserve(3) as kept:
        assert kept.weight == 3
    assert left(limit) == 7
    with pytest.raises(ValueError, match="made"), limit.reserve(3):
        raise ValueError("made")
    assert left(limit) == 4
    with pytest.raises(CircuitOpen), limit.reserve(3):
        raise CircuitOpen("inner")
    assert left(limit) == 4


async def test_a_reservation_never_waits_and_an_acquisition_may() -> None:
    limit = RateLimit(1, max_wait=5)
    limit.reserve().keep()
    with pytest.raises(RateLimited):
        limit.reserve()
    (await limit.acquire()).keep()


async def test_a_reservation_that_nobody_ends_is_kept() -> None:
    limit = RateLimit(10, per=10)
    reservation = limit.reserve(3)
    del reservation
    assert left(limit) == 7
    assert limit.bucket._opened == 0


async def test_refused_and_cancelled_acquisitions_leave_no_reservation_open() -> None:
    limit = RateLimit(1, max_wait=1.5)
    limit.reserve().keep()
    waiting = asyncio.ensure_future(limit.acquire())
    await settle()
    with pytest.raises(RateLimited):
        await limit.acquire()
    waiting.cancel()
    await settle()
    assert (limit.bucket._opened, limit.snapshot().waiting) == (0, 0)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
async def test_amounts_that_are_none_are_refused(amount: float) -> None:
    limit = RateLimit(10)
    for ask in (limit.reserve, limit.reserve(1).settle, limit.acquire_sync):
        with pytest.raises(ConfigurationError):
            ask(amount)
    with pytest.raises(ConfigurationError):
        await limit.acquire(amount)
    assert limit.bucket._opened == 0


# In a pipeline


def metered(limit: RateLimit, *more: Any) -> Pipeline:
    return Pipeline("llm", limit, *more)


def by_tokens(**options: Any) -> RateLimit:
    return RateLimit(
        1000, per=60, weight=lambda prompt, most: most, settle=lambda answer: answer.get("used"), **options
    )


async def answer(prompt: str, most: int) -> dict[str, int]:
    return {"used": len(prompt)}


async def test_a_call_takes_what_its_arguments_say_and_settles_what_its_result_says() -> None:
    limit = by_tokens()
    await metered(limit).call(answer, "hello", 400)
    assert left(limit) == 995


def test_a_plain_function_does_too() -> None:
    def plain(prompt: str, most: int) -> dict[str, int]:
        return {"used": len(prompt)}

    limit = by_tokens()
    metered(limit).call_sync(plain, "hello", 400)
    assert left(limit) == pytest.approx(995, abs=0.1)


async def test_a_stream_settles_at_its_end_what_its_last_word_on_it_said() -> None:
    async def words(prompt: str, most: int) -> AsyncGenerator[dict[str, int], None]:
        yield {}
        yield {"used": 5}
        assert left(limit) == 600
        yield {"used": 50}
        yield {}

    limit = by_tokens()
    assert len([item async for item in metered(limit).stream(words, "hello", 400)]) == 4
    assert left(limit) == 950


async def test_a_stream_that_its_consumer_leaves_settles_what_it_knows() -> None:
    async def words(prompt: str, most: int) -> AsyncGenerator[dict[str, int], None]:
        yield {"used": 30}
        yield {"used": 60}

    limit = by_tokens()
    stream = metered(limit).stream(words, "hello", 400)
    await anext(stream)
    await stream.aclose()
    assert left(limit) == 970


async def test_a_stream_that_breaks_without_a_word_keeps_the_estimate() -> None:
    async def words(prompt: str, most: int) -> AsyncGenerator[dict[str, int], None]:
        yield {}
        raise ConnectionError

    limit = by_tokens()
    with pytest.raises(Exception, match="llm"):
        async for _ in metered(limit).stream(words, "hello", 400):
            pass
    assert left(limit) == 600
    assert limit.bucket._opened == 0


async def test_a_stream_passes_on_what_its_consumer_sends_and_throws() -> None:
    heard: list[object] = []

    async def words(prompt: str, most: int) -> AsyncGenerator[dict[str, int], object]:
        heard.append((yield {}))
        try:
            yield {}
        except KeyError as thrown:
            heard.append(type(thrown))
            yield {"used": 7}

    limit = by_tokens()
    stream = metered(limit).stream(words, "hello", 400)
    await anext(stream)
    await stream.asend("x")
    await stream.athrow(KeyError())
    assert [item async for item in stream] == []
    assert heard == ["x", KeyError]
    assert left(limit) == 993


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
async def test_a_call_that_broke_keeps_the_estimate(error: BaseException) -> None:
    async def broken(prompt: str, most: int) -> None:
        raise error

    limit = by_tokens()
    with pytest.raises(type(error)):
        await metered(limit).call(broken, "hello", 400)
    assert (left(limit), limit.bucket._opened) == (600, 0)


async def test_a_call_that_was_not_begun_gives_everything_back() -> None:
    limit, breaker = by_tokens(), CircuitBreaker("down")
    pipeline = metered(limit, breaker)
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        await pipeline.call(answer, "hello", 400)
    assert (left(limit), limit.bucket._opened) == (1000, 0)


async def test_a_result_that_cannot_be_read_is_given_all_the_same_and_the_estimate_kept() -> None:
    async def text(prompt: str, most: int) -> str:
        return prompt

    told: list[Event] = []
    limit = by_tokens()
    stop = subscribe(told.append)
    assert await metered(limit).call(text, "hello", 400) == "hello"  # type: ignore[comparison-overlap]
    stop()
    assert left(limit) == 600
    assert [(event.kind, event.details["error"]) for event in told] == [("warning", "AttributeError")]


async def test_a_call_refused_for_its_weight_says_when_there_will_be_room() -> None:
    pipeline = metered(by_tokens())
    with pytest.raises(RateLimited) as caught:
        await asyncio.gather(pipeline.call(long_answer, "a", 900), pipeline.call(long_answer, "b", 200))
    assert caught.value.retry_after == pytest.approx(6)


async def long_answer(prompt: str, most: int) -> dict[str, int]:
    return {"used": most}
