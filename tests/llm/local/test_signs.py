"""What tells that the local model's process is alive."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mcp_server_langgraph.llm._local.signs import processor_time, says_a_word
from tests.llm.local.llama import KEY, Llama
from tests.support.ports import HOST, free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_the_processor_time_of_a_process_is_what_the_process_says_itself() -> None:
    before = time.process_time()
    told = processor_time(os.getpid())
    assert told is not None
    assert before <= told <= time.process_time()


def test_of_a_process_that_is_gone_nothing_is_told() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert processor_time(process.pid) is None


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[str, None]:
    server = await asyncio.start_server(handler, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


@pytest.mark.real_time
async def test_one_token_is_asked_for_with_the_key() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        asked.extend((head, await reader.readexactly(size)))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with serving(answer) as url:
        assert await says_a_word(url, "the-key")
    head, body = asked
    assert head.startswith(b"POST /completion HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Bearer the-key\r\n" in head
    assert json.loads(body) == {"prompt": "a", "n_predict": 1}


@pytest.mark.real_time
async def test_a_connection_that_is_closed_is_no_word() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.close()

    async with serving(close) as url:
        assert not await says_a_word(url, "k")


@pytest.mark.real_time
async def test_where_nobody_listens_that_is_an_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        await says_a_word(f"http://{HOST}:{free_port()}", "k")


@pytest.mark.real_time(limit=120)
async def test_the_real_one_says_a_word_and_has_worked_for_it(llama: Llama) -> None:
    before = processor_time(llama.process.pid)
    assert await says_a_word(llama.url, KEY)
    after = processor_time(llama.process.pid)
    assert before is not None
    assert after is not None
    assert after > before
