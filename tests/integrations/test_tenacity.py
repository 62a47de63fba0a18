"""The drop-in for tenacity: where it goes another way than tenacity, and that it builds nothing on the success path."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any
from unittest import mock

import pytest
import tenacity as t

from mcp_server_langgraph.resilience import Budget, Pipeline, Retry, stacking, timeout
from mcp_server_langgraph.resilience.integrations import _tenacity_loop
from mcp_server_langgraph.resilience.integrations import tenacity as dropin
from mcp_server_langgraph.resilience.integrations.tenacity import AsyncRetrying, install, retry

ANY = t.retry_if_exception(lambda exc: True)
LEAVING = [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit]


class Down:
    """A dependency that fails so many times."""

    def __init__(self, failures: int = 10**6, error: type[BaseException] = ConnectionError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("down")
        return "up"


# Leaving


@pytest.mark.parametrize("error", LEAVING)
async def test_what_is_no_exception_ends_the_call_and_no_predicate_is_asked(
    error: type[BaseException],
) -> None:
    asked = mock.Mock(return_value=True)
    down = Down(error=error)
    with pytest.raises(error):
        await AsyncRetrying(retry=asked, stop=t.stop_after_attempt(3))(down)
    assert (down.calls, asked.call_count) == (1, 0)


@pytest.mark.parametrize("error", LEAVING)
async def test_neither_does_it_in_a_loop_of_attempts(error: type[BaseException]) -> None:
    attempts: list[int] = []
    with pytest.raises(error):
        await _in_a_loop(attempts, error)
    assert attempts == [1]


async def _in_a_loop(attempts: list[int], error: type[BaseException]) -> None:
    async for attempt in AsyncRetrying(retry=ANY, stop=t.stop_after_attempt(3)):
        with attempt:
            attempts.append(1)
            raise error
        attempts.append(2)  # code behind the attempt does not run on as if nothing had happened


async def test_a_cancellation_is_not_swallowed_by_a_predicate_that_wants_everything() -> None:
    retried = retry(retry=ANY, wait=t.wait_fixed(1))(asyncio.sleep)
    task = asyncio.ensure_future(retried(10))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task], timeout=100)
    assert task.cancelled()


async def test_a_cancellation_in_the_sleep_between_attempts_ends_the_call() -> None:
    down = Down()
    task = asyncio.ensure_future(AsyncRetrying(retry=ANY, wait=t.wait_fixed(5), sleep=asyncio.sleep)(down))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task], timeout=100)
    assert (task.cancelled(), down.calls) == (True, 1)


# The caller's deadline


async def test_no_sleep_is_begun_that_the_deadline_cannot_hold() -> None:
    down, began = Down(), asyncio.get_running_loop().time()
    with pytest.raises(t.RetryError) as caught:
        async with timeout(5):
            await AsyncRetrying(wait=t.wait_fixed(2), sleep=asyncio.sleep)(down)
    assert (down.calls, asyncio.get_running_loop().time() - began) == (3, 4.0)
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_deadline_that_ends_it_is_told_as_a_stop_would_be() -> None:
    for options, ending in [({"reraise": True}, ConnectionError), ({"retry_error_cls": Own}, Own)]:
        with pytest.raises(ending):
            async with timeout(1):
                await AsyncRetrying(wait=t.wait_fixed(1), **options)(Down())
    async with timeout(1):
        retrying = AsyncRetrying(wait=t.wait_fixed(1), retry_error_callback=lambda state: "instead")
        assert await retrying(Down()) == "instead"


class Own(t.RetryError):
    """An error of one's own."""


# Retries above it


async def test_a_retry_further_up_does_not_multiply_what_was_retried_here() -> None:
    down = Down()
    inner = AsyncRetrying(
        stop=t.stop_after_attempt(2), wait=t.wait_fixed(1), reraise=True, sleep=asyncio.sleep
    )
    outer = Pipeline("outer", Retry(3, jitter="none", budget=Budget.unlimited()))
    with pytest.raises(ConnectionError):
        await outer.call(inner, down)
    assert down.calls == 2


async def test_one_that_made_a_single_attempt_leaves_the_retrying_to_others() -> None:
    down = Down(2)
    inner = AsyncRetrying(stop=t.stop_after_attempt(1), reraise=True)
    outer = Pipeline("outer", Retry(3, jitter="none", budget=Budget.unlimited()))
    assert (await outer.call(inner, down), down.calls) == ("up", 3)


