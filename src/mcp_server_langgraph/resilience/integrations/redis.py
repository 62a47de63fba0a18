"""redis-py clients whose commands go through a pipeline: asyncio and threads, standalone, Sentinel and cluster.

    client = guard(Redis(host="localhost", retry=Retry(NoBackoff(), 0), socket_timeout=0.5), pipeline)
    await client.get("user:1")

Guarded are commands, scripts and locks; ``pipeline()``, whose ``execute()`` is one call, and ``transaction()``; of
``pubsub()`` connecting and subscribing. What the server says of a command (WRONGTYPE, NOSCRIPT) is the caller's affair
and neutral; LOADING, OOM, CLUSTERDOWN, a refused or lost connection and a missing answer are failures.

Sent again by a `Retry` or a `Hedge` of the pipeline is only what does no harm twice (`is_repeatable`); all else gets
exactly one attempt.

What waits for others has to do with the breaker alone: it takes no place of a bulkhead, and no timeout cuts it but its
own. A blocking command (BLPOP, XREAD with BLOCK, WAIT) may take its own time on top of the attempt's timeout, and is
not slow. A subscriber's wait is no call at all; its lost connection is told to the breaker, raised, and made again by
the next wait, through the guards.

Not guarded: ``monitor()``; in a cluster, what a transaction asks before MULTI, and the shards' own subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from redis import Redis, RedisCluster
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster

from .._wrapper import refuse_sync
from ..errors import ConfigurationError
from ..pipeline import Pipeline
from ._redis.asynchronous import AsyncClient
from ._redis.checks import refuse_wild
from ._redis.commands import is_repeatable
from ._redis.guards import Guards, put_behind
from ._redis.synchronous import SyncClient

__all__ = ["guard", "is_repeatable"]

C = TypeVar("C", bound=Redis | RedisCluster | AsyncRedis | AsyncRedisCluster)

_LOOPS: Final = (AsyncRedis, AsyncRedisCluster)
_THREADS: Final = (Redis, RedisCluster)


def guard(client: C, pipeline: Pipeline, *, repeatable: Callable[[Sequence[Any]], bool] = is_repeatable) -> C:
    """Guard a client from now on, and give it back. It stays of its class, and yours to close.

    ``repeatable``: which commands may be sent again; it is asked with the command's words.

    Raises `ConfigurationError` for what is no client or is guarded already, for a client that retries by itself, and
    where nothing bounds how long an answer may take; TypeError where the pipeline cannot guard a synchronous client (a
    `Timeout` cannot cut one: its ``socket_timeout`` does).
    """
    given: Any = client
    loops, threads = isinstance(given, _LOOPS), isinstance(given, _THREADS)
    if not (loops or threads) or hasattr(given, "command_stack"):
        raise ConfigurationError(f"guard: {type(client).__name__} is no client of redis-py")
    if isinstance(given, (AsyncClient, SyncClient)):
        raise ConfigurationError("guard: this client is guarded already")
    refuse_wild(given, pipeline)
    if threads:
        refuse_sync(type(client), pipeline)
    return put_behind(client, AsyncClient if loops else SyncClient, Guards(pipeline, repeatable))
