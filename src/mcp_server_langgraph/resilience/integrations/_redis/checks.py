"""Whether a client is tame: it tries once, and does not wait for an answer for ever."""

from __future__ import annotations

import inspect
from typing import Any, Final, cast

from ... import events, stacking
from ...errors import ConfigurationError
from ...pipeline import Pipeline

__all__ = ["refuse_cut", "refuse_wild"]

_PROBLEM: Final = "after a restart of the server, one command fails for each connection of the pool"
_ADVICE: Final = "maint_notifications_config=MaintNotificationsConfig(enabled=False)"


def refuse_wild(client: object, pipeline: Pipeline) -> None:
    """Raise `ConfigurationError` for a client that is not."""
    attempts = _attempts_of(client)
    if attempts > 1:
        raise ConfigurationError(
            f"guard: this client makes up to {attempts} attempts by itself; give it retry=Retry(NoBackoff(), 0)"
            + ", cluster_error_retry_attempts=0" * hasattr(client, "cluster_error_retry_attempts")
        )
    if _socket_timeout_of(client) is None and pipeline.describe()["seconds"] is None:
        raise ConfigurationError(
            "guard: nothing bounds how long an answer may take; give the client a socket_timeout"
        )
    if _trusts_dead_connections(client):
        events.emit("warning", pipeline.name, problem=_PROBLEM, advice=_ADVICE)


def _trusts_dead_connections(client: Any) -> bool:
    """redis-py (7 and newer) does not look at a connection before it uses it where notices of maintenance are on, which
    is the default.
    """
    holder = getattr(client, "connection_pool", client)
    enabled = getattr(holder, "maint_notifications_enabled", None)
    return bool(enabled is not None and enabled())


def _attempts_of(client: Any) -> int:
    found = stacking.check(client)
    if found:
        return found[0].attempts
    retry = getattr(client, "retry", None)  # a cluster's
    retries = 0 if retry is None else int(retry._retries)
    older = getattr(client, "cluster_error_retry_attempts", 0)  # a cluster's, before redis-py 6
    kwargs = client.get_connection_kwargs()
    hidden = kwargs.get("retry") is None and bool(
        kwargs.get("retry_on_timeout") or kwargs.get("retry_on_error")
    )
    return 1 + max(retries, older, hidden)


def refuse_cut(client: Any, seconds: float) -> None:
    """Raise `ConfigurationError` where the sockets, which cannot be told, would cut a command that waits so long."""
    limit = _socket_timeout_of(client)
    if limit is not None and limit <= seconds:
        raise ConfigurationError(
            f"guard: a command that may wait {seconds} s would be cut by the cluster's socket_timeout of {limit} s"
        )


def _socket_timeout_of(client: Any) -> float | None:
    """Seconds that its sockets wait for an answer; None: any number. ``Redis.from_url`` leaves it to the connection."""
    kwargs = client.get_connection_kwargs()
    if "socket_timeout" in kwargs:
        return cast("float | None", kwargs["socket_timeout"])
    pool = getattr(client, "connection_pool", None)
    for kind in () if pool is None else cast("type[Any]", pool.connection_class).__mro__:
        makes = vars(kind).get("__init__")
        found = inspect.signature(makes).parameters.get("socket_timeout") if makes else None
        if found is not None:
            return cast("float | None", found.default)
    return None