def test_the_audit_of_clients_knows_a_function_that_it_decorates() -> None:
    async def fetch() -> None: ...

    theirs, ours = (
        stacking.check(decorate(stop=t.stop_after_attempt(4))(fetch)) for decorate in (t.retry, retry)
    )
    assert ours == theirs != []


# The success path


@pytest.mark.parametrize("decorated", [True, False])
async def test_a_first_attempt_that_succeeds_builds_nothing(decorated: bool) -> None:
    retrying = AsyncRetrying(stop=t.stop_after_attempt(3), wait=t.wait_fixed(1), retry=ANY)
    fn = retrying.wraps(Down(0).__call__) if decorated else Down(0).__call__
    built = mock.Mock(side_effect=AssertionError)
    with (
        mock.patch.object(_tenacity_loop, "RetryCallState", built),
        mock.patch.object(dropin, "RetryCallState", built),
        mock.patch.object(AsyncRetrying, "copy", built),
    ):
        assert await (fn() if decorated else retrying(fn)) == "up"


async def test_another_retry_condition_may_be_put_in_its_place_later() -> None:
    down = Down(0)
    retried = retry(stop=t.stop_after_attempt(3), wait=t.wait_none())(down.__call__)
    assert await retried() == "up"
    retried.retry.retry = t.retry_if_result(lambda result: result == "up")
    with pytest.raises(t.RetryError):
        await retried()
    assert down.calls == 1 + 3


async def test_a_hook_before_attempts_may_be_put_in_its_place_later() -> None:
    retried, before = retry(Down(0).__call__), mock.Mock(return_value=None)
    for call in (retried, lambda: retried.retry(Down(0).__call__)):
        retried.retry.before = t.before_nothing
        await call()
        retried.retry.before = before
        await call()
    assert before.call_count == 2


async def test_the_statistics_of_a_call_begin_anew_with_the_same_keys_as_tenacitys() -> None:
    keys = []
    for decorate in (t.retry, retry):
        retried: Any = decorate(wait=t.wait_none())(Down(1).__call__)
        await retried()
        await retried()
        keys.append(list(retried.statistics))
    assert keys[0] == keys[1]


# What is decorated


def test_a_plain_function_is_tenacitys_own_affair() -> None:
    @retry(stop=t.stop_after_attempt(2))
    def plain() -> int:
        return 1

    decorated: Any = plain
    assert type(decorated.retry) is t.Retrying
    assert plain() == 1


def test_a_decorated_coroutine_function_looks_like_one() -> None:
    @retry
    async def fetch(key: str = "k") -> str:
        """Fetch it."""
        return key

    decorated: Any = fetch
    assert inspect.iscoroutinefunction(fetch)
    assert (fetch.__name__, fetch.__doc__, decorated.__defaults__) == ("fetch", "Fetch it.", ("k",))
    assert type(decorated.retry) is type(decorated.retry_with(stop=t.stop_never).retry) is AsyncRetrying


async def test_a_plain_function_with_an_asynchronous_sleep_is_awaited() -> None:
    calls: list[int] = []

    def plain() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise OSError
        return 7

    retried: Any = retry(sleep=asyncio.sleep, wait=t.wait_fixed(1))(plain)
    assert (await retried(), len(calls), type(retried.retry)) == (7, 3, AsyncRetrying)


async def test_objects_and_partials_are_seen_to_be_asynchronous() -> None:
    assert await AsyncRetrying()(Down(0)) == "up"
    assert await AsyncRetrying()(functools.partial(Down(0).__call__)) == "up"


async def test_what_is_switched_off_makes_one_attempt() -> None:
    retrying = AsyncRetrying()
    retrying.enabled = False
    for call in (retrying.wraps(Down(1).__call__), lambda: retrying(Down(1))):
        with pytest.raises(ConnectionError):
            await call()


# In the place of tenacity's


async def test_installed_it_serves_whoever_takes_it_from_tenacity_and_it_can_be_taken_out_again() -> None:
    before = t.AsyncRetrying
    undo = install()
    try:
        assert type(t.retry(Down(0).__call__).retry) is AsyncRetrying
        assert t.asyncio.AsyncRetrying is AsyncRetrying
        assert issubclass(AsyncRetrying, before)
    finally:
        undo()
    assert t.AsyncRetrying is t.asyncio.AsyncRetrying is before
