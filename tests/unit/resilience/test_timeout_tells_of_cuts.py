"""What was raised because of a cut says so: our error stands before the cancellation that it came of."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import TimedOut, timeout


def told(exc: BaseException) -> bool:
    ours = exc.__context__
    return isinstance(ours, TimedOut) and isinstance(ours.__context__, asyncio.CancelledError)


async def test_an_error_that_took_the_place_of_the_cancellation() -> None:
    async def cut() -> None:
        async with timeout(1):
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError:
                raise KeyError  # noqa: B904 (its context is what is looked at)

    with pytest.raises(KeyError) as caught:
        await cut()
    assert told(caught.value)


async def test_each_error_of_a_group() -> None:
    errors: list[Exception] = [KeyError(), TypeError()]

    async def cut() -> None:
        async with timeout(1):
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError as exc:
                for error in errors:
                    error.__context__ = exc
            raise ExceptionGroup("several", errors)

    with pytest.raises(ExceptionGroup) as caught:
        await cut()
    assert [told(error) for error in caught.value.exceptions] == [True, True]
