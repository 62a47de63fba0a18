"""The last good answer as a rung: to which question, with which age, and how many are remembered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Fallback,
    Kind,
    LastGood,
    Pipeline,
    Retry,
    Rung,
    Value,
    collect_degradations,
)
from tests.support.clock import now


class Service:
    def __init__(self) -> None:
        self.down = False

    async def read(self, key: Any, *, unit: str = "s", token: str | None = None) -> str:
        if self.down:
            raise ConnectionError
        return f"{key} in {unit} at {now():g}"


async def test_the_last_good_answer_comes_with_its_age_and_only_to_the_same_question() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60), Value("nothing")))
    assert await pipeline.call(service.read, "cpu") == "cpu in s at 0"
    await pipeline.call(service.read, "cpu", unit="h")
    await asyncio.sleep(10)
    service.down = True
    with collect_degradations() as notes:
        assert await pipeline.call(service.read, "cpu") == "cpu in s at 0"
        assert await pipeline.call(service.read, "cpu", unit="h") == "cpu in h at 0"
        assert await pipeline.call(service.read, "ram") == "nothing"
    assert [(note.source, note.age) for note in notes] == [
        ("LastGood", 10),
        ("LastGood", 10),
        ("Value", None),
    ]


async def test_it_is_good_up_to_its_age_and_no_longer() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60)))
    await pipeline.call(service.read, "cpu")
    await asyncio.sleep(30)
    await pipeline.call(service.read, "cpu")
    service.down = True
    await asyncio.sleep(60)
    assert await pipeline.call(service.read, "cpu") == "cpu in s at 30"
    await asyncio.sleep(0.001)
    with pytest.raises(ConnectionError):
        await pipeline.call(service.read, "cpu")


async def test_answers_of_rungs_are_not_remembered() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60), Value("nothing")))
    service.down = True
    assert [await pipeline.call(service.read, "cpu") for _ in range(2)] == ["nothing", "nothing"]


async def test_it_remembers_so_many_and_forgets_what_was_longest_unused() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60, max_size=2), Value("nothing")))
    for key in ("a", "b"):
        await pipeline.call(service.read, key)
    service.down = True
    assert await pipeline.call(service.read, "a") == "a in s at 0"
    service.down = False
    await pipeline.call(service.read, "c")
    service.down = True
    known = [await pipeline.call(service.read, key) for key in ("a", "b", "c")]
    assert known == ["a in s at 0", "nothing", "c in s at 0"]


async def test_a_key_of_ones_own_says_what_the_same_question_is() -> None:
    service = Service()
    memory = LastGood(60, key=lambda key, **_: str(key).lower())
    pipeline = Pipeline("s", Fallback(Rung(memory, with_error=True)))
    await pipeline.call(service.read, "CPU")
    service.down = True
    assert await pipeline.call(service.read, "cpu", unit="h") == "CPU in s at 0"


async def test_an_idempotency_key_is_no_part_of_the_question() -> None:
    service = Service()
    retry = Retry(1, kind=Kind.IDEMPOTENT_WRITE, idempotency_key="token")
    pipeline = Pipeline("s", Fallback(LastGood(60)), retry)
    await pipeline.call(service.read, "cpu")
    service.down = True
    assert await pipeline.call(service.read, "cpu") == "cpu in s at 0"


async def test_arguments_that_cannot_be_a_key_do_not_break_a_good_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60)))
    assert await pipeline.call(service.read, ["a", "list"]) == "['a', 'list'] in s at 0"
    service.down = True
    with pytest.raises(ConnectionError):
        await pipeline.call(service.read, ["a", "list"])
    assert caplog.text.count("LastGood cannot remember") == 1
