"""Who can write into Redis writes a checkpoint that imports, makes or calls something when it is read."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import cast

import ormsgpack
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from mcp_server_langgraph.agent.checkpoints import RedisSaver, thread_of
from mcp_server_langgraph.auth.records import RedisRecords

CONFIG: RunnableConfig = {"configurable": {"thread_id": thread_of("ann", "c"), "checkpoint_ns": ""}}

made: list[str] = []


@dataclass
class Bomb:
    """Says when it is made."""

    text: str

    def __post_init__(self) -> None:
        made.append(self.text)


class Poisoned:
    """Records that an attacker has written: whoever reads a part of the checkpoint is given the bomb."""

    def __init__(self, part: str) -> None:
        permissive = JsonPlusSerializer(allowed_msgpack_modules=True)
        bomb = permissive.dumps_typed(Bomb("boom"))
        checkpoint = {**empty_checkpoint(), "id": "1", "channel_versions": {"said": "1"}}
        plain = permissive.dumps_typed(checkpoint), permissive.dumps_typed({"step": 1}), None
        self.bomb = bomb
        self.fields = {b"c\0\0" + b"1": ormsgpack.packb(plain)}
        if part == "checkpoint":
            self.fields[b"c\0\0" + b"1"] = ormsgpack.packb((bomb, *plain[1:]))
        elif part == "metadata":
            self.fields[b"c\0\0" + b"1"] = ormsgpack.packb((plain[0], bomb, None))
        elif part == "value":
            self.fields[b"b\0\0said\0" + b"1"] = ormsgpack.packb(("1", *bomb))
        else:
            self.fields[b"w\0\0" + b"1\0task\0" + b"0"] = ormsgpack.packb(("task", "said", bomb, ""))

    async def read(self, _: object) -> dict[bytes, bytes]:
        return self.fields


@pytest.mark.parametrize("part", ["checkpoint", "metadata", "value", "write"])
async def test_a_class_named_in_a_poisoned_checkpoint_is_never_made(part: str) -> None:
    records = Poisoned(part)
    made.clear()
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(records.bomb)
    assert made == ["boom"], "the bomb is one, to who trusts what he reads"
    made.clear()
    saver = RedisSaver(cast("RedisRecords", records))
    with contextlib.suppress(TypeError, KeyError, AttributeError, ValueError):
        await saver.aget_tuple(CONFIG)
    assert made == []
