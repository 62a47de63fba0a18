"""A body of an answer that ends with an error where it is longer than any answer: a memory is soon full."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx2

__all__ = ["LONGEST_BODY", "BoundedBody"]

LONGEST_BODY: Final = 64 * 1024 * 1024
"""Bytes. Answers in words have thousands; those with pictures in them some millions."""


class BoundedBody(httpx2.AsyncByteStream):
    """The bytes of ``body``, at most ``longest``. Raises `httpx2.RemoteProtocolError` where there are more."""

    def __init__(self, body: httpx2.AsyncByteStream, longest: int = LONGEST_BODY) -> None:
        self._body = body
        self._left = longest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._left -= len(piece)
            if self._left < 0:
                raise httpx2.RemoteProtocolError("an answer longer than any")
            yield piece

    async def aclose(self) -> None:
        """Close the body."""
        await self._body.aclose()
