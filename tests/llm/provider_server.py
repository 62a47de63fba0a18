"""The three providers' chat APIs, and OpenAI's at any other name, on one port, wire-faithful enough for their SDKs:
every request is counted, every answer is scripted, streams can stall (with the pings real providers send), be cut, or
end without a finish reason.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tests.llm.dialects import ERRORS, GOOD, STREAMS, spoken
from tests.support.closing import close_server
from tests.support.loop_thread import LoopThread
from tests.support.ports import HOST, free_port

__all__ = ["Answer", "ProviderServer", "Stream"]

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """An answer as it is. ``body`` None stands for a whole, good answer of the provider that was asked.

    ``status`` 0 loses the connection instead.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class Stream:
    """A streamed answer: ``words`` one by one, then ``end``: "finish", "truncate" (a clean end without finish reason),
    "reset" (the connection is lost) or "pings" (no more words, keep-alive signs for ever; Google's API has none, and is
    silent).
    """

    words: tuple[str, ...] = ("one ", "two ", "three")
    end: str = "finish"
    headers: dict[str, str] = field(default_factory=dict)


class ProviderServer:
    """Serves in a thread of its own. ``script`` is what comes next, for each provider; without one it answers well.

    ``seen`` holds (provider, model, request body) in order of arrival, ``heads`` their headers, ``arrivals`` the times
    (monotonic seconds).
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: list[tuple[str, str, dict[str, Any]]] = []
        self.heads: list[dict[str, str]] = []
        self.arrivals: list[float] = []
        self.running = 0
        self.most_running = 0
        self._scripts: dict[str, deque[Answer | Stream]] = {}
        self._always: dict[str, Answer | Stream] = {}
        self._thread = LoopThread(f"providers-{self.port}")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def base_url(self, provider: str) -> str:
        """Where that provider's API is, as its own SDK is told it."""
        path = {"anthropic": "", "google": "", "openai": "/v1"}.get(provider, f"/{provider}/v1")
        return f"http://{HOST}:{self.port}{path}"

    def script(self, provider: str, *answers: Answer | Stream) -> None:
        """What that provider answers next; afterwards it answers well."""
        self._scripts.setdefault(provider, deque()).extend(answers)

    def always(self, provider: str, answer: Answer | Stream) -> None:
        """What that provider answers from now on."""
        self._always[provider] = answer

    def count(self, provider: str = "") -> int:
        """Requests that arrived for that provider; for all of them where none is named."""
        return sum(1 for name, _, _ in self.seen if provider in ("", name))

    def __enter__(self) -> "ProviderServer":
        self._thread.run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._close())
        self._thread.stop()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _close(self) -> None:
        if self._server is not None:
            await close_server(self._server)
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await _read(reader)) is not None:
                self.running += 1
                self.most_running = max(self.most_running, self.running)
                try:
                    goes_on = await self._respond(*request, writer)
                finally:
                    self.running -= 1
                if not goes_on:
                    break
        self._writers.discard(writer)
        writer.close()

    async def _respond(
        self, path: str, head: dict[str, str], body: dict[str, Any], writer: asyncio.StreamWriter
    ) -> bool:
        provider, model, streamed = _addressed(path, body)
        self.seen.append((provider, model, body))
        self.heads.append(head)
        self.arrivals.append(time.monotonic())
        answer = self._next(provider, streamed)
        if isinstance(answer, Answer):
            await asyncio.sleep(answer.delay)
            if answer.status == 0:
                writer.transport.abort()
                return False
            writer.write(_whole(answer, provider, model))
            await writer.drain()
            return True
        await _send_stream(answer, provider, model, writer)
        return False

    def _next(self, provider: str, streamed: bool) -> Answer | Stream:
        scripted = self._scripts.get(provider)
        if scripted:
            return scripted.popleft()
        return self._always.get(provider, Stream() if streamed else Answer())


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], dict[str, Any]] | None:
    line = await reader.readline()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (field_line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = field_line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return line.decode("latin-1").split(" ")[1], headers, json.loads(body)


def _addressed(path: str, body: dict[str, Any]) -> tuple[str, str, bool]:
    if "generatecontent" in path.lower():
        return "google", path.partition("/models/")[2].partition(":")[0], "streamGenerateContent" in path
    first = path.split("/")[1]
    known = "anthropic" if path.startswith("/v1/messages") else "openai"
    return known if first == "v1" else first, body["model"], bool(body.get("stream"))


def _whole(answer: Answer, provider: str, model: str) -> bytes:
    body = answer.body
    if body is None:
        dialect = spoken(provider)
        body = GOOD[dialect](model) if answer.status == 200 else ERRORS[dialect](answer.status, "unwell")
    headers = {"content-type": JSON} | answer.headers
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return _head(answer.status, headers | {"content-length": str(len(payload))}) + payload


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send_stream(stream: Stream, provider: str, model: str, writer: asyncio.StreamWriter) -> None:
    headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked", "connection": "close"}
    writer.write(_head(200, headers | stream.headers))
    async for text in _events(stream, provider, model):
        data = text.encode()
        if data:
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
    if stream.end == "reset":
        writer.transport.abort()
        return
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _events(stream: Stream, provider: str, model: str) -> AsyncIterator[str]:
    begin, word, finish, ping = STREAMS[spoken(provider)]
    for text in begin(model):
        yield text
    for item in stream.words:
        yield word(item)
    while stream.end == "pings":
        yield ping
        await asyncio.sleep(0.02)
    if stream.end == "finish":
        for text in finish():
            yield text
