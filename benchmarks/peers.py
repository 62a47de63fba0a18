"""What others would use: libraries that have all four policies, and the four usual parts put together by hand.

The order is bulkhead, retry, breaker, timeout everywhere, outermost first.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

import nopanic
import pybreaker
import pyresilience
import tenacity

from ._stacks import ALL_FOUR, Fn, Guarded, Limits, Stack

__all__ = ["NAIVE", "NOPANIC", "PYRESILIENCE", "STACKS", "TIMEOUT"]


def naive(fn: Fn, limits: Limits) -> Guarded:
    """The libraries and the standard library's parts that ADR-0030 names."""
    places = asyncio.Semaphore(limits.limit)
    breaker = pybreaker.CircuitBreaker(
        fail_max=limits.fail_max, reset_timeout=60, throw_new_error_on_trip=False
    )

    @functools.wraps(fn)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        async with places:
            async for attempt in tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(limits.attempts),
                wait=tenacity.wait_none(),
                retry=tenacity.retry_if_exception_type(ConnectionError),
                reraise=True,
            ):
                with attempt, breaker.calling():
                    async with asyncio.timeout(limits.seconds):
                        return await fn(*args, **kwargs)
        raise AssertionError("the last attempt neither returned nor raised")

    return Guarded(guarded)


def with_nopanic(fn: Fn, limits: Limits) -> Guarded:
    stack = nopanic.compose(
        nopanic.bulkhead(limits.limit),
        nopanic.retry(attempts=limits.attempts, on=ConnectionError, backoff=0.0),
        nopanic.circuit_breaker(failure_threshold=0.9, min_calls=limits.fail_max, reset_timeout=60.0),
        nopanic.timeout(limits.seconds),
    )
    return Guarded(stack(fn))


def with_pyresilience(fn: Fn, limits: Limits) -> Guarded:
    guard = pyresilience.resilient(
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=limits.limit, max_wait=5.0),
        retry=pyresilience.RetryConfig(
            max_attempts=limits.attempts, delay=0.0, jitter=False, retry_on=(ConnectionError,)
        ),
        circuit_breaker=pyresilience.CircuitBreakerConfig(
            failure_threshold=limits.fail_max, recovery_timeout=60.0
        ),
        timeout=pyresilience.TimeoutConfig(seconds=limits.seconds),
    )
    return Guarded(guard(fn))


def timeout_alone(fn: Fn, limits: Limits) -> Guarded:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(limits.seconds):
            return await fn(*args, **kwargs)

    return Guarded(guarded)


NOPANIC: Final = Stack("nopanic, four composed", with_nopanic, ALL_FOUR)
PYRESILIENCE: Final = Stack("pyresilience, four", with_pyresilience, ALL_FOUR)
NAIVE: Final = Stack("naive: pybreaker, tenacity, asyncio.timeout, Semaphore", naive, ALL_FOUR)
TIMEOUT: Final = Stack("asyncio.timeout alone", timeout_alone, frozenset({"cuts"}))
STACKS: Final = (TIMEOUT, NOPANIC, PYRESILIENCE, NAIVE)
