"""A redis-py client of a server, of Sentinel's master or of a cluster: one attempt each, bounded in time."""

import ssl
from collections.abc import Awaitable
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from mcp_server_langgraph.auth._redis_tls import context_of, secure_cluster, secure_pool
from mcp_server_langgraph.settings.redis_url import RedisUrl

__all__ = ["RedisClient"]

# Bounds one send or receive when the pipeline's attempt timeout does not (the resilience switch is off).
_SOCKET_TIMEOUT: Final = 0.4
# The bulkhead bounds the connections; the pool must not be a second, hidden limit that looks like an outage.
_POOL_LIMIT: Final = 10_000
# Replies that mean "not now". For redis-py they are plain ResponseErrors, like those of a wrong command.
_NOT_NOW: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ")


class RedisClient:
    """A client for the URL; connects when it is used first.

    ``ca_file``: certificates that vouch for the servers where the URL asks for TLS (default: the system's).
    Raises ValueError for a URL that is none of Redis, OSError for certificates that cannot be read.
    """

    def __init__(self, url: str, *, ca_file: str | None = None) -> None:
        where = RedisUrl.parse(url)
        self._sentinel: Sentinel | None = None
        self._redis: Any
        if where.kind == "sentinel":
            self._sentinel = _sentinel(where)
            self._redis = self._sentinel.master_for(where.service)
        elif where.kind == "cluster":
            self._redis = _cluster(where)
        else:
            self._redis = Redis.from_url(url, max_connections=_POOL_LIMIT, **_tame())
        if where.tls:
            self._secure(context_of(where, ca_file))

    @property
    def master(self) -> str | None:
        """Where Sentinel says that the master is, as host:port; None where it was not asked yet, or there is none."""
        if self._sentinel is None or self._redis.connection_pool.master_address is None:
            return None
        host, port = self._redis.connection_pool.master_address
        return f"{host}:{port}"

    async def execute(self, *command: Any) -> Any:
        """The answer to a command, tried once. Raises what redis-py raises."""
        return await self._ask(self._redis.execute_command(*command))

    async def run(self, script: str, keys: Any, *arguments: Any) -> Any:
        """The answer of a Lua script. The keys must be in one slot."""
        return await self.execute("EVAL", script, len(keys), *keys, *arguments)

    async def aclose(self) -> None:
        await self._redis.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    def _secure(self, context: ssl.SSLContext) -> None:
        if isinstance(self._redis, RedisCluster):
            secure_cluster(self._redis, context)
            return
        sentinels = [] if self._sentinel is None else self._sentinel.sentinels
        for client in (self._redis, *sentinels):
            secure_pool(client.connection_pool, context)

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except exceptions.RedisClusterException as error:
            # Nobody of the cluster could be asked, or nobody has the slot: for redis-py not a lost connection.
            raise exceptions.ConnectionError(f"the cluster cannot be asked: {error}") from error
        except exceptions.InvalidResponse as error:
            # For redis-py that is neither a connection's error nor a server's; for us it is no answer at all.
            raise exceptions.ConnectionError("what answers is not Redis") from error
        except exceptions.ResponseError as error:
            if str(error).startswith(_NOT_NOW):
                raise exceptions.ConnectionError(f"Redis refuses for now: {error}") from error
            raise


def _tame() -> dict[str, Any]:
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": _SOCKET_TIMEOUT,
        "socket_connect_timeout": _SOCKET_TIMEOUT,
        # Would read redis-py's package metadata from disk for each connection: up to 50 ms of a blocked loop.
        "driver_info": None,
        # Would stretch the socket timeout to 10 s whenever the server announces maintenance.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _sentinel(where: RedisUrl) -> Sentinel:
    options = where.options
    its_own = {"username": options.get("sentinel_username"), "password": options.get("sentinel_password")}
    return Sentinel(  # type: ignore[no-untyped-call]
        where.nodes,
        sentinel_kwargs={**_tame(), **its_own, "ssl": where.tls},
        username=where.username,
        password=where.password,
        db=where.db,
        ssl=where.tls,
        max_connections=_POOL_LIMIT,
        **_tame(),
    )


class _FirstIsTheKey:
    """Says where a command's keys are: those that are sent here have one, right after the name (or are an EVAL).

    In place of redis-py's own, which asks the server for all of its commands when the cluster is looked at anew, after
    every lost connection: 12,000 parts of an answer, that block the loop for 0.2 s.
    """

    async def initialize(self, _node: ClusterNode) -> None:
        return None

    async def get_keys(self, _name: str, *arguments: Any) -> tuple[Any, ...]:
        return arguments[:1]


def _cluster(where: RedisUrl) -> Any:
    client: Any = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in where.nodes],
        # The slots of a lost master are lost, not all the others with them.
        require_full_coverage=False,
        username=where.username,
        password=where.password,
        ssl=where.tls,
        max_connections=_POOL_LIMIT,
        **_tame(),
    )
    client.commands_parser = _FirstIsTheKey()
    return client
