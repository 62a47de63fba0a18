"""TLS for redis-py's asyncio clients, with one context for all connections of a client.

redis-py makes a context for each connection, and each loads the system's certificates: 0.14 s of a blocked loop, every
time. It also trusts the system's authorities beside the one that is given.
"""

import ssl
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection

from mcp_server_langgraph.settings.redis_url import RedisUrl

__all__ = ["context_of", "secure_cluster", "secure_pool"]

_NO = ("0", "f", "false", "n", "no")


class _Tls(SSLConnection):
    def __init__(self, *, shared_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = shared_context


class _ManagedTls(SentinelManagedConnection, _Tls):
    pass


def context_of(where: RedisUrl, ca_file: str | None) -> ssl.SSLContext:
    """The context that the URL's ssl_... options describe. ``ca_file`` goes before theirs.

    Raises OSError where a file cannot be read, ssl.SSLError where it is none of its kind.
    """
    options = where.options
    context = ssl.create_default_context(cafile=ca_file or options.get("ssl_ca_certs"))
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_check_hostname", "").lower() in _NO or options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    return context


def secure_pool(pool: Any, context: ssl.SSLContext) -> None:
    """Let the connections of a pool use the context from now on; of Sentinel's too."""
    managed = issubclass(pool.connection_class, SentinelManagedConnection)
    pool.connection_class = _ManagedTls if managed else _Tls
    pool.connection_kwargs["shared_context"] = context


def secure_cluster(client: RedisCluster, context: ssl.SSLContext) -> None:
    """Let the connections to all nodes of a cluster, known or not yet, use the context."""
    client.connection_kwargs.update(connection_class=_Tls, shared_context=context)
    for node in client.startup_nodes:
        node.connection_class = _Tls
        node.connection_kwargs["shared_context"] = context
