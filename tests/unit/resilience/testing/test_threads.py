"""Threads under the virtual-time loop: they take no virtual time, and are waited for really."""

import asyncio
import threading

import pytest

from mcp_server_langgraph.resilience.testing import DeadlockError, run, settle, waiting_for_threads
from tests.support.clock import now


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_job_in_a_thread_takes_no_virtual_time() -> None:
    async def main() -> tuple[str, float]:
        gate = threading.Event()
        threading.Timer(0.05, gate.set).start()
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(gate.wait)
        return "done", now()

    assert run(main()) == ("done", 0.0)


def test_the_clock_moves_on_at_once_when_the_job_is_done() -> None:
    async def main() -> list[float]:
        really_waited: list[float] = []
        await asyncio.to_thread(int)
        alarm = threading.Timer(
            60, asyncio.get_running_loop().call_soon_threadsafe, [really_waited.append, 60]
        )
        alarm.start()
        await asyncio.sleep(3600)
        alarm.cancel()
        alarm.join()
        return really_waited

    assert run(main()) == []


def test_an_error_in_a_thread_reaches_the_one_who_awaits_it() -> None:
    with pytest.raises(ZeroDivisionError):
        run(asyncio.to_thread(divmod, 1, 0))


def test_time_goes_on_when_the_patience_with_a_thread_is_over() -> None:
    gate = threading.Event()

    async def main() -> float:
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30):
                    await asyncio.to_thread(gate.wait)
            return now()
        finally:
            gate.set()

    assert run(main(), thread_patience=0.02) == 30.0


def test_a_thread_that_never_ends_is_a_deadlock_when_the_patience_is_over() -> None:
    gate = threading.Event()

    async def main() -> None:
        try:
            await asyncio.to_thread(gate.wait)
        finally:
            gate.set()

    with pytest.raises(DeadlockError, match="in to_thread"):
        run(main(), thread_patience=0.02)


def test_settle_does_not_wait_for_a_thread() -> None:
    async def main() -> None:
        gate = threading.Event()
        job = asyncio.create_task(asyncio.to_thread(gate.wait))
        await settle()
        assert not job.done()
        gate.set()
        await job

    run(main(), strict=True)


def test_other_threads_may_call_in_while_they_are_waited_for() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        caller = threading.Timer(0.05, loop.call_soon_threadsafe, [called.set])
        caller.start()
        with waiting_for_threads():
            async with asyncio.timeout(0.001):
                await called.wait()
        caller.join()
        return now()

    assert run(main()) == 0.0


def test_other_threads_are_not_waited_for_unasked() -> None:
    async def main() -> None:
        with waiting_for_threads():
            pass
        await for_ever()

    with pytest.raises(DeadlockError):
        run(main())
