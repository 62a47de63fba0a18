"""Which waits for the local model's answer are held against its child process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from mcp_server_langgraph.llm import local as module
from mcp_server_langgraph.llm.local import LocalChatModel
from tests.llm.local.llama import generated

ASKED: Final = [HumanMessage("hi")]


class Scripted(BaseChatModel):
    """Says a word after each of ``pauses``, in seconds; then it ends, or fails after ``lasts`` seconds more."""

    pauses: list[float]
    lasts: float | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for pause in self.pauses:
            await asyncio.sleep(pause)
            yield ChatGenerationChunk(message=AIMessageChunk("word"))
        if self.lasts is not None:
            await asyncio.sleep(self.lasts)
            raise ConnectionError("lost")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> LocalChatModel:
    """Without a child: of its work nothing is known, so that time alone tells."""
    monkeypatch.setattr(module, "weights", lambda: Path("weights"))
    monkeypatch.setattr(module, "load_package", lambda kind: None)
    return LocalChatModel()


def says(monkeypatch: pytest.MonkeyPatch, *pauses: float, lasts: float | None = None) -> None:
    async def reached(self: LocalChatModel) -> BaseChatModel:
        return Scripted(pauses=list(pauses), lasts=lasts)

    monkeypatch.setattr(LocalChatModel, "_reached", reached)


def pieces(local: LocalChatModel) -> AsyncGenerator[ChatGenerationChunk, None]:
    return generated(local._astream(ASKED))


async def test_a_caller_that_is_cut_before_the_first_piece(
    local: LocalChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, 60.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20):
            await local.ainvoke(ASKED)
    assert local.server.suspected


async def test_a_caller_that_is_cut_between_two_pieces(
    local: LocalChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, 0.1, 60.0)
    async with aclosing(pieces(local)) as chunks:
        await anext(chunks)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await anext(chunks)
    assert local.server.suspected


@pytest.mark.parametrize(("silent", "held"), [(0.5, False), (20.0, True)])
async def test_a_wait_that_ends_with_an_error_is_one_if_it_was_long(
    local: LocalChatModel, monkeypatch: pytest.MonkeyPatch, silent: float, held: bool
) -> None:
    says(monkeypatch, 50.0, lasts=silent)
    with pytest.raises(ConnectionError):
        await local.ainvoke(ASKED)
    assert local.server.suspected is held


async def test_an_answer_however_slow_is_not(local: LocalChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, 50.0, 50.0)
    assert [chunk.text async for chunk in pieces(local)] == ["word", "word"]
    assert not local.server.suspected


async def test_the_time_between_two_waits_is_the_callers_own(
    local: LocalChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, 0.1, 60.0)
    async with aclosing(pieces(local)) as chunks:
        await anext(chunks)
        await asyncio.sleep(50.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(chunks)
    assert not local.server.suspected


async def test_a_caller_that_reads_no_further_does_not_wait(
    local: LocalChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, 50.0, 0.1)
    async with aclosing(pieces(local)) as chunks:
        await anext(chunks)
        await asyncio.sleep(50.0)
    assert not local.server.suspected


async def test_a_piece_clears_what_another_caller_has_waited_for(
    local: LocalChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, 30.0)
    answered = asyncio.create_task(local.ainvoke(ASKED))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20):
            await local.ainvoke(ASKED)
    assert local.server.suspected
    await asyncio.gather(answered, return_exceptions=True)
    assert not local.server.suspected
