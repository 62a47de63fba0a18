"""Clients of other services, tamed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ...errors import ConfigurationError
from .common import connect_within, imported, refused, tamed

if TYPE_CHECKING:
    from keycloak import KeycloakOpenID
    from openfga_sdk import OpenFgaClient
    from redis.asyncio import Redis

__all__ = ["botocore_config", "keycloak", "openfga", "prometheus", "redis"]

T = TypeVar("T")
_READ_AS_SECONDS = 0.1


@overload
def openfga(timeout: float, *, kind: type[T], **options: Any) -> T: ...
@overload
def openfga(timeout: float, *, kind: None = None, **options: Any) -> OpenFgaClient: ...
def openfga(timeout: float, *, kind: Any = None, **options: Any) -> Any:
    """OpenFGA's client: one attempt, ``timeout`` seconds at most. ``options`` are those of its ``ClientConfiguration``.

    ``kind``: another client than ``openfga_sdk.OpenFgaClient`` (``openfga_sdk.sync.OpenFgaClient``, which reads 100 ms
    and less as so many seconds: there ``timeout`` must be > 0.1).
    """
    sdk = imported("openfga", "openfga_sdk", "openfga-sdk")
    refused("openfga", options, ("retry_params", "timeout_millisec"))
    connect_within("openfga", timeout, None)
    kind = kind or sdk.OpenFgaClient
    if timeout <= _READ_AS_SECONDS and ".sync" in kind.__module__:
        raise ConfigurationError(
            f"tame.openfga: the sync client reads timeouts of <= 0.1 s wrongly, not {timeout!r}"
        )
    retries = imported("openfga", "openfga_sdk.configuration", "openfga-sdk").RetryParams(max_retry=0)
    configuration = sdk.ClientConfiguration(
        retry_params=retries, timeout_millisec=round(timeout * 1000), **options
    )
    return tamed("openfga", kind(configuration), timeout)


@overload
def redis(
    timeout: float,
    *,
    kind: type[T],
    url: str | None = None,
    connect_timeout: float | None = None,
    **options: Any,
) -> T: ...
@overload
def redis(
    timeout: float,
    *,
    kind: None = None,
    url: str | None = None,
    connect_timeout: float | None = None,
    **options: Any,
) -> Redis: ...
def redis(
    timeout: float,
    *,
    kind: Any = None,
    url: str | None = None,
    connect_timeout: float | None = None,
    **options: Any,
) -> Any:
    """redis-py's client: one attempt, ``timeout`` seconds for each reply, idle connections looked at after 15 s.

    ``kind``: another client than ``redis.asyncio.Redis`` (``redis.Redis``). ``health_check_interval`` may be given. The
    server's announcements of maintenance, which would stretch the times to 10 s, are not asked for.
    """
    package = imported("redis", "redis.asyncio", "redis")
    refused(
        "redis", options, ("retry", "socket_timeout", "socket_connect_timeout", "maint_notifications_config")
    )
    connect = connect_within("redis", timeout, connect_timeout)
    kind = kind or package.Redis
    flavour = "redis.asyncio.retry" if kind.__module__.startswith("redis.asyncio") else "redis.retry"
    no_wait = imported("redis", "redis.backoff", "redis").NoBackoff()
    options = {
        "health_check_interval": 15,
        "retry": imported("redis", flavour, "redis").Retry(no_wait, 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": connect,
        **_no_maintenance(),
        **options,
    }
    return tamed("redis", kind(**options) if url is None else kind.from_url(url, **options), timeout)


def _no_maintenance() -> dict[str, Any]:
    with contextlib.suppress(ImportError):  # redis-py before 7 knows nothing of it
        module = imported("redis", "redis.maint_notifications", "redis")
        return {"maint_notifications_config": module.MaintNotificationsConfig(enabled=False)}
    return {}


@overload
def keycloak(timeout: float, *, kind: type[T], **options: Any) -> T: ...
@overload
def keycloak(timeout: float, *, kind: None = None, **options: Any) -> KeycloakOpenID: ...
def keycloak(timeout: float, *, kind: Any = None, **options: Any) -> Any:
    """python-keycloak's client: one attempt, ``timeout`` seconds of silence at most, also for its ``a_`` methods.

    ``kind``: another client than ``KeycloakOpenID`` (``KeycloakAdmin``). Connecting has no time of its own.
    """
    package = imported("keycloak", "keycloak", "python-keycloak")
    refused("keycloak", options, ("max_retries", "timeout"))
    connect_within("keycloak", timeout, None)
    return tamed(
        "keycloak", (kind or package.KeycloakOpenID)(max_retries=0, timeout=timeout, **options), timeout
    )


def prometheus(timeout: float, *, connect_timeout: float | None = None, **options: Any) -> Any:
    """``PrometheusConnect`` of prometheus-api-client, which is synchronous: one attempt, ``timeout`` seconds."""
    package = imported("prometheus", "prometheus_api_client", "prometheus-api-client")
    refused("prometheus", options, ("retry", "timeout"))
    limits = (connect_within("prometheus", timeout, connect_timeout), timeout)
    retry = imported("prometheus", "urllib3", "urllib3").Retry(0)
    return tamed("prometheus", package.PrometheusConnect(retry=retry, timeout=limits, **options), timeout)


def botocore_config(timeout: float, *, connect_timeout: float | None = None, **options: Any) -> Any:
    """A ``botocore.config.Config`` for any client of AWS: one attempt, ``timeout`` seconds of silence at most."""
    package = imported("botocore_config", "botocore.config", "botocore")
    refused("botocore_config", options, ("connect_timeout", "read_timeout", "retries"))
    connect = connect_within("botocore_config", timeout, connect_timeout)
    retries = {"total_max_attempts": 1, "mode": "standard"}
    return package.Config(connect_timeout=connect, read_timeout=timeout, retries=retries, **options)
