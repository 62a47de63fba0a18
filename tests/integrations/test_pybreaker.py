"""Sharing a breaker's state: what it does to the breaker, with pybreaker's storage in memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker
import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, ConfigurationError, Pipeline
from mcp_server_langgraph.resilience.integrations._pybreaker.state import Move, Shared
from mcp_server_langgraph.resilience.integrations.pybreaker import SharedBreaker, share
from tests.support.eventually import until

pytestmark = pytest.mark.real_time(limit=30)

Share = Callable[..., SharedBreaker]


@pytest.fixture
def sharing() -> Iterator[Share]:
    made: list[SharedBreaker] = []

    def begin(breaker: CircuitBreaker, storage: Any) -> SharedBreaker:
        made.append(share(breaker, storage, refresh=0.02))
        return made[-1]

    yield begin
    for shared in made:
        shared.close()
        shared._thread.join(10)
        assert not shared._thread.is_alive()


def opened(state: str, seconds_ago: float = 0.0) -> pybreaker.CircuitMemoryStorage:
    storage = pybreaker.CircuitMemoryStorage(state)
    storage.opened_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return storage


async def answer() -> str:
    return "answer"


async def fail() -> None:
    raise ConnectionError


async def test_the_success_path_of_a_breaker_that_shares_is_what_it_was(sharing: Share) -> None:
    breaker = CircuitBreaker("search")
    sharing(breaker, opened("closed"))
    assert (breaker.machine.quiet, breaker.listeners.want_calls) == (True, False)


async def test_a_break_that_began_long_ago_elsewhere_is_over_here_too(sharing: Share) -> None:
    breaker, storage = CircuitBreaker("search", timeout=30), opened("open", seconds_ago=31)
    sharing(breaker, storage)
    await until(lambda: breaker.state == "open")
    assert await Pipeline("search", breaker).call(answer) == "answer"
    await until(lambda: storage.state == "closed")


async def test_where_others_probe_the_next_call_is_a_probe_and_the_only_one(sharing: Share) -> None:
    breaker, storage = CircuitBreaker("search", timeout=30), opened("half-open")
    pipeline = Pipeline("search", breaker)
    sharing(breaker, storage)
    await until(lambda: breaker.state == "open")

    async def while_it_probes() -> str:
        with pytest.raises(CircuitOpen):
            await pipeline.call(answer)
        return "probed"

    assert await pipeline.call(while_it_probes) == "probed"
    await until(lambda: storage.state == "closed")


async def test_an_opening_that_came_from_others_is_not_told_back_to_them(sharing: Share) -> None:
    breaker, storage = CircuitBreaker("search"), opened("open", seconds_ago=20)
    at = storage.opened_at
    shared = sharing(breaker, storage)
    await until(lambda: breaker.state == "open")
    read = shared._read_at
    await until(lambda: shared._read_at != read)
    assert storage.opened_at == at


async def test_an_opening_is_told_at_once_and_told_again_where_it_was_lost() -> None:
    breaker, storage = CircuitBreaker("search", fail_max=1), opened("closed", seconds_ago=99)
    shared = share(breaker, storage, refresh=300)
    await until(lambda: shared.snapshot().age is not None)
    with pytest.raises(ConnectionError):
        await Pipeline("search", breaker).call(fail)
    await until(lambda: storage.state == "open")
    assert shared._look(breaker).opened_at is shared._look(breaker).opened_at is not None
    shared.close()
    storage.state, storage.opened_at = "closed", None
    await asyncio.to_thread(shared._thread.join, 10)
    assert breaker.listeners._all == ()

    again = share(breaker, storage, refresh=0.02)
    await until(lambda: storage.state == "open")
    storage.state, storage.opened_at = "closed", None
    await until(lambda: storage.state == "open")
    again.close()
    await asyncio.to_thread(again._thread.join, 10)


async def test_an_operators_mode_is_neither_told_nor_overruled(sharing: Share) -> None:
    breaker, storage = CircuitBreaker("search"), opened("closed")
    shared = sharing(breaker, storage)
    breaker.force_open()
    await until(lambda: shared.snapshot().age is not None)
    assert storage.state == "closed"
    storage.state = "open"
    await until(lambda: shared.snapshot().state == "open")
    assert (breaker.state, breaker.snapshot().automatic) == ("forced_open", "closed")


async def test_a_storage_that_raises_is_told_of_once_and_the_breaker_goes_on(
    sharing: Share, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def gone() -> pybreaker.CircuitBreakerStorage:
        nonlocal asked
        asked += 1
        raise OSError("gone")

    breaker = CircuitBreaker("search", fail_max=1)
    shared = sharing(breaker, gone)
    await until(lambda: asked > 3)
    assert (shared.snapshot().reachable, shared.snapshot().state) == (False, None)
    breaker.listeners.failure(OSError())  # which wakes it
    assert len([line for line in caplog.messages if "out of reach" in line]) == 1


async def test_what_is_read_too_late_to_count_changes_nothing(sharing: Share) -> None:
    breaker = CircuitBreaker("search", fail_max=1)
    shared = sharing(breaker, opened("closed"))
    shared.close()
    shared._thread.join(10)
    before = shared._look(breaker)

    with pytest.raises(ConnectionError):
        await Pipeline("search", breaker).call(fail)
    shared._follow(breaker, before, Move.CLOSE, Shared("closed", datetime.now(UTC)), told=True)
    assert breaker.state == "open"


async def test_the_thread_ends_with_the_breaker() -> None:
    breaker = CircuitBreaker("search")
    thread = share(breaker, opened("closed"), refresh=0.02)._thread
    gone = weakref.ref(breaker)
    del breaker
    gc.collect()
    await until(lambda: not thread.is_alive())
    assert gone() is None
    assert thread.daemon
    assert thread not in threading.enumerate()


@pytest.mark.parametrize("argument", ["refresh", "patience"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_times_out_of_range_are_refused(argument: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        share(CircuitBreaker("search"), opened("closed"), **{argument: value})
