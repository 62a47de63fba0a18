"""A proxy before a real service that understands what passes: it counts requests, and misbehaves like a sick service.

`TcpProxy` knows bytes only. This one knows where a request ends, so it can answer in the service's stead, hold back
whole answers, cut them, and tell a request from the opening of a connection. Optionally it speaks TLS to its clients,
with a certificate that can expire while it runs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.certificates import write_certificate
from tests.support.closing import close_server
from tests.support.connects import connects
from tests.support.loop_thread import LoopThread
from tests.support.ports import HOST, free_port
from tests.support.requests_in import Split

__all__ = ["FaultyProxy", "Sickness"]


@dataclass(frozen=True)
class Sickness:
    """What is wrong: ``kind`` is "refuse", "silent", "slow" (each request waits ``seconds``), "cut" (the connection is
    reset in the middle of an answer), "answer" (``answer`` comes instead, and ``then_close``), "expired" (the
    certificate) or "flap" (refuse and be well in turns of ``seconds``).
    """

    kind: str
    seconds: float = 0.0
    answer: bytes = b""
    then_close: bool = False


_WELL = Sickness("")


class FaultyProxy:
    """Stands before ``target_port``, on a port of its own, in a thread of its own; a context manager.

    ``tls``: a folder for its certificates; then clients speak TLS, and trust `trusted`.
    """

    def __init__(self, target_port: int, split: Split, tls: Path | None = None) -> None:
        self.port = free_port()
        self.requests: Counter[str] = Counter()
        self.accepted = 0
        self.trusted: Path | None = None
        self._target_port = target_port
        self._split = split
        self._carried = 0
        self._tried_before = 0
        self._sickness = _WELL
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flapping: asyncio.Task[None] | None = None
        self._tls = _Certificates(tls) if tls is not None else None
        if self._tls is not None:
            self.trusted = self._tls.bundle
        self._thread = LoopThread(f"faulty-proxy-{self.port}")

    def __enter__(self) -> Self:
        self._tried_before = connects(self.port)  # of a server that had the port before
        self._thread.run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._become(Sickness("refuse")))
        self._thread.stop()

    @property
    def tries(self) -> int:
        """Requests that clients in this process sent or tried to: those that arrived, and connections without one."""
        return self._thread.run(self._count())

    async def _count(self) -> int:
        """Where nobody is in the middle of counting."""
        tried = connects(self.port) - self._tried_before
        return sum(self.requests.values()) + max(tried, self.accepted) - self._carried

    def become(self, sickness: Sickness) -> None:
        """Be sick from now on, also on connections that are open."""
        self._thread.run(self._become(sickness))

    def heal(self) -> None:
        """Be well; connections of the sick time are closed."""
        self._thread.run(self._become(_WELL))

    async def _become(self, sickness: Sickness) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None
        before, self._sickness = self._sickness, sickness
        if self._tls is not None:
            self._tls.expire(sickness.kind == "expired")
        if sickness.kind == "flap":
            self._flapping = asyncio.create_task(self._flap(sickness.seconds))
        elif sickness.kind == "refuse":
            await self._refuse()
        else:
            await self._listen()
        if sickness.kind == "expired" or before is not _WELL:
            self._drop_all()
        await asyncio.sleep(
            0
        )  # what was dropped is closed in the loop's next turn: clients see it from now on
        await asyncio.sleep(0)

    async def _flap(self, seconds: float) -> None:
        while True:
            await self._refuse()
            await asyncio.sleep(seconds)
            await self._listen()
            await asyncio.sleep(seconds)

    async def _listen(self) -> None:
        if self._server is None:
            context = None if self._tls is None else self._tls.context
            self._server = await asyncio.start_server(self._serve, HOST, self.port, ssl=context)

    async def _refuse(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await close_server(server)
        self._drop_all()

    def _drop_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection(HOST, self._target_port)
            pumps = [
                asyncio.ensure_future(self._up(reader, writer, far)),
                asyncio.ensure_future(self._down(far_reader, writer)),
            ]
            _, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pending:
                pump.cancel()
        except OSError:
            _reset(writer)  # as the kernel does where nobody listens; only later than it would
        except asyncio.CancelledError:
            return  # the thread ends; asyncio would log a handler that was cancelled
        finally:
            self._writers.discard(writer)
            for end in (writer, far):
                if end is not None:
                    end.close()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        buffer, carried = b"", False
        with suppress(OSError):
            while data := await reader.read(65536):
                asked, buffer = self._split(buffer + data)
                for name, raw, handshake in asked:
                    if not handshake:
                        self.requests[name] += 1
                        self._carried += not carried
                        carried = True
                    if not await self._pass_on(raw, handshake, writer, far):
                        return

    async def _pass_on(
        self, raw: bytes, handshake: bool, writer: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> bool:
        """Send one request to where it should go; False ends the connection."""
        sick = self._sickness
        if sick.kind == "silent":
            return True
        if sick.kind == "slow":
            await asyncio.sleep(sick.seconds)
        if sick.kind == "answer" and not handshake:
            writer.write(sick.answer)
            await writer.drain()
            return not sick.then_close
        far.write(raw)
        await far.drain()
        return True

    async def _down(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await far_reader.read(65536):
                if self._sickness.kind == "silent":
                    continue
                if self._sickness.kind == "cut":
                    writer.write(data[: max(1, len(data) // 2)])
                    await writer.drain()
                    _reset(writer)
                    return
                writer.write(data)
                await writer.drain()


class _Certificates:
    """A good certificate and an expired one, one of them in use; ``bundle`` is what trusts both."""

    def __init__(self, folder: Path) -> None:
        self._good = write_certificate(folder / "good")
        self._expired = write_certificate(folder / "expired", expired=True)
        self.bundle = folder / "trusted.pem"
        self.bundle.write_bytes(b"".join(pair[0].read_bytes() for pair in (self._good, self._expired)))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.expire(False)

    def expire(self, expired: bool) -> None:
        """What is shown to those who connect from now on."""
        self.context.load_cert_chain(*(self._expired if expired else self._good))


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST."""
    connection = writer.get_extra_info("socket")
    if connection is None:
        return
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
