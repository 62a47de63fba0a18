"""An answer without end ends with an error, wherever its bytes are cut."""

from collections.abc import AsyncIterator
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.llm.bounded_body import BoundedBody


class Body(httpx2.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def aclose(self) -> None:
        self.closed = True


def drained(stream: httpx2.AsyncByteStream) -> bytes:
    """All of it; these streams wait for nothing."""

    async def read() -> bytes:
        return b"".join([piece async for piece in stream])

    reading = read()
    try:
        reading.send(None)
    except StopIteration as end:
        return bytes(end.value)
    raise AssertionError("it waits")


def cut(text: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


@given(st.lists(st.integers(0, 1000), max_size=20), st.integers(0, 200))
def test_a_body_passes_up_to_its_bound(places: list[int], longest: int) -> None:
    body = BoundedBody(Body(cut(b"x" * 100, places)), longest)
    if longest >= 100:
        assert len(drained(body)) == 100
    else:
        with pytest.raises(httpx2.RemoteProtocolError):
            drained(body)


async def test_closing_it_closes_what_it_reads() -> None:
    body = Body([])
    await BoundedBody(body).aclose()
    assert body.closed
