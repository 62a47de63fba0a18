"""A redis-py client that does as it is told: one attempt, bounded in time."""

from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["connect", "refuses_for_now"]

# Bounds one send or receive when the pipeline's attempt timeout does not (the resilience switch is off).
_SOCKET_TIMEOUT: Final = 0.4
# The bulkhead bounds the connections; the pool must not be a second, hidden limit that looks like an outage.
_POOL_LIMIT: Final = 10_000
# Replies that mean "not now". For redis-py they are plain ResponseErrors, like those of a wrong command.
_NOT_NOW: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ")


def connect(url: str, *, ca_file: str | None = None) -> Any:
    """A client for the URL; connects when it is used first."""
    options: dict[str, Any] = {"ssl_ca_certs": ca_file} if ca_file and url.startswith("rediss") else {}
    return Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=_SOCKET_TIMEOUT,
        socket_connect_timeout=_SOCKET_TIMEOUT,
        max_connections=_POOL_LIMIT,
        # Would read redis-py's package metadata from disk for each connection: up to 50 ms of a blocked loop.
        driver_info=None,
        # Would stretch the socket timeout to 10 s whenever the server announces maintenance.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **options,
    )


def refuses_for_now(error: exceptions.ResponseError) -> bool:
    """Whether the server is unwell, and not the command wrong."""
    return str(error).startswith(_NOT_NOW)
