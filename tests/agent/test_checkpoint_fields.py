"""Which field of a record is which part of a thread's checkpoints, and what is made of fields that are none."""

from __future__ import annotations

from typing import Any, cast

import ormsgpack
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from mcp_server_langgraph.agent.checkpoints import RedisSaver, thread_of
from mcp_server_langgraph.auth.records import RedisRecords

THREAD = thread_of("ann", "c", 1, "hello")
CONFIG: RunnableConfig = {"configurable": {"thread_id": THREAD, "checkpoint_ns": ""}}


class Kept:
    """Records in a dictionary."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}

    async def read(self, name: tuple[str, str]) -> dict[bytes, bytes]:
        assert ".".join(name) == THREAD
        return self.fields

    async def write(
        self, name: tuple[str, str], replaced: dict[bytes, bytes], first: dict[bytes, bytes]
    ) -> None:
        assert ".".join(name) == THREAD
        self.fields = {**first, **self.fields, **replaced}


def saver() -> tuple[RedisSaver, Kept]:
    records = Kept()
    return RedisSaver(cast("RedisRecords", records)), records


async def put(saver: RedisSaver) -> RunnableConfig:
    checkpoint = {
        **empty_checkpoint(),
        "channel_values": {"said": "hello"},
        "channel_versions": {"said": "1"},
    }
    return await saver.aput(CONFIG, checkpoint, {"step": 1}, {"said": "1"})  # type: ignore[arg-type, typeddict-item]


async def test_a_checkpoint_is_read_as_it_was_put_with_what_its_tasks_wrote() -> None:
    first, records = saver()
    stored = await put(first)
    await first.aput_writes(stored, [("said", "a"), ("more", {"b": 1})], "task")
    found = await RedisSaver(cast("RedisRecords", records)).aget_tuple(CONFIG)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"said": "hello"}
    assert found.metadata["step"] == 1
    assert found.pending_writes == [("task", "said", "a"), ("task", "more", {"b": 1})]


async def test_what_a_task_wrote_first_stays_and_how_it_ended_is_replaced() -> None:
    keeps, _ = saver()
    stored = await put(keeps)
    for value in ("first", "second"):
        await keeps.aput_writes(stored, [("said", value), ("__error__", value)], "task")
    found = await keeps.aget_tuple(CONFIG)
    assert found is not None
    assert sorted(found.pending_writes or []) == [("task", "__error__", "second"), ("task", "said", "first")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"c\0\0zzz", ormsgpack.packb(5)),
        (b"c\0\0zzz", ormsgpack.packb([1, 2])),
        (b"c\0\0zzz", ormsgpack.packb([1, 2, 3])),
        (b"c\0\0zzz", b"\xc1"),
        (b"c\0\0zzz\0more", ormsgpack.packb([[], [], None])),
        (b"b\0\0said\x002", ormsgpack.packb(7)),
        (b"w\0\0zzz\0task\0one", ormsgpack.packb(["task", "said", ["null", b""], ""])),
        (b"x\0\0", ormsgpack.packb(1)),
        (b"c", ormsgpack.packb(1)),
        (b"", b""),
        (b"\xff", b"x"),
    ],
)
async def test_a_field_that_is_no_part_of_a_checkpoint_takes_nothing_else_with_it(
    name: bytes, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    keeps, records = saver()
    await put(keeps)
    records.fields[name] = value
    found = await keeps.aget_tuple(CONFIG)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"said": "hello"}
    assert caplog.text.count("cannot be read and is left out") == 1


async def test_checkpoints_are_listed_by_thread_only() -> None:
    keeps, _ = saver()
    stored = await put(keeps)
    listed: list[Any] = [found async for found in keeps.alist(CONFIG)]
    assert [found.config for found in listed] == [stored]
    with pytest.raises(ValueError, match="by thread"):
        _ = [found async for found in keeps.alist(None)]


def test_a_thread_can_be_told_by_any_text() -> None:
    broken = thread_of("ann", "\ud800")
    assert broken != thread_of("ann", "\ud801")
    assert broken.encode()
    assert thread_of("ann", "a\0b") != thread_of("ann", "a", "b")
