"""Retry: what ends it, what the caller gets in the end, and the key that all attempts carry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Event,
    Kind,
    Pipeline,
    Policy,
    RetriesExhausted,
    Retry,
    Timeout,
    classify,
    registry,
    subscribe,
    timeout,
)
from mcp_server_langgraph.resilience.policy import Call, Proceed
from tests.support.dependency import Dependency, HTTPError, down


def plain(**options: Any) -> Retry:
    return Retry(jitter="none", **options)


# Until when


async def test_no_attempt_is_begun_that_the_deadline_cannot_hold() -> None:
    dependency = Dependency(*down(), lasts=0.5)
    with pytest.raises(ConnectionError, match="2"):
        await Pipeline("svc", Timeout(4), plain(max_attempts=9)).call(dependency)
    assert dependency.times == [0, 1.5]
    assert asyncio.get_running_loop().time() == 2.0, "given up at once, not at the deadline"


async def test_nor_one_that_the_deadline_of_a_block_around_cannot_hold() -> None:
    dependency = Dependency(*down(), lasts=0.5)
    async with timeout(4):
        with pytest.raises(ConnectionError, match="2"):
            await Pipeline("svc", plain(max_attempts=9)).call(dependency)
    assert (dependency.times, asyncio.get_running_loop().time()) == ([0, 1.5], 2.0)


async def test_a_retry_after_beyond_the_deadline_gives_the_error_back_at_once() -> None:
    dependency = Dependency(HTTPError(429, retry_after="30"))
    with pytest.raises(HTTPError):
        await Pipeline("svc", Timeout(30), plain()).call(dependency)
    assert asyncio.get_running_loop().time() == 0


async def test_a_breaker_that_opens_between_attempts_gives_the_dependencys_error_not_ours() -> None:
    breaker = CircuitBreaker("svc", fail_max=2)
    dependency = Dependency(*down())
    with pytest.raises(ConnectionError, match="2") as caught:
        await Pipeline("svc", plain(max_attempts=5), breaker).call(dependency)
    assert (len(dependency.times), breaker.state) == (2, "open")
    assert caught.value.__notes__ == ["resilience: 2 attempts in 1 s (svc)"]  # no wait for a refusal
    with pytest.raises(CircuitOpen):
        await Pipeline("svc", plain(max_attempts=5), breaker).call(dependency)


async def test_a_bulkhead_that_is_full_between_attempts_gives_the_dependencys_error() -> None:
    bulkhead = Bulkhead(1, max_wait=0)
    pipeline = Pipeline("svc", plain(), bulkhead)
    dependency = Dependency(*down())
    other = asyncio.ensure_future(_after(0.5, pipeline, asyncio.sleep, 5))
    with pytest.raises(ConnectionError, match="1"):
        await pipeline.call(dependency)
    await other


async def _after(seconds: float, pipeline: Pipeline, fn: Callable[..., Any], *args: Any) -> None:
    await asyncio.sleep(seconds)
    await pipeline.call(fn, *args)


# What the caller gets


async def test_the_last_error_comes_back_unchanged_with_a_note() -> None:
    cause, last = OSError("socket"), ConnectionError("last")
    last.__cause__ = cause
    with pytest.raises(ConnectionError) as caught:
        await Pipeline("svc", plain()).call(Dependency(*down(2), last))
    assert caught.value is last
    assert last.__cause__ is cause
    assert last.__notes__ == ["resilience: 3 attempts in 3 s (svc)"]


async def test_an_error_object_that_is_raised_again_and_again_carries_one_note() -> None:
    error = ConnectionError()
    error.add_note("the dependency's own")
    outer = Pipeline("outer", plain(multiplier=0))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await Pipeline("svc", plain()).call(Dependency(*[error] * 9))
        with pytest.raises(ConnectionError):
            await outer.call(Dependency(*[error] * 9))
    assert error.__notes__ == [
        "the dependency's own",
        "resilience: 3 attempts in 3 s (svc)",
        "resilience: 3 attempts in 0 s (outer)",
    ]


async def test_an_error_that_takes_no_notes_still_comes_back() -> None:
    @dataclass(frozen=True)
    class FrozenError(Exception):
        status_code: int = 503

    with pytest.raises(FrozenError):
        await Pipeline("svc", plain()).call(Dependency(*[FrozenError()] * 9))


async def test_reraise_false_gives_retries_exhausted_from_the_last_error() -> None:
    errors = down()
    with pytest.raises(RetriesExhausted, match="gave up after 3 attempts in 3 s") as caught:
        await Pipeline("svc", plain(reraise=False)).call(Dependency(*errors))
    assert (caught.value.attempts, caught.value.seconds, caught.value.pipeline) == (3, 3, "svc")
    assert caught.value.__cause__ is errors[2]
    assert not classify(caught.value).retryable, "an outer pipeline does not multiply the attempts"
    with pytest.raises(TypeError):
        await Pipeline("svc", plain(reraise=False)).call(Dependency(TypeError()))


async def test_the_settings_decide_where_code_does_not() -> None:
    registry.reload(
        {
            "RETRY_STOP_AFTER_ATTEMPT": "2",
            "RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "5",
            "RETRY_WAIT_EXPONENTIAL_MAX": "4",
            "RETRY_RERAISE": "false",
        }
    )
    dependency = Dependency(*down())
    with pytest.raises(RetriesExhausted):
        await Pipeline("svc", plain()).call(dependency)
    assert dependency.times == [0, 4]


async def test_counts_and_events_tell_of_every_attempt() -> None:
    told: list[Event] = []
    unsubscribe = subscribe(told.append)
    pipeline = Pipeline("svc", plain())
    await pipeline.call(Dependency())
    await pipeline.call(Dependency(*down(1)))
    with pytest.raises(ConnectionError):
        await pipeline.call(Dependency(*down()))
    with pytest.raises(TypeError):
        await pipeline.call(Dependency(TypeError()))
    unsubscribe()
    numbers = {
        metric.name: metric.samples for metric in registry.metrics() if metric.name.startswith("retry_")
    }
    assert numbers == {
        "retry_attempts_total": {("svc", "1"): 4, ("svc", "2"): 2, ("svc", "3"): 1},
        "retry_budget_balance": {("svc",): 3},
        "retry_budget_refused_total": {("svc",): 0},
        "retry_exhausted_total": {("svc",): 1},
        "retry_success_after_retry_total": {("svc",): 1},
    }
    assert [(event.kind, event.details) for event in told] == [
        ("retry", {"attempt": 1, "took": 0.0, "wait": 1.0, "error": "ConnectionError"}),
        ("retry", {"attempt": 1, "took": 0.0, "wait": 1.0, "error": "ConnectionError"}),
        ("retry", {"attempt": 2, "took": 0.0, "wait": 2.0, "error": "ConnectionError"}),
        ("retry_exhausted", {"attempts": 3, "error": "ConnectionError"}),
    ]


# One key for all attempts


class Between(Policy):
    """A policy in the general form, so that the retry's frame is a step behind it."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        return await proceed(call)


