"""From the first call to the last: which calls are in flight, and how they end when the server is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import anyio

__all__ = ["Lifecycle", "ServerStopping"]

QUIET_SECONDS: Final = 0.3
"""A client may need one more small answer before it takes a result: the SDK's own asks for the tool's schema."""


class ServerStopping(Exception):
    """The server is stopping: the call was not begun, or it was cut because the time to finish was over."""


class Lifecycle:
    """Counts calls in flight. Told to drain, it takes no new work and says when the last call has ended."""

    def __init__(self) -> None:
        self.draining = False
        self._calls: set[anyio.CancelScope] = set()
        self._streams: set[anyio.CancelScope] = set()
        self._begun = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    @contextlib.contextmanager
    def call(self, *, new_work: bool = True) -> Iterator[None]:
        """A call that a drain waits for.

        Raises ServerStopping when it is ``new_work`` while draining, or when it was cut by a drain's end.
        """
        if self.draining and new_work:
            raise ServerStopping("the server is stopping")
        with anyio.CancelScope() as scope:
            self._calls.add(scope)
            self._begun += 1
            self._idle.clear()
            try:
                yield
            finally:
                self._calls.discard(scope)
                if not self._calls:
                    self._idle.set()
        if scope.cancelled_caught:
            raise ServerStopping("the server stopped before the call was done")

    @contextlib.contextmanager
    def stream(self) -> Iterator[anyio.CancelScope]:
        """A stream without an end of its own: a drain ends it at once. Raises ServerStopping when it may not begin."""
        if self.draining:
            raise ServerStopping("the server is stopping")
        with anyio.CancelScope() as scope:
            self._streams.add(scope)
            try:
                yield scope
            finally:
                self._streams.discard(scope)

    async def drain(self, seconds: float) -> bool:
        """Take no new work, end the streams, wait for the calls, then cut those that are left.

        ``seconds`` bounds the wait. True if no call had to be cut.
        """
        self.draining = True
        for stream in list(self._streams):
            stream.cancel()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet()
        except TimeoutError:
            cut = list(self._calls)
            for call in cut:
                call.cancel()
            return not cut
        return True

    async def _quiet(self) -> None:
        """Wait until nothing is in flight and, where something was, its clients have nothing more to ask."""
        if not self._calls:
            return
        begun = -1
        while self._calls or self._begun != begun:
            begun = self._begun
            await self._idle.wait()
            await asyncio.sleep(QUIET_SECONDS)
