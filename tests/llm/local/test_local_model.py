"""The local model as a link of the chain: lazily started, restarted, and ended with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage, ToolMessage

from mcp_server_langgraph.llm._local.server import Endpoint
from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.llm.guarded import GuardedChatModel
from mcp_server_langgraph.llm.local import ANSWER, LocalChatModel
from mcp_server_langgraph.resilience import StreamInterrupted
from mcp_server_langgraph.resilience.degradation import collect_degradations
from mcp_server_langgraph.settings import Settings
from tests.llm.local.llama import generated, is_busy, rest_of, written
from tests.llm.models import KEY
from tests.server.running import eventually
from tests.support.components import require
from tests.support.ports import HOST, free_port

PARIS = "What is the capital of France?"
LONG = "Tell me a long story about a whale, a lighthouse and the sea."
TOOL = {
    "type": "function",
    "function": {"name": "calculator", "description": "Calculates.", "parameters": {}},
}


@pytest.fixture(autouse=True)
def _packages_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other tests an answer has taken half a minute."""
    require("local-model")
    monkeypatch.setenv("LLM_TIMEOUT", "110")


@asynccontextmanager
async def chain(**settings: object) -> AsyncGenerator[GuardedChatModel, None]:
    model = create_chat_model(Settings(**settings))  # type: ignore[arg-type]
    try:
        yield model
    finally:
        await model.aclose()


async def local_of(model: GuardedChatModel) -> LocalChatModel:
    local = await model._lazy[-1].ready()
    assert isinstance(local, LocalChatModel)
    return local


@pytest.mark.real_time(limit=120)
async def test_it_is_started_by_the_first_question_and_marks_its_answer() -> None:
    async with chain(llm_provider="local") as model:
        await model.prepare()
        local = await local_of(model)
        assert local.server.pid is None
        with collect_degradations() as notes:
            answer = await model.bind_tools([TOOL]).ainvoke([HumanMessage(PARIS)])
        assert "Paris" in answer.text
        assert answer.response_metadata["answered_by"] == "local:smollm2"
        assert [(note.service, note.source) for note in notes] == [("llm", "local:smollm2")]
        assert local.server.pid is not None
    assert local.server.pid is None


@pytest.mark.real_time(limit=120)
async def test_a_proxy_that_cannot_be_reached_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:{free_port()}")
    async with chain(llm_provider="local") as model:
        assert "Paris" in (await model.ainvoke([HumanMessage(PARIS)])).text


@pytest.mark.real_time(limit=120)
async def test_where_no_other_model_can_be_reached_it_answers_and_says_for_whom() -> None:
    nowhere = f"http://{HOST}:{free_port()}"
    settings = {"llm_provider": "openai", "openai_api_key": KEY, "openai_base_url": nowhere}
    async with chain(**settings, llm_fallback_models=["local:smollm2"]) as model:
        with collect_degradations() as notes:
            answer = await model.ainvoke([HumanMessage(PARIS), ToolMessage("Paris", tool_call_id="1")])
    assert "Paris" in answer.text
    assert answer.response_metadata["answered_by"] == "local:smollm2"
    assert "openai" in answer.response_metadata["degraded"]
    assert {note.source for note in notes} == {"local:smollm2"}


@pytest.mark.real_time(limit=180)
async def test_killed_in_the_middle_of_an_answer_it_fails_soon_and_answers_again() -> None:
    async with chain(llm_provider="local") as model:
        local = await local_of(model)
        async with aclosing(generated(model.astream([HumanMessage(LONG)]))) as chunks:
            await anext(chunks)
            first = local.server.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            with pytest.raises(StreamInterrupted):
                await asyncio.wait_for(rest_of(chunks), 15)  # sooner than the clock between two pieces
        answer = await model.ainvoke([HumanMessage(PARIS)])
        assert "Paris" in answer.text
        assert local.server.pid not in (None, first)


@pytest.mark.real_time(limit=240)
async def test_stopped_it_is_found_out_by_who_waits_in_vain_and_the_next_is_answered_by_another() -> None:
    async with chain(llm_provider="local") as model:
        local = await local_of(model)
        await local.server.endpoint()
        first = local.server.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        while not local.server.suspected:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await model.ainvoke([HumanMessage(PARIS)])
        await local.server.endpoint()
        assert local.server.pid not in (None, first)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        answer = await model.ainvoke([HumanMessage(PARIS)])
    assert "Paris" in answer.text
    assert answer.response_metadata["answered_by"] == "local:smollm2"


@pytest.mark.real_time(limit=120)
async def test_an_answer_that_nobody_waits_for_frees_its_place() -> None:
    async with chain(llm_provider="local") as model:
        local = await local_of(model)
        endpoint = await local.server.endpoint()
        call = asyncio.create_task(model.ainvoke([HumanMessage(LONG)]))
        await eventually(lambda: is_busy(endpoint.url, endpoint.key))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        seen: list[int] = []
        await eventually(lambda: not seen_busy(endpoint, seen))
        # An answer that goes on to its end is seen near it.
        assert max(seen, default=0) < 0.75 * ANSWER


def seen_busy(endpoint: Endpoint, seen: list[int]) -> bool:
    tokens = written(endpoint.url, endpoint.key)
    if tokens is not None:
        seen.append(tokens)
    return tokens is not None


def test_it_ends_with_a_parent_that_is_killed() -> None:
    program = """
import asyncio
from mcp_server_langgraph.llm.local import ANSWER, LocalChatModel

async def main():
    server = LocalChatModel().server
    await server.endpoint()
    print(server.pid, flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        assert "child" in (child / "cmdline").read_text()
        parent.kill()
    give_up = time.monotonic() + 60
    while child.exists() and "child" in (child / "cmdline").read_text():
        assert time.monotonic() < give_up
        time.sleep(0.05)
