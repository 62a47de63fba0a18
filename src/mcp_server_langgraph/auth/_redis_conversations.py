"""Conversations in Redis: what goes over the wire, and nothing about what to do when it fails.

    {namespace}:{<tag>}:conversation:<id>   hash, see `_session_scripts`
    {namespace}:{<tag>}:conversations       sorted set of the owner's conversation ids, by time of the last append

The tag is a digest of the owner. It keeps owners apart: an id is looked up among its owner's only, so nobody can name
another's, choose it before it exists, or guess it. And its braces keep all of an owner's keys in one slot of a Redis
Cluster, so what spans them (the index, the limits) is one atomic step there too.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from redis import exceptions

from mcp_server_langgraph.auth import _session_scripts as scripts
from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._redis_client import RedisClient
from mcp_server_langgraph.auth._session_errors import (
    ConversationConflict,
    ConversationDeleted,
    ConversationNotOwned,
    LimitReached,
    SessionDamaged,
    SessionError,
)
from mcp_server_langgraph.auth._session_limits import SessionLimits
from mcp_server_langgraph.auth.owners import owner_tag

__all__ = ["RedisConversations"]

_log = logging.getLogger(__name__)

_MESSAGE: Final = b"message:"
_NO_LIMITS: Final = SessionLimits(None, None, None)


class RedisConversations:
    """The session store's operations on a Redis server: one attempt each, raising what redis-py raises.

    `ttl` is the seconds a conversation is kept after its last append (and reading, where `extend_on_read`). `clock`
    gives seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float,
        namespace: str,
        limits: SessionLimits,
        extend_on_read: bool = False,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if "{" in namespace:
            raise ValueError(f"namespace must not contain a brace: {namespace!r}")
        self.client = RedisClient(url, ca_file=ca_file)
        self._ttl_ms = int(ttl * 1000)
        self._namespace = namespace
        self._limits = limits
        self._extend_on_read = extend_on_read
        self._clock = clock

    async def append(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        *,
        earlier: Sequence[StoredMessage] = (),
        expected_version: int | None = None,
    ) -> Conversation | SessionError:
        """Merge the messages in and give the whole conversation, or why they were refused.

        `earlier` messages were acknowledged already: they are merged before and in any case.
        """
        limits = self._limits if messages else _NO_LIMITS
        status, *rest = await self._run(
            scripts.APPEND,
            (self._conversation_key(owner, conversation_id), self._index_key(owner)),
            _bytes(owner),
            self._ttl_ms,
            self._now_ms(),
            _bytes(conversation_id),
            self._prefix(owner),
            limits.conversations or 0,
            limits.messages or 0,
            limits.bytes or 0,
            -1 if expected_version is None else expected_version,
            len(earlier),
            *(part for message in (*earlier, *messages) for part in _fields(message)),
        )
        if status == b"ok":
            return self._conversation(conversation_id, owner, _record(rest[0])) or SessionDamaged()
        return self._refused(status.decode(), _record(rest[0]) if rest else {})

    async def get(self, conversation_id: str, owner: str) -> Conversation | None:
        key = self._conversation_key(owner, conversation_id)
        if self._extend_on_read:
            keys = (key, self._index_key(owner))
            now = self._now_ms()
            record = await self._run(scripts.READ, keys, self._ttl_ms, now, _bytes(conversation_id))
        else:
            record = await self._ask(self.client.execute("HGETALL", key))
        return self._conversation(conversation_id, owner, _record(record))

    async def latest(self, owner: str, limit: int) -> list[str]:
        """Ids of the owner's conversations, the one appended to last first."""
        ids = await self._ask(self.client.execute("ZREVRANGE", self._index_key(owner), 0, limit - 1))
        return [name.decode(errors="replace") for name in ids]

    async def get_many(self, conversation_ids: Sequence[str], owner: str) -> list[Conversation]:
        """Those of the owner's that exist and can be read."""
        keys = [self._conversation_key(owner, name) for name in conversation_ids]
        records = await self._run(scripts.MANY, keys)
        found = (
            self._conversation(name, owner, _record(record))
            for name, record in zip(conversation_ids, records, strict=True)
        )
        return [conversation for conversation in found if conversation is not None]

    async def count(self, owner: str) -> int:
        """How many conversations the owner has."""
        counted = await self._run(scripts.COUNT, (self._index_key(owner),), self._now_ms(), self._ttl_ms)
        return int(counted)

    async def delete(self, conversation_id: str, owner: str, *, anyway: bool = False) -> bool:
        """False if there was none. `anyway`: something may be on its way there, and is to be refused."""
        keys = (self._conversation_key(owner, conversation_id), self._index_key(owner))
        arguments = (_bytes(owner), self._ttl_ms, _bytes(conversation_id), int(anyway))
        return bool(await self._run(scripts.DELETE, keys, *arguments))

    async def delete_all(self, owner: str, others: Sequence[str]) -> list[str]:
        """Delete all of the owner's, and `others` of which something may be on its way. Gives the ids of the former."""
        arguments = (_bytes(owner), self._ttl_ms, self._prefix(owner), *map(_bytes, others))
        ids = await self._run(scripts.DELETE_ALL, (self._index_key(owner),), *arguments)
        return [name.decode(errors="replace") for name in ids]

    async def ping(self) -> None:
        """See that it answers. Not PING, which in a cluster goes to every node, the replicas too."""
        await self.client.execute("EXISTS", f"{self._namespace}:probe")

    async def aclose(self) -> None:
        await self.client.aclose()

    async def _run(self, script: str, keys: Sequence[bytes], *arguments: Any) -> Any:
        return await self._ask(self.client.run(script, keys, *arguments))

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except exceptions.ResponseError as error:
            if "WRONGTYPE" in str(error):
                raise SessionDamaged("what is kept under this name is no conversation") from error
            raise

    def _refused(self, why: str, record: Mapping[bytes, bytes]) -> SessionError:
        match why:
            case "conflict":
                return ConversationConflict(_number(record, b"count"))
            case "deleted":
                return ConversationDeleted("the conversation was deleted")
            case "foreign":
                return ConversationNotOwned("what is kept under this name is not this owner's")
            case _:
                return LimitReached(why, getattr(self._limits, why))

    def _conversation(
        self, conversation_id: str, owner: str, record: Mapping[bytes, bytes]
    ) -> Conversation | None:
        if record.get(b"owner") != _bytes(owner):
            if record:
                _log.error("a conversation in Redis is not its owner's and is left out")
            return None
        if b"deleted" in record:
            return None
        messages = _readable(record)
        hidden = _number(record, b"count") - len({message.id for message in messages})
        now = self._clock()
        return Conversation.of(conversation_id, owner, messages, now=now, durable=True, hidden=hidden)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _prefix(self, owner: str) -> bytes:
        return f"{self._namespace}:{{{owner_tag(owner)}}}:conversation:".encode()

    def _conversation_key(self, owner: str, conversation_id: str) -> bytes:
        return self._prefix(owner) + _bytes(conversation_id)

    def _index_key(self, owner: str) -> bytes:
        return f"{self._namespace}:{{{owner_tag(owner)}}}:conversations".encode()


def _bytes(text: str) -> bytes:
    # A lone surrogate, which JSON from a client can hold, becomes an escape that JSON reads back.
    return text.encode("utf-8", "backslashreplace")


def _fields(message: StoredMessage) -> tuple[bytes, bytes, int]:
    return _MESSAGE + _bytes(message.id), _bytes(message.to_json()), message.size


def _record(reply: Any) -> Mapping[bytes, bytes]:
    """A hash as a mapping: RESP3 sends one, a script a list."""
    return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply


def _number(record: Mapping[bytes, bytes], name: bytes) -> int:
    digits = record.get(name, b"0")
    return int(digits) if digits.isdigit() else 0


def _readable(record: Mapping[bytes, bytes]) -> list[StoredMessage]:
    messages = []
    for name, text in record.items():
        if not name.startswith(_MESSAGE):
            continue
        try:
            messages.append(StoredMessage.from_json(text))
        except ValueError:
            _log.error("a message in Redis cannot be read and is left out (%d bytes)", len(text))
    return messages
