"""The child process of the local model, with programs in its place that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from mcp_server_langgraph.llm._local import server as module
from mcp_server_langgraph.llm._local.server import LocalServer, LocalServerDown
from tests.llm.local.children import DEAF, GOOD, server
from tests.server.running import eventually


@pytest.mark.real_time
async def test_many_who_ask_at_once_start_one_child() -> None:
    async with server(GOOD) as running:
        first, *others = await asyncio.gather(*(running.endpoint() for _ in range(10)))
        assert all(other == first for other in others)
        assert first.url == "http://127.0.0.1:1/w"
        assert len(first.key) > 30


@pytest.mark.real_time
async def test_who_goes_away_does_not_stop_the_start_for_the_others() -> None:
    async with server(GOOD) as running:
        goes, stays = asyncio.create_task(running.endpoint()), asyncio.create_task(running.endpoint())
        await asyncio.sleep(0)
        goes.cancel()
        assert (await stays).url
        assert goes.cancelled()


@pytest.mark.real_time
async def test_a_child_that_died_is_replaced_at_once_and_then_after_a_wait() -> None:
    async with server(GOOD) as running:
        first = await running.endpoint()
        await kill(running)
        second = await running.endpoint()
        assert second.key != first.key
        await kill(running)
        with pytest.raises(LocalServerDown, match=r"started again in [01]\.\d s"):
            await running.endpoint()


async def kill(running: LocalServer) -> None:
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    await eventually(lambda: running.pid is None)


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("", "its process ended"),
        ("print('not JSON')", "could not be started"),
        ("""print('{"error": "no such weights"}')""", "no such weights"),
    ],
)
async def test_a_child_that_cannot_start_is_an_error_that_says_why(program: str, told: str) -> None:
    async with server(program) as running:
        with pytest.raises(LocalServerDown, match=told):
            await running.endpoint()
        assert running.pid is None


@pytest.mark.real_time
async def test_a_child_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    async with server("import time; time.sleep(100)") as running:
        with pytest.raises(LocalServerDown):
            await running.endpoint()
        assert running.pid is None


@pytest.mark.real_time
async def test_a_child_that_does_not_end_by_itself_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    async with server(DEAF) as running:
        await running.endpoint()


@pytest.mark.real_time
async def test_closed_while_it_starts_or_before_it_leaves_nothing_running() -> None:
    running = LocalServer({"weights": "w"}, (sys.executable, "-c", GOOD))
    asking = asyncio.create_task(running.endpoint())
    await asyncio.sleep(0)
    await running.aclose()
    with pytest.raises(LocalServerDown):
        await asking
    with pytest.raises(LocalServerDown, match="closed"):
        await running.endpoint()
