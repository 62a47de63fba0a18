"""A small HTTP/1.1 server for wire-faithful stand-ins: it counts requests, and misbehaves on demand."""

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.closing import close_server
from tests.support.loop_thread import LoopThread
from tests.support.ports import HOST, free_port

__all__ = ["Fault", "HttpServer", "Request", "Response"]


@dataclass(frozen=True)
class Request:
    """What arrived on the wire. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class Response:
    """What is answered. `body` is sent as it is when it is bytes, else as JSON."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What to do instead: `kind` is "answer", "hang", "reset", "garbage", "delay" (and then answer), "cut" or
    "stall" (in mid-body, after `bytes` of it).

    `path` limits it to requests whose path contains that text.
    """

    kind: str
    response: Response = field(default_factory=Response)
    seconds: float = 0.0
    path: str = ""
    bytes: int = 0


class HttpServer:
    """Serves `handle` in a thread of its own on a free port that stays the same over `stop` and `start`.

    `requests` counts every request that was read from the wire, by "METHOD /path"; faults count too.
    Subclasses give `handle`; a method of a subclass that changes state may be called from the test's thread.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self._fault: Fault | None = None
        self._fault_left: int | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = LoopThread(f"http-{self.port}")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def count(self, path: str = "") -> int:
        """Requests so far whose "METHOD /path" contains this text."""
        return sum(number for request, number in self.requests.items() if path in request)

    def start(self) -> None:
        self._thread.run(self._listen())

    def stop(self) -> None:
        """Refuse connections and cut those that are open, as a killed process does."""
        self._thread.run(self._close())

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.stop()

    def fail(
        self, status: int, body: Any = b"", *, times: int | None = None, path: str = "", **headers: str
    ) -> None:
        """Answer with this status, `times` requests or until `heal`; `retry_after="2"` is the header Retry-After."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._set_fault(Fault("answer", Response(body, status, named), path=path), times)

    def hang(self, *, times: int | None = None, path: str = "") -> None:
        """Read requests and never answer."""
        self._set_fault(Fault("hang", path=path), times)

    def delay(self, seconds: float, *, times: int | None = None, path: str = "") -> None:
        """Answer this much later."""
        self._set_fault(Fault("delay", seconds=seconds, path=path), times)

    def reset(self, *, times: int | None = None, path: str = "") -> None:
        """Read requests and send RST."""
        self._set_fault(Fault("reset", path=path), times)

    def cut(self, after: int, *, times: int | None = None, path: str = "") -> None:
        """Answer, and end the connection after so many bytes of the body."""
        self._set_fault(Fault("cut", path=path, bytes=after), times)

    def stall(self, after: int, *, times: int | None = None, path: str = "") -> None:
        """Answer, and go silent after so many bytes of the body."""
        self._set_fault(Fault("stall", path=path, bytes=after), times)

    def garbage(self, *, times: int | None = None, path: str = "") -> None:
        """Answer 200 with HTML where JSON is due, as a wrong proxy does."""
        page = Response(b"<html><body>Welcome</body></html>", 200, {"content-type": "text/html"})
        self._set_fault(Fault("answer", page, path=path), times)

    def noise(self, *, times: int | None = None, path: str = "") -> None:
        """Answer something that is not HTTP."""
        self._set_fault(Fault("garbage", path=path), times)

    def heal(self) -> None:
        """Answer again."""
        self._fault = None

    async def handle(self, request: Request) -> Response:
        raise NotImplementedError

    def _set_fault(self, fault: Fault, times: int | None) -> None:
        self._fault, self._fault_left = fault, times

    def _take_fault(self, request: Request) -> Fault | None:
        fault = self._fault
        if fault is None or fault.path not in request.path:
            return None
        if self._fault_left is not None:
            self._fault_left -= 1
            if self._fault_left <= 0:
                self._fault = None
        return fault

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _close(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await close_server(server)
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while (request := await _read_request(reader)) is not None:
                self.requests[f"{request.method} {request.path}"] += 1
                if not await self._answer(request, writer):
                    break
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False ends the connection."""
        fault = self._take_fault(request)
        if fault is not None and fault.kind == "hang":
            await asyncio.Event().wait()
        if fault is not None and fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        if fault is not None and fault.kind == "garbage":
            writer.write(b"\x00\x01 this is not HTTP\r\n\r\n")
            await writer.drain()
            return False
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        response = (
            fault.response if fault is not None and fault.kind == "answer" else await self.handle(request)
        )
        head, body = _wire(response)
        broken = fault is not None and fault.kind in ("cut", "stall")
        writer.write(head + (body[: fault.bytes] if fault is not None and broken else body))
        await writer.drain()
        if fault is not None and fault.kind == "stall":
            await asyncio.Event().wait()
        return not broken


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    line = await reader.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (field_line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = field_line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body)


def _wire(response: Response) -> tuple[bytes, bytes]:
    is_bytes = isinstance(response.body, bytes)
    body = response.body if is_bytes else json.dumps(response.body).encode()
    headers = {"content-type": "application/octet-stream" if is_bytes else "application/json"}
    headers |= {name.lower(): value for name, value in response.headers.items()}
    headers["content-length"] = str(len(body))
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unofficial"  # 529, "overloaded", is in no RFC
