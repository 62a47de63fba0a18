"""Redis URLs: one server, a master that Sentinels know, or a cluster.

    redis://[user:password@]host[:6379][/0]                              rediss:// with TLS
    unix://path/to/socket
    redis+sentinel://[user:password@]host[:26379],.../name[/0]           rediss+sentinel:// with TLS, to Sentinels too
    redis+cluster://[user:password@]host[:6379],...                      rediss+cluster:// with TLS

User and password are the Redis servers'; those of the Sentinels are options (after a "?"): sentinel_username,
sentinel_password. With TLS there are ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_check_hostname and ssl_cert_reqs. The
URL of a single server may have all options that redis-py knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = ["RedisUrl"]

Kind = Literal["server", "sentinel", "cluster"]

_TLS_OPTIONS: Final = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs"}
)
_OPTIONS: Final = {
    "sentinel": _TLS_OPTIONS | {"sentinel_username", "sentinel_password"},
    "cluster": _TLS_OPTIONS,
}
_PORTS: Final = {"server": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis URL in its parts. ``nodes`` are the servers, or the Sentinels of the master called ``service``."""

    kind: Kind
    tls: bool
    nodes: tuple[tuple[str, int], ...]
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Raises ValueError, whose text does not hold the URL: there may be a password in it."""
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme == "unix" and not kind and parts.path:
            return cls("server", False, ())
        if scheme not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster"):
            raise ValueError(f"unknown scheme {parts.scheme!r}")
        parsed = _parsed(parts, kind or "server", tls=scheme == "rediss")  # type: ignore[arg-type]
        if parsed.kind == "sentinel" and not parsed.service:
            raise ValueError("the name of the master is missing: redis+sentinel://host/name")
        if parsed.kind == "cluster" and parsed.db:
            raise ValueError("a cluster has only the database 0")
        return parsed


def _parsed(parts: SplitResult, kind: Kind, *, tls: bool) -> RedisUrl:
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = path.pop(0) if kind == "sentinel" and path else ""
    options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if kind != "server" and (unknown := options.keys() - _OPTIONS[kind]):
        raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
    return RedisUrl(
        kind,
        tls,
        tuple(_node(host, _PORTS[kind]) for host in hosts.split(",")),
        service,
        _database(path),
        unquote(user) or None,
        unquote(password) or None,
        options,
    )


def _node(text: str, default: int) -> tuple[str, int]:
    node = urlsplit(f"//{text}")
    if not node.hostname:
        raise ValueError("a host is missing")
    return node.hostname, default if node.port is None else node.port


def _database(path: list[str]) -> int:
    if not path:
        return 0
    if len(path) > 1 or not path[0].isdecimal():
        raise ValueError("the database must be a number")
    return int(path[0])
