"""Cancelling a call, and stopping the server: what is in flight ends in good order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client, MCPError

from tests.llm.dialects import GOOD
from tests.llm.models import KEY
from tests.server.running import RunningServer, chat, eventually, running_server
from tests.support.http_server import HttpServer, Request, Response


class Thinking(HttpServer):
    """A language model, by OpenAI's API, that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._told = asyncio.Event()

    async def handle(self, request: Request) -> Response:
        await self._told.wait()
        return Response(GOOD["openai"]("m"))

    def answer(self) -> None:
        self._thread.run(self._tell())

    async def _tell(self) -> None:
        self._told.set()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose model takes longer than any test waits; to be left running."""
    with running_server(tmp_path_factory.mktemp("slow"), LLM_OFFLINE_DELAY_SECONDS="200") as running:
        yield running


@pytest.fixture
def stopping(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server to be stopped, with the settings of the test's parameter."""
    with running_server(tmp_path, **getattr(request, "param", {})) as running:
        yield running


async def ended(server: RunningServer) -> int:
    return await asyncio.to_thread(server.process.wait, 60)


def calls_in_flight(server: RunningServer) -> int:
    return int(server.ready()["calls_in_flight"])


def model_calls(server: RunningServer) -> float:
    """Calls that are with the model now."""
    return total(server, 'bulkhead_active_operations{service="llm.offline"}')


def total(server: RunningServer, series: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(series))


@pytest.mark.real_time
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_stops_the_agent_and_leaves_nothing_behind(
    slow: RunningServer, mode: str
) -> None:
    async with Client(slow.url, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("agent_chat", {"message": "narwhals"}))
        await eventually(lambda: calls_in_flight(slow) == 1 and model_calls(slow) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually(lambda: calls_in_flight(slow) == 0 and model_calls(slow) == 0)
        found = await client.call_tool("conversation_search", {"query": "narwhals"})
        assert found.structured_content is not None
        assert found.structured_content["hits"] == []
        assert total(slow, "circuit_breaker_failures_total{") == 0


@pytest.mark.real_time
async def test_a_client_that_gives_up_stops_the_agent(slow: RunningServer) -> None:
    async with Client(slow.url) as client:
        with pytest.raises(MCPError):
            await client.call_tool("agent_chat", {"message": "hello"}, read_timeout_seconds=1)
    await eventually(lambda: calls_in_flight(slow) == 0 and model_calls(slow) == 0)


@pytest.fixture
def thinking() -> Iterator[Thinking]:
    with Thinking() as model:
        yield model


@pytest.mark.real_time(limit=240)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_sigterm_finishes_calls_in_flight_and_refuses_new_ones(
    thinking: Thinking, tmp_path: Path, mode: str
) -> None:
    provider = {"LLM_PROVIDER": "openai", "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{thinking.url}/v1"}
    with running_server(tmp_path, **provider, DRAIN_SECONDS="200") as server:
        await _stops_when_all_is_done(server, thinking, mode)


async def _stops_when_all_is_done(stopping: RunningServer, model: Thinking, mode: str) -> None:
    async with Client(stopping.url, mode=mode) as client:
        call = asyncio.create_task(chat(client, "hello"))
        await eventually(lambda: model.count("completions") == 1)
        stopping.signal(signal.SIGTERM)
        await eventually(lambda: stopping.ready()["status"] == "draining")
        assert stopping.get("/health/ready").status_code == 503
        assert stopping.get("/health/live").status_code == 200
        with pytest.raises(MCPError, match="stopping"):
            await client.call_tool("resilience_status", {})
        assert not call.done()
        model.answer()
        assert (await call)["answer"] == "fine"
    assert await ended(stopping) == 0


@pytest.mark.real_time
async def test_open_streams_of_neither_era_block_the_exit(stopping: RunningServer) -> None:
    old, new = Client(stopping.url, mode="legacy"), Client(stopping.url)
    async with old, new, new.listen(tools_list_changed=True) as events:
        await old.list_tools()
        stopping.signal(signal.SIGTERM)
        # The server ends the stream deliberately: the iteration ends, without an error.
        async for _ in events:
            pass
        assert await ended(stopping) == 0


@pytest.mark.real_time
@pytest.mark.parametrize(
    "stopping", [{"LLM_OFFLINE_DELAY_SECONDS": "200", "DRAIN_SECONDS": "0.3"}], indirect=True
)
async def test_the_time_to_finish_is_bounded(stopping: RunningServer) -> None:
    async with Client(stopping.url) as client:
        call = asyncio.create_task(client.call_tool("agent_chat", {"message": "hello"}))
        await eventually(lambda: calls_in_flight(stopping) == 1)
        stopping.signal(signal.SIGTERM)
        with pytest.raises(MCPError, match="stopped before the call was done"):
            await call
    assert await ended(stopping) == 0


@pytest.mark.real_time
@pytest.mark.parametrize("stopping", [{"LLM_OFFLINE_DELAY_SECONDS": "200"}], indirect=True)
async def test_a_second_signal_stops_at_once(stopping: RunningServer) -> None:
    async with Client(stopping.url) as client:
        call = asyncio.create_task(client.call_tool("agent_chat", {"message": "hello"}))
        await eventually(lambda: calls_in_flight(stopping) == 1)
        stopping.signal(signal.SIGTERM)
        await eventually(lambda: stopping.ready()["status"] == "draining")
        stopping.signal(signal.SIGTERM)
        assert await ended(stopping) == 0
        await asyncio.gather(call, return_exceptions=True)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.env"
    file.write_text("LLM_CONCURRENCY_LIMIT=3\n")
    return file


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture
def reloading(tmp_path: Path, settings_file: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path, "--env-file", str(settings_file)) as running:
        yield running


@pytest.mark.real_time
async def test_sighup_reads_the_resilience_settings_again(
    reloading: RunningServer, settings_file: Path
) -> None:
    limit = 'bulkhead_limit{service="llm.offline"}'
    assert total(reloading, limit) == 3
    rewrite(settings_file, "# changed\nLLM_CONCURRENCY_LIMIT=5\n")
    reloading.signal(signal.SIGHUP)
    await eventually(lambda: total(reloading, limit) == 5)
    rewrite(settings_file, "LLM_CONCURRENCY_LIMIT=many\n")
    reloading.signal(signal.SIGHUP)
    await eventually(lambda: any(line["event"] == "settings not reloaded" for line in reloading.log()))
    assert total(reloading, limit) == 5
