"""A client of redis-py from a URL, made tame: it tries once, and neither connecting nor an answer may take long.

redis-py tries ten times by itself, 58 seconds for one command at a host that swallows everything.
"""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from ...errors import ConfigurationError

__all__ = ["Client", "clients_of"]

Client = Redis | RedisCluster

FORMS: Final = (
    "redis://host:port/0, rediss://..., unix:///path, redis+sentinel://host:port,host:port/service, "
    "redis+cluster://host:port (rediss+... for TLS)"
)
SENTINEL_PORT: Final = 26379
CLUSTER_PORT: Final = 6379


def clients_of(url: str, timeout: float, options: dict[str, Any]) -> tuple[Client, list[Client]]:
    """The client of that URL, and all that have to be closed. ``options`` go to redis-py and win. Raises
    `ConfigurationError`.
    """
    tame: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        **options,
    }
    try:
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme == "rediss" and kind:
            tame.setdefault("ssl", True)
        if kind == "sentinel":
            return _sentinel(parts, tame)
        client = _cluster(parts, tame) if kind == "cluster" else cast("Any", Redis).from_url(url, **tame)
    except ValueError:
        # Without what was given: a URL may hold a password.
        raise ConfigurationError(f"RedisLink: the URL must be one of {FORMS}") from None
    return client, [client]


def _sentinel(parts: SplitResult, tame: dict[str, Any]) -> tuple[Client, list[Client]]:
    service, *database = parts.path.strip("/").split("/")
    account, _, hosts = parts.netloc.rpartition("@")
    if not service or not hosts:
        raise ValueError
    if database:
        tame.setdefault("db", int(database[0]))
    name, _, password = account.partition(":")
    _login(tame, name, password)
    # What stands behind the question mark is for the sentinels: they have an account of their own.
    asking = {key: value for key, value in tame.items() if key.startswith(("socket_", "retry", "ssl"))}
    asking.update(parse_qsl(parts.query))
    places = [_host(each, SENTINEL_PORT) for each in hosts.split(",")]
    sentinel = cast("Any", Sentinel)(places, sentinel_kwargs=asking, **tame)
    client = sentinel.master_for(service)
    return client, [client, *sentinel.sentinels]


def _cluster(parts: SplitResult, tame: dict[str, Any]) -> Client:
    if not parts.hostname:
        raise ValueError
    _login(tame, parts.username, parts.password)
    return RedisCluster(host=parts.hostname, port=parts.port or CLUSTER_PORT, **tame)


def _login(tame: dict[str, Any], name: str | None, password: str | None) -> None:
    for key, value in (("username", name), ("password", password)):
        if value:
            tame.setdefault(key, unquote(value))


def _host(text: str, port: int) -> tuple[str, int]:
    host, _, given = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    return host.strip("[]"), int(given or port)
