"""A TCP proxy that misbehaves on demand: slow, silent, cutting, resetting, refusing. Counts connections."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from tests.support.closing import close_server
from tests.support.loop_thread import LoopThread
from tests.support.ports import HOST, free_port

__all__ = ["TcpProxy"]


class TcpProxy:
    """Forwards to a port of this machine until told otherwise, in its own thread; a context manager.

    `connections` counts what was accepted, `bytes_up` what clients sent. Modes hold for old and new
    connections until `heal()`.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.connections = 0
        self.bytes_up = 0
        self._target_port = target_port
        self._latency = 0.0
        self._silent = False
        self._reset_on_accept = False
        self._cut_after: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread = LoopThread(f"tcp-proxy-{self.port}")

    def __enter__(self) -> "TcpProxy":
        self._thread.run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._refuse(reset=True))
        self._thread.stop()

    def slow(self, seconds: float) -> None:
        """Hold back each piece, in each direction, this long."""
        self._latency = seconds

    def black_hole(self) -> None:
        """Accept and swallow everything, answer nothing."""
        self._silent = True

    def reset(self) -> None:
        """Send RST on every connection, old and new."""
        self._reset_on_accept = True
        self._thread.run(self._drop_all(reset=True))

    def cut_after(self, count: int) -> None:
        """Close each connection once it has answered this many bytes."""
        self._cut_after = count

    def refuse(self) -> None:
        """Close the port and all connections: new ones are refused."""
        self._thread.run(self._refuse(reset=False))

    def heal(self) -> None:
        """Forward again; connections that were broken or silenced are closed."""
        self._latency, self._silent, self._reset_on_accept, self._cut_after = 0.0, False, False, None
        self._thread.run(self._drop_all(reset=False))
        self._thread.run(self._listen())

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _refuse(self, reset: bool) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await close_server(server)
        await self._drop_all(reset)

    async def _drop_all(self, reset: bool) -> None:
        for writer in list(self._writers):
            _drop(writer, reset)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._reset_on_accept:
            _drop(writer, reset=True)
            return
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            self._writers.discard(writer)
            _drop(writer, reset=True)
            return
        self._writers.add(far_writer)
        try:
            await self._both_ways(reader, writer, far_reader, far_writer)
        finally:
            for end in (writer, far_writer):
                self._writers.discard(end)
                _drop(end, reset=False)

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        answered = 0

        def up(data: bytes) -> bytes:
            self.bytes_up += len(data)
            return data

        def down(data: bytes) -> bytes:
            nonlocal answered
            if self._cut_after is None:
                return data
            allowed = data[: max(self._cut_after - answered, 0)]
            answered += len(data)
            return allowed

        pumps = [
            asyncio.ensure_future(self._pump(reader, far_writer, up)),
            asyncio.ensure_future(self._pump(far_reader, writer, down)),
        ]
        _, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pending:
            pump.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, see: Callable[[bytes], bytes]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self._latency:
                    await asyncio.sleep(self._latency)
                passed = see(data)
                if self._silent:
                    continue
                writer.write(passed)
                await writer.drain()
                if len(passed) < len(data):
                    return


def _drop(writer: asyncio.StreamWriter, reset: bool) -> None:
    connection = writer.get_extra_info("socket")
    if reset and connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
