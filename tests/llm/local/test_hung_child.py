"""A child of the local model that hangs: found, killed and replaced; and one that does not, left alone."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys

import pytest

from mcp_server_langgraph.llm._local import hang, restarts, watch
from mcp_server_langgraph.llm._local import server as module
from mcp_server_langgraph.llm._local.server import LocalServer, LocalServerDown
from tests.llm.local.children import DEAF, GOOD, SILENT, TALKING, server
from tests.server.running import eventually


def idle(pid: int) -> float:
    """Of a process that does no work."""
    return 0.0


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves has waited long enough for a child that does nothing, and the child is not asked for long."""
    monkeypatch.setattr(hang, "MIN_SILENCE", 0.0)
    monkeypatch.setattr(watch, "processor_time", idle)
    monkeypatch.setattr(module, "QUESTION_SECONDS", 0.1)


async def suspected(running: LocalServer) -> asyncio.subprocess.Process:
    """The child, which a caller has waited for in vain."""
    await running.endpoint()
    waiting = running.watch()
    await asyncio.sleep(0.001)  # no time is no evidence, whatever was done in it
    waiting.given_up()
    assert running.suspected
    assert running._child is not None
    return running._child


@pytest.mark.real_time
async def test_one_that_does_not_answer_is_killed_and_replaced_at_the_next_call() -> None:
    async with server(SILENT) as running:
        first = await running.endpoint()
        child = await suspected(running)
        second = await running.endpoint()
        assert child.returncode == -signal.SIGKILL
        assert second.key != first.key
        assert running.pid not in (None, child.pid)
        assert not running.suspected
        assert await running.endpoint() == second


@pytest.mark.real_time
async def test_so_is_one_that_was_stopped_though_its_work_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(hang, "MIN_SILENCE", 0.0)
    monkeypatch.setattr(module, "QUESTION_SECONDS", 0.1)
    async with server(TALKING) as running:
        await running.endpoint()
        os.kill(pid_of(running), signal.SIGSTOP)
        await eventually(lambda: is_stopped(pid_of(running)))
        child = await suspected(running)
        await running.endpoint()
        assert child.returncode == -signal.SIGKILL
        assert running.pid not in (None, child.pid)


def pid_of(running: LocalServer) -> int:
    assert running.pid is not None
    return running.pid


def is_stopped(pid: int) -> bool:
    """Whether it has taken the signal by now."""
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None


@pytest.mark.real_time
async def test_one_that_answers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUESTION_SECONDS", 30.0)
    async with server(TALKING) as running:
        first = await running.endpoint()
        child = await suspected(running)
        assert await running.endpoint() == first
        assert running.pid == child.pid
        assert not running.suspected


@pytest.mark.real_time
async def test_one_that_is_slow_but_works_is_kept_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with server(SILENT) as running:
        first = await running.endpoint()
        child = await suspected(running)
        work = itertools.count(1.0)
        monkeypatch.setattr(watch, "processor_time", lambda pid: next(work))
        assert await running.endpoint() == first
        assert running.pid == child.pid
        assert not running.suspected


@pytest.mark.real_time
async def test_one_that_nobody_suspects_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(url: str, key: str) -> bool:
        raise AssertionError("it was asked")

    monkeypatch.setattr(module, "says_a_word", asked)
    async with server(SILENT) as running:
        assert await running.endpoint() == await running.endpoint()


@pytest.mark.real_time
async def test_one_that_died_while_it_was_asked_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(SILENT) as running:
        child = await suspected(running)

        async def asked(url: str, key: str) -> bool:
            child.kill()
            await child.wait()
            raise ConnectionResetError

        monkeypatch.setattr(module, "says_a_word", asked)
        await running.endpoint()
        assert running.pid not in (None, child.pid)


@pytest.mark.real_time
async def test_those_after_it_that_hang_too_wait_as_those_that_die() -> None:
    async with server(SILENT) as running:
        await suspected(running)
        await suspected(running)
        with pytest.raises(LocalServerDown, match=r"started again in 1\.0 s"):
            await running.endpoint()
        assert running.pid is None
        assert not running.suspected


@pytest.mark.real_time
async def test_the_time_in_which_it_hung_is_no_steady_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "STEADY", 1e-9)
    async with server(SILENT) as running:
        await suspected(running)
        await suspected(running)
        with pytest.raises(LocalServerDown, match="started again in"):
            await running.endpoint()


@pytest.mark.real_time
async def test_one_that_was_of_use_for_long_before_it_hung_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restarts, "STEADY", 1e-9)
    async with server(SILENT) as running:
        await suspected(running)
        await running.endpoint()
        await asyncio.sleep(0.01)  # its life has some length
        running.watch().heard()
        child = await suspected(running)
        await running.endpoint()
        assert running.pid not in (None, child.pid)


@pytest.mark.real_time
async def test_one_that_died_without_having_hung_has_lived_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restarts, "STEADY", 1e-9)
    async with server(GOOD) as running:
        for _ in range(3):
            await running.endpoint()
            await asyncio.sleep(0.01)  # its life has some length
            os.kill(pid_of(running), signal.SIGKILL)
            await eventually(lambda: running.pid is None)
        await running.endpoint()


@pytest.mark.real_time
async def test_many_who_ask_at_once_get_one_new_child_and_who_goes_away_does_not_keep_it_from_them() -> None:
    async with server(SILENT) as running:
        await suspected(running)
        goes, *stay = (asyncio.create_task(running.endpoint()) for _ in range(5))
        await asyncio.sleep(0)
        goes.cancel()
        first, *others = await asyncio.gather(*stay)
        assert goes.cancelled()
        assert all(other == first for other in others)


@pytest.mark.real_time
async def test_what_is_told_of_a_child_is_not_held_against_the_next() -> None:
    async with server(SILENT) as running:
        await running.endpoint()
        late = running.watch()
        await suspected(running)
        await running.endpoint()
        late.given_up()
        assert not running.suspected


@pytest.mark.real_time
async def test_closed_while_it_is_asked_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUESTION_SECONDS", 30.0)
    async with server(SILENT) as running:
        child = await suspected(running)
        asking = asyncio.create_task(running.endpoint())
        await asyncio.sleep(0)
        await running.aclose()
        assert child.returncode is not None
        with pytest.raises(LocalServerDown, match="closed"):
            await asking


@pytest.mark.real_time
@pytest.mark.parametrize("stopped", [False, True])
async def test_closing_kills_one_that_does_not_end(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    async with server(GOOD if stopped else DEAF) as running:
        await running.endpoint()
        child = running._child
        assert child is not None
        if stopped:
            child.send_signal(signal.SIGSTOP)
            await eventually(lambda: is_stopped(child.pid))
        await running.aclose()
        assert child.returncode == -signal.SIGKILL


@pytest.mark.real_time
async def test_closing_kills_it_too_where_nobody_waits_for_that_to_end() -> None:
    running = LocalServer({"weights": "w"}, (sys.executable, "-c", DEAF))
    await running.endpoint()
    child = running._child
    assert child is not None
    closing = asyncio.create_task(running.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await eventually(lambda: child.returncode is not None)
    assert child.returncode == -signal.SIGKILL
