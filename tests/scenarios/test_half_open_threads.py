"""Half-open with calls from several threads and several event loops at once: one probe in all."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

import pytest

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, CircuitOpen, Pipeline, Retry


class Counted:
    """A breaker whose open time is over, and what 8 threads do to it. The probe lasts until all others were refused."""

    def __init__(self, threads: int, calls_each: int) -> None:
        self.breaker = CircuitBreaker("svc", fail_max=1, timeout=1000)
        self.pipeline = Pipeline("svc", Bulkhead(500), Retry(1), self.breaker)
        self.breaker.machine.open(-math.inf, "fail_max")
        self.total = threads * calls_each
        self.barrier = threading.Barrier(threads)
        self.lock = threading.Lock()
        self.reached = self.refused = 0

    def reach(self) -> None:
        with self.lock:
            self.reached += 1

    def refuse(self) -> None:
        with self.lock:
            self.refused += 1

    @property
    def all_others_refused(self) -> bool:
        return self.refused >= self.total - 1

    def run(self, target: Callable[[], None]) -> None:
        def begin() -> None:
            self.barrier.wait(30)
            target()

        threads = [threading.Thread(target=begin, daemon=True) for _ in range(self.barrier.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("succeeds", [True, False])
def test_of_eight_threads_with_plain_functions_one_probes(succeeds: bool) -> None:
    counted = Counted(8, 5)
    done = threading.Event()

    @counted.pipeline
    def probe() -> None:
        counted.reach()
        assert done.wait(30)
        if not succeeds:
            raise ConnectionError

    def thread() -> None:
        for _ in range(5):
            try:
                probe()
            except CircuitOpen:
                counted.refuse()
            except ConnectionError:
                return
            if counted.refused >= 35:
                done.set()

    counted.run(thread)
    assert counted.reached == (1 if not succeeds else counted.total - counted.refused)
    assert counted.breaker.snapshot().rejected == counted.refused >= 35
    assert counted.breaker.state == ("closed" if succeeds else "open")


@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("succeeds", [True, False])
def test_of_several_event_loops_one_call_probes(threads: int, succeeds: bool) -> None:
    counted = Counted(threads, 25)

    async def probe() -> None:
        counted.reach()
        while not counted.all_others_refused:
            await asyncio.sleep(0)
        if not succeeds:
            raise ConnectionError

    async def call() -> None:
        try:
            await counted.pipeline.call(probe)
        except CircuitOpen:
            counted.refuse()
        except ConnectionError:
            assert not succeeds

    async def calls() -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*(call() for _ in range(25)))

    counted.run(lambda: asyncio.run(calls()))
    assert (counted.reached, counted.refused) == (1, counted.total - 1)
    assert counted.breaker.snapshot().rejected == counted.total - 1
    assert counted.breaker.state == ("closed" if succeeds else "open")
