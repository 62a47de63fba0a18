"""The quota in a pipeline: what it learns from, whom it refuses, and who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Pipeline,
    Quota,
    QuotaUsed,
    Retry,
    Timeout,
    Usage,
    registry,
)
from mcp_server_langgraph.resilience.testing import settle


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def time() -> float:
    return asyncio.get_running_loop().time()


def told(remaining: float, limit: float = 1000, reset: str = "1m0s", of: str = "tokens") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{of}": str(limit),
        f"x-ratelimit-remaining-{of}": str(remaining),
        f"x-ratelimit-reset-{of}": reset,
    }


class Refused(Exception):
    """A provider's 429."""

    def __init__(self, headers: dict[str, str], code: str | None = None) -> None:
        self.status_code = 429
        self.code = code
        self.response = SimpleNamespace(headers=headers)


Answer = dict[str, Any]


def following(**options: Any) -> Quota:
    return Quota(
        tokens=lambda tokens, answer: tokens,
        usage=lambda answer: answer.get("used"),
        headers=lambda answer: answer.get("headers"),
        **options,
    )


async def ask(tokens: float, answer: Answer | Exception) -> Answer:
    if isinstance(answer, Exception):
        raise answer
    return answer


def left(quota: Quota, of: str = "tokens") -> float:
    return quota.snapshot().left[of]


async def test_as_long_as_nobody_spoke_everything_passes() -> None:
    quota = following()
    pipeline = Pipeline("llm", quota)
    await asyncio.gather(*(pipeline.call(ask, 1e9, {}) for _ in range(100)))
    assert (quota.snapshot().left, quota.snapshot().rejected) == ({}, 0)


async def test_an_answer_s_headers_limit_the_next_call() -> None:
    quota = following()
    pipeline = Pipeline("llm", quota)
    await pipeline.call(ask, 100, {"headers": told(400)})
    await pipeline.call(ask, 300, {})
    with pytest.raises(QuotaUsed) as caught:
        await pipeline.call(ask, 300, {})
    assert caught.value.retry_after == pytest.approx(20)
    assert str(caught.value) == "quota of 'llm' is used up; retry after 20 s"
    await asyncio.sleep(20)
    await pipeline.call(ask, 300, {})


async def test_what_a_call_used_is_settled_where_its_answer_did_not_say_what_is_left() -> None:
    quota = following()
    pipeline = Pipeline("llm", quota)
    quota.observe(told(1000))
    await pipeline.call(ask, 800, {"used": 100})
    assert left(quota) == 900
    await pipeline.call(ask, 100, {"used": Usage(300, 200)})
    assert left(quota) == 400


async def test_an_answer_that_says_what_is_left_is_not_corrected_by_our_guess() -> None:
    quota = following()
    await Pipeline("llm", quota).call(ask, 800, {"used": 100, "headers": told(250)})
    assert left(quota) == 250


async def test_calls_that_began_later_are_taken_off_what_an_answer_says() -> None:
    quota = following()
    first, second = quota.reserve(100), quota.reserve(300)
    first.observe(told(900))
    assert left(quota) == 600
    first.keep()
    second.observe(told(650))
    assert left(quota) == 650
    second.keep()


async def test_a_late_answer_to_an_older_call_changes_nothing() -> None:
    quota = following()
    old, new = quota.reserve(100), quota.reserve(100)
    new.observe(told(200))
    old.observe(told(900))
    assert left(quota) == 200
    old.keep()
    new.keep()


async def test_an_error_s_headers_count_too_and_its_retry_after_holds_everybody() -> None:
    quota = following()
    pipeline = Pipeline("llm", quota)
    with pytest.raises(Refused):
        await pipeline.call(ask, 100, Refused({**told(900), "retry-after": "7"}))
    assert left(quota) == 900
    with pytest.raises(QuotaUsed) as caught:
        await pipeline.call(ask, 1, {})
    assert caught.value.retry_after == pytest.approx(7)


async def test_a_used_up_account_holds_nobody() -> None:
    pipeline = Pipeline("llm", following())
    with pytest.raises(Refused):
        await pipeline.call(ask, 100, Refused({"retry-after": "7"}, "insufficient_quota"))
    await pipeline.call(ask, 1, {})


async def test_those_who_may_wait_come_in_order_as_tokens_come_in() -> None:
    quota = following(max_wait=100)
    pipeline = Pipeline("llm", quota)
    quota.observe(told(0, reset="100s"))
    began = time()

    async def at(tokens: float, answer: Answer) -> float:
        return time() - began

    ends = await asyncio.gather(*(pipeline.call(at, tokens, {}) for tokens in (100, 300, 50)))
    assert ends == pytest.approx([10, 40, 45])


async def test_an_answer_with_more_than_was_thought_lets_the_line_in_at_once() -> None:
    quota = following(max_wait=100)
    pipeline = Pipeline("llm", quota)
    quota.observe(told(0))
    waiting = asyncio.ensure_future(pipeline.call(ask, 500, {}))
    await settle()
    assert quota.snapshot().waiting == 1
    quota.observe(told(600))
    await settle()
    assert waiting.done()
    await waiting


async def test_a_cancelled_wait_takes_nothing() -> None:
    quota = following(max_wait=100)
    quota.observe(told(0))
    waiting = asyncio.ensure_future(Pipeline("llm", quota).call(ask, 500, {}))
    await settle()
    waiting.cancel()
    await settle()
    assert (left(quota), quota.snapshot().waiting, quota.machine._under_way) == (0, 0, {})


