"""Conversations in Redis, one hash each: what goes over the wire, and nothing about what to do when it fails.

    {namespace}:conversation:{id}   hash: "owner", and "message:<message id>" -> JSON of each message
    {namespace}:owner:{owner}       sorted set of the owner's conversation ids, by time of the last append

A hash keeps a conversation in one key, so it expires or is evicted as a whole, and HSETNX makes an append a
merge: repeating one, or two instances writing back what they held, adds each message once. The append is one Lua
script, so it is atomic and takes one round trip. Its keys are not in one slot: Redis Cluster is not supported.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage

__all__ = ["RedisConversations"]

_log = logging.getLogger(__name__)

# Bounds one send or receive when the pipeline's attempt timeout does not (the resilience switch is off).
_SOCKET_TIMEOUT: Final = 0.4
# The bulkhead bounds the connections; the pool must not be a second, hidden limit that looks like an outage.
_POOL_LIMIT: Final = 10_000
_MESSAGE: Final = b"message:"
# Replies that mean "not now". For redis-py they are plain ResponseErrors, like those of a wrong command.
_NOT_NOW: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ")

_APPEND: Final = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return false end
redis.call('HSETNX', KEYS[1], 'owner', ARGV[1])
for i = 5, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3] - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return redis.call('HGETALL', KEYS[1])
"""


class RedisConversations:
    """The session store's operations on a Redis server: one attempt each, raising what redis-py raises.

    `ttl` is the seconds a conversation is kept after its last append. `clock` gives seconds since the epoch.
    """

    def __init__(
        self, url: str, *, ttl: float, namespace: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._redis: Any = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            max_connections=_POOL_LIMIT,
            # Would read redis-py's package metadata from disk for each connection: up to 50 ms of a blocked loop.
            driver_info=None,
            # Would stretch the socket timeout to 10 s whenever the server announces maintenance.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._ttl_ms = int(ttl * 1000)
        self._namespace = namespace
        self._clock = clock

    async def append(
        self, conversation_id: str, owner: str, messages: Sequence[StoredMessage]
    ) -> Conversation | None:
        """Merge the messages in and give the whole conversation; None if it belongs to somebody else."""
        fields = [
            part for message in messages for part in (_MESSAGE + message.id.encode(), message.to_json())
        ]
        keys = (self._conversation_key(conversation_id), self._owner_key(owner))
        now_ms = int(self._clock() * 1000)
        reply = await self._ask(
            "EVAL", _APPEND, 2, *keys, owner, self._ttl_ms, now_ms, conversation_id, *fields
        )
        if reply is None:
            return None
        record = dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply
        return self._conversation(conversation_id, record)

    async def get(self, conversation_id: str) -> Conversation | None:
        record = await self._ask("HGETALL", self._conversation_key(conversation_id))
        return self._conversation(conversation_id, record)

    async def latest(self, owner: str, limit: int) -> list[str]:
        """Ids of the owner's conversations, the one appended to last first."""
        ids = await self._ask("ZREVRANGE", self._owner_key(owner), 0, limit - 1)
        return [cast(bytes, name).decode() for name in ids]

    async def get_many(self, conversation_ids: Sequence[str]) -> list[Conversation]:
        """Those that exist and can be read."""
        async with self._redis.pipeline(transaction=False) as commands:
            for name in conversation_ids:
                commands.hgetall(self._conversation_key(name))
            records = await commands.execute(raise_on_error=False)
        found: list[Conversation] = []
        for name, record in zip(conversation_ids, records, strict=True):
            if isinstance(record, exceptions.ConnectionError):
                raise record
            if isinstance(record, dict) and (conversation := self._conversation(name, record)):
                found.append(conversation)
        return found

    async def ping(self) -> None:
        await self._ask("PING")

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._redis.execute_command(*command)
        except exceptions.ResponseError as error:
            if str(error).startswith(_NOT_NOW):
                raise exceptions.ConnectionError(f"Redis refuses for now: {error}") from error
            raise

    def _conversation(self, conversation_id: str, record: Mapping[bytes, bytes]) -> Conversation | None:
        owner = record.get(b"owner")
        if owner is None:
            return None
        messages = _readable(text for name, text in record.items() if name.startswith(_MESSAGE))
        return Conversation.of(conversation_id, owner.decode(), messages, now=self._clock(), durable=True)

    def _conversation_key(self, conversation_id: str) -> str:
        return f"{self._namespace}:conversation:{conversation_id}"

    def _owner_key(self, owner: str) -> str:
        return f"{self._namespace}:owner:{owner}"


def _readable(texts: Iterable[bytes]) -> list[StoredMessage]:
    messages = []
    for text in texts:
        try:
            messages.append(StoredMessage.from_json(text))
        except ValueError:
            _log.error("a message in Redis cannot be read and is left out (%d bytes)", len(text))
    return messages
