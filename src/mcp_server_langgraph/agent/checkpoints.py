"""LangGraph checkpoints in Redis or Valkey without modules: one record for each thread.

A thread here is one turn: a few steps, deleted when it is answered. So a thread is read and understood as a whole, by
LangGraph's own saver for memory; this module only says which field of the record is which of its entries:

    c ns id             a checkpoint, its metadata, and its parent's id
    b ns channel version    the value of a channel
    w ns id task index  what a task of a checkpoint's step wrote: as soon as it is done, before the others are

What is read back may only be what LangGraph counts as safe: who can write into Redis cannot make this process import
or call anything.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from mcp_server_langgraph.auth.owners import owner_tag

if TYPE_CHECKING:
    from mcp_server_langgraph.auth.records import RecordName, RedisRecords

__all__ = ["RedisSaver", "thread_of"]

_log = logging.getLogger(__name__)

_SEPARATOR: Final = "\0"


def thread_of(owner: str, *parts: str | int) -> str:
    """The id of a thread that only this owner can have: the owner's tag, and a digest of what tells the thread."""
    text = _SEPARATOR.join(f"{len(str(part))}:{part}" for part in parts)
    return f"{owner_tag(owner)}.{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()}"


class RedisSaver(BaseCheckpointSaver[str]):
    """A checkpointer on records: asynchronous only. Thread ids are those of `thread_of`."""

    def __init__(self, records: RedisRecords) -> None:
        super().__init__(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self._records = records

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return (await self._thread(_thread_id(config))).get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        if config is None:
            raise ValueError("checkpoints are listed by thread")
        thread = await self._thread(_thread_id(config))
        for found in thread.list(config, filter=filter, before=before, limit=limit):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread = InMemorySaver(serde=self.serde)
        stored = thread.put(config, checkpoint, metadata, new_versions)
        await self._records.write(_name(_thread_id(config)), *_fields(thread))
        return stored

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        thread = InMemorySaver(serde=self.serde)
        thread.put_writes(config, writes, task_id, task_path)
        await self._records.write(_name(_thread_id(config)), *_fields(thread))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._records.delete(_name(thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        fields = await self._records.read(_name(source_thread_id))
        await self._records.write(_name(target_thread_id), fields, {})

    def get_next_version(self, current: str | None, channel: None) -> str:
        return InMemorySaver(serde=self.serde).get_next_version(current, channel)

    async def _thread(self, thread_id: str) -> InMemorySaver:
        thread = InMemorySaver(serde=self.serde)
        for name, value in (await self._records.read(_name(thread_id))).items():
            try:
                _restore(thread, thread_id, name, value)
            except (ValueError, TypeError) as error:
                _log.error("a part of a checkpoint cannot be read and is left out: %s", type(error).__name__)
        return thread


def _fields(thread: InMemorySaver) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The entries of a saver as fields: those that replace what is there, and those that do not."""
    replaced: dict[bytes, bytes] = {}
    first: dict[bytes, bytes] = {}
    for spaces in thread.storage.values():
        for space, checkpoints in spaces.items():
            for checkpoint_id, entry in checkpoints.items():
                replaced[_field("c", space, checkpoint_id)] = ormsgpack.packb(entry)
    for (_, space, channel, version), blob in thread.blobs.items():
        replaced[_field("b", space, channel, version)] = ormsgpack.packb((version, *blob))
    for (_, space, checkpoint_id), writes in thread.writes.items():
        for (task, index), write in writes.items():
            into = first if index >= 0 else replaced
            into[_field("w", space, checkpoint_id, task, index)] = ormsgpack.packb(write)
    return replaced, first


def _restore(thread: InMemorySaver, thread_id: str, name: bytes, value: bytes) -> None:
    kind, space, *rest = name.decode().split(_SEPARATOR)
    entry: Any = ormsgpack.unpackb(value)
    match kind, rest:
        case "c", [checkpoint_id]:
            checkpoint, metadata, parent = entry
            thread.storage[thread_id][space][checkpoint_id] = (tuple(checkpoint), tuple(metadata), parent)
        case "b", [channel, _]:
            version, *blob = entry
            thread.blobs[thread_id, space, channel, version] = tuple(blob)
        case "w", [checkpoint_id, task, index]:
            writer, channel, written, path = entry
            thread.writes[thread_id, space, checkpoint_id][task, int(index)] = (
                writer,
                channel,
                tuple(written),
                path,
            )
        case _:
            raise ValueError("no part of a checkpoint")


def _field(*parts: object) -> bytes:
    return _SEPARATOR.join(map(str, parts)).encode()


def _thread_id(config: Mapping[str, Any]) -> str:
    return str(config["configurable"]["thread_id"])


def _name(thread_id: str) -> RecordName:
    tag, _, rest = thread_id.partition(".")
    return tag, rest
