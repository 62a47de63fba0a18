"""The common place of `SharedState` in a Redis: one hash, a field for each process.

    async with SharedState(RedisLink("redis://localhost:6379/0", namespace="shop")):
        ...

One round trip writes the own field and reads all; it is repeated five times a second, so nothing depends on a message
that may be lost: no channel is subscribed to, and nothing has to be set up again after Redis was killed, hung, cut off
or failed over. The hash forgets itself when nobody writes any more. Redis 6 or newer, Valkey, Sentinel, a cluster (all
is one key), TLS.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from .._checks import checked, checked_time
from ._redis.clients import Client, clients_of

__all__ = ["RedisLink"]

# Seconds after which the hash is forgotten when nobody writes any more.
KEPT_FOR: Final = 600


class RedisLink:
    """``redis``: a URL, or a client of ``redis.asyncio`` (a `RedisCluster` too) that stays yours to close.

    The URL: ``redis://``, ``rediss://`` (TLS), ``unix://``, ``redis+sentinel://host:26379,host:26379/service/0`` or
    ``redis+cluster://host:6379`` (``rediss+...`` for TLS). Its client tries once and gives up after ``timeout`` seconds
    (> 0; default 0.5); ``options`` go to redis-py (``ssl_ca_certs``, ``password`` ...). A client of your own should be
    as tame; what it does not give up, `SharedState` does.

    ``namespace``: processes of one namespace hear each other (default "default"). Raises `ConfigurationError`.
    """

    def __init__(
        self, redis: str | Client, *, namespace: str = "default", timeout: float = 0.5, **options: Any
    ) -> None:
        checked_time("RedisLink", "timeout", timeout)
        checked("RedisLink", "namespace", namespace, "a name", ok=bool(namespace))
        self.key = f"resilience:{{{namespace}}}:reports"
        if isinstance(redis, str):
            self._client, self._owned = clients_of(redis, timeout, options)
        else:
            self._client, self._owned = redis, []

    async def exchange(self, replica: str, report: bytes) -> Mapping[str, bytes]:
        """Write the report and read all. Raises what redis-py raises."""
        # No transaction: a reader who sees a report one round later is no harm.
        pipeline = cast("Any", self._client.pipeline(transaction=False))
        pipeline.hset(self.key, replica, report)
        pipeline.expire(self.key, KEPT_FOR)
        pipeline.hgetall(self.key)
        *_, found = await pipeline.execute()
        return {_text(name): _bytes(value) for name, value in cast("dict[Any, Any]", found).items()}

    async def remove(self, replicas: Collection[str]) -> None:
        """Take the reports of these away. Raises what redis-py raises."""
        await cast("Any", self._client).hdel(self.key, *replicas)

    async def aclose(self) -> None:
        """Close the clients that were made here."""
        for client in self._owned:
            await client.aclose()


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode(errors="replace")