def keyed() -> Retry:
    return plain(kind=Kind.IDEMPOTENT_WRITE, idempotency_key="key")


@pytest.mark.parametrize("around", [[], [Between()], [Bulkhead(5)]], ids=["alone", "as a step", "fused"])
async def test_every_attempt_of_a_write_carries_the_same_key_and_every_call_another(
    around: list[Policy],
) -> None:
    pipeline = Pipeline("svc", *around, keyed())
    first, second = Dependency(*down(2)), Dependency(*down(2))
    await pipeline.call(first)
    await pipeline.call(second)
    assert (len(set(first.keys)), len(set(second.keys)), len(first.keys)) == (1, 1, 3)
    assert None not in first.keys
    assert first.keys != second.keys


@pytest.mark.parametrize("around", [[], [Between()]], ids=["alone", "as a step"])
async def test_the_callers_own_key_is_kept(around: list[Policy]) -> None:
    dependency = Dependency(*down(2))
    await Pipeline("svc", *around, keyed()).call(dependency, key="mine")
    assert dependency.keys == ["mine"] * 3


async def test_a_write_that_is_idempotent_by_nature_gets_no_key() -> None:
    dependency = Dependency(*down(2))
    await Pipeline("svc", plain(kind=Kind.IDEMPOTENT_WRITE)).call(dependency)
    assert dependency.keys == [None] * 3
