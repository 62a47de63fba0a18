"""Streams that fall back: which rung gives the items, and what is said about it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    Fallback,
    LastGood,
    Pipeline,
    Rung,
    StreamInterrupted,
    Timeout,
    Value,
    collect_degradations,
)
from tests.support.clock import now
from tests.support.streams import Scripted, collect

DOWN = ConnectionError("down")


async def falls_back(*rungs: Any, script: list[Any]) -> tuple[list[Any], list[tuple[str, str, str]]]:
    pipeline = Pipeline("s", Fallback(*rungs), Timeout(5), CircuitBreaker("b", fail_max=1))
    with collect_degradations() as notes:
        items = await collect(pipeline.stream(Scripted(script)))
    return items, [(note.service, note.reason, note.source) for note in notes]


async def one() -> str:
    return "one"


async def test_a_rung_gives_a_stream_or_one_item() -> None:
    def source() -> AsyncIterator[str]:
        return Scripted(["x", "y"])()

    by = [("s", "ConnectionError", "rung")]
    assert await falls_back(Rung(Scripted(["x", 1, "y"]), "rung"), script=[DOWN]) == (["x", "y"], by)
    assert await falls_back(Rung(source, "rung"), script=[DOWN]) == (["x", "y"], by)
    assert await falls_back(Rung(one, "rung"), script=[DOWN]) == (["one"], by)
    assert await falls_back(Rung(Value("fixed"), "rung"), script=[DOWN]) == (["fixed"], by)
    assert await falls_back(Rung(Scripted([]), "rung"), script=[DOWN]) == ([], by)


async def test_a_rung_that_breaks_before_its_first_item_gives_way_to_the_next() -> None:
    broken: list[Callable[..., Any]] = [Scripted([1, TypeError("bug")]), Scripted([DOWN]), LastGood(60)]
    items, notes = await falls_back(*broken, Value("last"), script=[DOWN])
    assert (items, notes) == (["last"], [("s", "ConnectionError", "Value")])
    with pytest.raises(ConnectionError, match="down"):
        await falls_back(*broken, script=[DOWN])


async def test_a_rung_that_breaks_after_its_first_item_interrupts() -> None:
    with pytest.raises(StreamInterrupted) as caught:
        await falls_back(Scripted(["x", ConnectionResetError()]), script=[DOWN])
    assert caught.value.received == ("x",)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_after_our_own_time_ran_out_only_what_does_not_wait_is_asked() -> None:
    items, notes = await falls_back(Scripted(["x"]), one, Value("fixed"), script=[9, "late"])
    assert (items, notes) == (["fixed"], [("s", "TimedOut", "Value")])
    assert now() == 5


async def test_what_is_sent_reaches_a_rungs_stream_too() -> None:
    async def echo() -> AsyncGenerator[str, str]:
        heard = yield "ready"
        while True:
            heard = yield f"heard {heard}"

    stream = Pipeline("s", Fallback(echo)).stream(Scripted([DOWN]))
    assert await anext(stream) == "ready"
    assert await stream.asend("hello") == "heard hello"
    await stream.aclose()
