"""A real model behind the OpenAI- and Anthropic-compatible endpoints, asked by the official SDKs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx2
import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from mcp_server_langgraph.llm._local.history import SYSTEM_PROMPT
from tests.llm.local.llama import Llama, generated, rest_of
from tests.server.running import eventually
from tests.support.components import require

SYSTEM = SystemMessage(SYSTEM_PROMPT)
PARIS = [SYSTEM, HumanMessage("What is the capital of France?")]
LONG = [SYSTEM, HumanMessage("Tell me a long story about a whale, a lighthouse and the sea.")]


@pytest.mark.real_time(limit=120)
async def test_it_answers(llama: Llama, api: str) -> None:
    model, client = llama.model(api)
    async with client:
        answer = await model.ainvoke(PARIS)
    assert "Paris" in answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


@pytest.mark.real_time(limit=120)
async def test_it_streams(llama: Llama, api: str) -> None:
    model, client = llama.model(api)
    async with client:
        pieces = [chunk.text async for chunk in model.astream(PARIS)]
    assert len([piece for piece in pieces if piece]) > 3, pieces
    assert "Paris" in "".join(pieces)


@pytest.mark.real_time(limit=120)
async def test_a_stream_that_is_closed_frees_its_place(llama: Llama, api: str) -> None:
    model, client = llama.model(api)
    async with client:
        async with aclosing(generated(model.astream(LONG))) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    break
        await eventually(lambda: not llama.busy())


@pytest.mark.real_time(limit=120)
async def test_killed_in_the_middle_of_an_answer_the_caller_is_told_at_once(api: str) -> None:
    require("local-model")
    with Llama() as mortal:
        model, client = mortal.model(api)
        async with client, aclosing(generated(model.astream(LONG))) as chunks:
            assert await anext(chunks)
            mortal.process.kill()
            with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError, httpx2.ReadError)):
                await asyncio.wait_for(rest_of(chunks), 20)  # not the client's 30 s


@pytest.mark.real_time
async def test_nobody_without_the_key_is_answered(llama: Llama) -> None:
    async with httpx2.AsyncClient(base_url=llama.url) as client:
        for headers in ({}, {"authorization": "Bearer other"}, {"x-api-key": "other"}):
            for path in ("/v1/chat/completions", "/v1/messages", "/completion"):
                body = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "max_tokens": 1}
                assert (await client.post(path, json=body, headers=headers)).status_code == 401
