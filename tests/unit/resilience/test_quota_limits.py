"""A quota with limits that are given, for providers that tell nothing."""

from __future__ import annotations

import asyncio
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
    RateLimited,
    Usage,
    registry,
)
from mcp_server_langgraph.resilience.outcome import Outcome, Verdict


@pytest.fixture(autouse=True)
def clean(fresh_registry: None) -> None:
    """Names are free in each test."""


def time() -> float:
    return asyncio.get_running_loop().time()


async def ask(tokens: float, used: float | None = None, error: BaseException | None = None) -> Any:
    if error is not None:
        raise error
    return used


def limited(**options: Any) -> Quota:
    return Quota(tokens=lambda tokens, *_: tokens, usage=lambda used: used, **options)


async def test_a_given_limit_holds_from_the_first_call_on() -> None:
    quota = limited(limits={"requests": 2, "tokens": 1000})
    pipeline = Pipeline("llm", quota)
    assert quota.snapshot().left == quota.snapshot().limits == {"requests": 2, "tokens": 1000}
    await pipeline.call(ask, 700)
    await asyncio.sleep(15)
    with pytest.raises(QuotaUsed) as caught:
        await pipeline.call(ask, 700)
    assert caught.value.retry_after == 45
    await pipeline.call(ask, 300)
    await asyncio.sleep(45)
    await pipeline.call(ask, 700)
    with pytest.raises(QuotaUsed):
        await pipeline.call(ask, 0)


async def test_what_a_call_did_not_use_is_there_for_the_next_one() -> None:
    quota = limited(limits={"tokens": 1000})
    pipeline = Pipeline("llm", quota)
    await pipeline.call(ask, 900, 100)
    await pipeline.call(ask, 900, 900)
    assert quota.snapshot().left == {"tokens": 0}


async def test_those_who_may_wait_begin_a_minute_after_what_they_wait_for() -> None:
    quota = Quota(limits={"requests": 2}, max_wait=100)
    pipeline = Pipeline("llm", quota)
    began: list[float] = []

    async def note(after: float) -> None:
        await asyncio.sleep(after)
        await pipeline.call(at)

    async def at() -> None:
        began.append(time())

    start = time()
    await asyncio.gather(*(note(after) for after in (0, 10, 20, 21, 22)))
    assert [moment - start for moment in began] == pytest.approx([0, 10, 60, 70, 120])


async def test_only_what_is_limited_is_told() -> None:
    quota = Quota(limits={"input_tokens": 100}, name="q")
    pipeline = Pipeline("llm", quota)
    quota.reserve(Usage(60, 5000)).keep()
    numbers = {metric.name: metric.samples for metric in registry.metrics()}
    assert numbers["quota_left"] == {("q", "input_tokens"): 40}
    assert numbers["quota_limit"] == {("q", "input_tokens"): 100}
    assert quota.snapshot().limits == {"input_tokens": 100}
    del pipeline  # numbers are told as long as it is there


async def test_what_a_provider_tells_overrules_what_was_given() -> None:
    quota = limited(limits={"requests": 1, "tokens": 100})
    with quota.reserve(100) as first:
        first.observe({"x-ratelimit-limit-tokens": "9000", "x-ratelimit-remaining-tokens": "8000"})
    assert quota.snapshot().limits == {"requests": 1, "tokens": 9000}
    assert quota.snapshot().left == {"requests": 0, "tokens": 8000}


async def test_a_call_that_was_not_made_gives_its_request_back() -> None:
    breaker = CircuitBreaker("inner")
    quota = limited(limits={"requests": 1})
    pipeline = Pipeline("llm", quota, breaker)
    breaker.force_open()
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await pipeline.call(ask, 1)
    assert quota.snapshot().left == {"requests": 1}


class Wrapped(Exception):
    """An SDK's error that keeps what tells how long to wait to itself, and says so only to who knows it."""


async def test_a_wait_that_only_the_classifier_finds_holds_everybody() -> None:
    quota = limited()
    pipeline = Pipeline(
        "llm", quota, classifier=lambda exc: Verdict(Outcome.NEUTRAL, retryable=True, retry_after=9.0)
    )
    with pytest.raises(Wrapped):
        await pipeline.call(ask, 1, None, Wrapped())
    with pytest.raises(QuotaUsed) as caught:
        await pipeline.call(ask, 1)
    assert caught.value.retry_after == 9


async def test_googles_wait_in_the_body_holds_everybody() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13s"}
    error = type("ClientError", (Exception,), {"code": 429, "response": SimpleNamespace(headers={})})()
    error.details = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [info]}}
    pipeline = Pipeline("llm", limited())
    with pytest.raises(type(error)):
        await pipeline.call(ask, 1, None, error)
    with pytest.raises(QuotaUsed) as caught:
        await pipeline.call(ask, 1)
    assert caught.value.retry_after == 13


async def test_what_we_refuse_ourselves_holds_nobody() -> None:
    pipeline = Pipeline("llm", limited())
    for error in (RateLimited("x", 7.0), CircuitOpen("x", 7.0), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await pipeline.call(ask, 1, None, error)
    await pipeline.call(ask, 1)


@pytest.mark.parametrize(
    "limits",
    [{"requests": 0}, {"tokens": -1}, {"tokens": float("inf")}, {"tokens": float("nan")}, {"calls": 1}],
)
def test_limits_that_cannot_be_right_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Quota: limits=.* must be numbers above 0 by some of requests"
    ):
        Quota(limits=limits)