async def test_a_deadline_that_ends_before_its_turn_is_refused_at_once() -> None:
    quota = following(max_wait=100)
    pipeline = Pipeline("llm", Timeout(5), quota)
    quota.observe(told(0))
    began = time()
    with pytest.raises(QuotaUsed):
        await pipeline.call(ask, 500, {})
    assert time() == began


async def test_a_retry_does_not_wait_for_a_refusal() -> None:
    quota = following()
    pipeline = Pipeline("llm", Retry(max_attempts=3, jitter="none"), quota)
    began = time()
    with pytest.raises(Refused):
        await pipeline.call(ask, 1, Refused(told(0, limit=10, reset="50s", of="requests")))
    assert time() == began


async def test_a_call_that_was_not_begun_gives_everything_back() -> None:
    quota, breaker = following(), CircuitBreaker("down")
    quota.observe(told(1000))
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        await Pipeline("llm", quota, breaker).call(ask, 500, {})
    assert (left(quota), quota.machine._under_way) == (1000, {})


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
async def test_a_call_that_broke_keeps_its_estimate(error: BaseException) -> None:
    async def broken(tokens: float, answer: Answer) -> None:
        raise error

    quota = following()
    quota.observe(told(1000))
    with pytest.raises(type(error)):
        await Pipeline("llm", quota).call(broken, 400, {})
    assert (left(quota), quota.machine._under_way) == (600, {})


async def test_a_stream_is_heard_item_by_item_and_settled_at_its_end() -> None:
    async def words(tokens: float, answer: Answer) -> AsyncGenerator[Answer, None]:
        yield {}
        yield {"used": 10}
        yield {"used": 150}

    quota = following()
    quota.observe(told(1000))
    assert len([item async for item in Pipeline("llm", quota).stream(words, 400, {})]) == 3
    assert left(quota) == 850


async def test_what_is_sent_and_what_is_got_may_be_limited_apart() -> None:
    quota = Quota()
    quota.observe(
        {
            "anthropic-ratelimit-input-tokens-limit": "1000",
            "anthropic-ratelimit-input-tokens-remaining": "1000",
            "anthropic-ratelimit-output-tokens-limit": "200",
            "anthropic-ratelimit-output-tokens-remaining": "200",
        }
    )
    quota.reserve(Usage(600, 150)).keep()
    assert quota.snapshot().left == {"input_tokens": 400, "output_tokens": 50}
    with pytest.raises(QuotaUsed):
        quota.reserve(Usage(1, 100))
    quota.reserve(300).keep()
    assert quota.snapshot().left == {"input_tokens": 100, "output_tokens": 50}


async def test_plain_functions_follow_it_too() -> None:
    def plain(tokens: float, answer: Answer) -> Answer:
        return answer

    quota = following()
    Pipeline("llm", quota).call_sync(plain, 10, {"headers": told(500)})
    assert left(quota) == 500


async def test_numbers_are_told() -> None:
    quota = following()
    pipeline = Pipeline("llm", quota)
    quota.observe(told(100))
    with pytest.raises(QuotaUsed):
        await pipeline.call(ask, 500, {})
    metrics = {each.name: dict(each.samples) for each in registry.metrics()}
    assert metrics["quota_left"] == {("llm", "tokens"): 100}
    assert metrics["quota_limit"] == {("llm", "tokens"): 1000}
    assert metrics["quota_rejected_total"] == {("llm",): 1}
    assert metrics["quota_queue_depth"] == {("llm",): 0}


async def test_settings_change_and_what_was_said_stays() -> None:
    quota = following()
    pipeline = Pipeline("llm", quota)
    quota.observe(told(0, reset="100s"))
    registry.reload({"LLM_QUOTA_MAX_WAIT": "60"})
    began = time()
    await pipeline.call(ask, 500, {})
    assert time() - began == pytest.approx(50)


async def test_a_reservation_is_kept_cancelled_or_settled_once() -> None:
    quota = Quota()
    quota.observe(told(1000))
    with quota.reserve(100):
        pass
    with pytest.raises(CircuitOpen), quota.reserve(100):
        raise CircuitOpen("inner")
    (await quota.acquire(100)).settle(50)
    ended = await quota.acquire(100)
    ended.settle(10)
    ended.cancel()
    quota.reserve(100)
    assert left(quota) == 1000 - 100 - 50 - 10 - 100
    assert quota.machine._under_way == {}


@pytest.mark.parametrize(
    "options", [{"tokens": 3}, {"usage": 3}, {"headers": 3}, {"max_wait": -1}, {"max_queue": -1}]
)
def test_arguments_that_cannot_be_right_are_refused_by_name(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"Quota: {name}={value} must be"):
        Quota(**options)


def test_amounts_that_are_none_are_refused() -> None:
    for tokens in (-1, float("nan"), Usage(1, -1)):
        with pytest.raises(ConfigurationError):
            Quota().reserve(tokens)


def test_a_thread_may_wait_too() -> None:
    quota = Quota(max_wait=5)
    quota.observe(told(0, reset="1s"))
    quota.acquire_sync(50).settle(20)
    assert 0 <= left(quota) <= 100
