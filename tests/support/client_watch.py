"""Sees every client that is made and every request that is sent, whoever does it, and says which are not guarded.

A request is guarded where a pipeline that bounds its time is on the stack of the task that sends it: the frames of
pipelines are known by their names, and keep their pipeline. So nothing of the code under test is told that it is
watched, and a client that is added tomorrow is seen as well as those of today.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection
import requests

from mcp_server_langgraph.resilience import Pipeline

__all__ = ["ClientWatch", "Made", "Sent", "watching"]

_PHASES: Final = ("connect", "read", "write", "pool")
_SENT_ABOVE: ContextVar[bool] = ContextVar("sent_above", default=False)
"""Set for what a request does below: the connections of a client may be made by tasks of their own."""


@dataclass(frozen=True)
class Sent:
    """A request, or a connection that was made for none. ``pipelines``: innermost first."""

    what: str
    pipelines: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class Made:
    """A client and the module that made it."""

    client: Any
    by: str

    @property
    def ours(self) -> bool:
        return self.by.startswith("mcp_server_langgraph.")

    def __str__(self) -> str:
        return f"{type(self.client).__module__}.{type(self.client).__qualname__} made by {self.by}"


@dataclass
class ClientWatch:
    """What was seen. ``asked``: ids of the transports that sent something."""

    sent: list[Sent] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)

    def problems(self) -> list[str]:
        """A sentence for each request that was not guarded, and each client of ours that nobody saw at work."""
        idle = [
            f"{made}: no request of it was seen; drive it in this test"
            for made in self.made
            if self._idle(made)
        ]
        # What an SDK makes beside the client that it was given is judged when it is used.
        kept = [
            made
            for made in self.made
            if made.ours or id(getattr(made.client, "_transport", None)) in self.asked
        ]
        kept += [made for made in self.made if _options(made.client) is not None and made not in kept]
        unbounded = [f"{made}: {trouble}" for made in kept if (trouble := _trouble(made.client))]
        return sorted(
            {*(f"{sent.what}: {sent.problem}" for sent in self.sent if sent.problem), *idle, *unbounded}
        )

    def note(self, what: str, phases: dict[str, float | None]) -> None:
        """Judge a request that is about to be sent."""
        pipelines = list(_pipelines_around())
        missing = [phase for phase, seconds in phases.items() if seconds is None]
        if not any(pipeline.describe()["seconds"] is not None for pipeline in pipelines):
            problem: str | None = "no pipeline that bounds its time is around it"
        else:
            problem = f"no timeout for {', '.join(missing)}" if missing else None
        self.sent.append(Sent(what, tuple(pipeline.name for pipeline in pipelines), problem))

    def _idle(self, made: Made) -> bool:
        transport = getattr(made.client, "_transport", None)
        return made.ours and transport is not None and id(transport) not in self.asked


@contextlib.contextmanager
def watching() -> Iterator[ClientWatch]:
    """Watch all that is made and sent meanwhile."""
    watch = ClientWatch()
    with contextlib.ExitStack() as undo:
        for kind in _CLIENTS:
            _wrap(undo, kind, "__init__", _noting_made(watch))
        for library in (httpx, httpx2):
            _wrap(undo, library.AsyncHTTPTransport, "handle_async_request", _noting_http(watch))
            _wrap(undo, library.HTTPTransport, "handle_request", _noting_http_sync(watch))
        _wrap(undo, redis.asyncio.connection.AbstractConnection, "connect", _noting_redis(watch))
        _wrap(undo, redis.asyncio.connection.AbstractConnection, "send_packed_command", _noting_redis(watch))
        _wrap(
            undo, redis.connection.AbstractConnection, "connect", _noting_plain(watch, "redis, in a thread")
        )
        _wrap(undo, aiohttp.ClientSession, "_request", _noting_plain(watch, "aiohttp"))
        _wrap(undo, requests.Session, "send", _noting_plain(watch, "requests"))
        for name in ("create_connection", "create_unix_connection"):
            _wrap(undo, asyncio.BaseEventLoop, name, _noting_connection(watch))
            _wrap(undo, asyncio.SelectorEventLoop, name, _noting_connection(watch))
        yield watch


_CLIENTS: Final = (
    *(httpx.AsyncClient, httpx.Client, httpx2.AsyncClient, httpx2.Client),
    *(redis.Redis, redis.RedisCluster, redis.asyncio.Redis, redis.asyncio.RedisCluster),
    *(aiohttp.ClientSession, requests.Session),
)
_THEIR_OWN: Final = ("httpx", "httpx2", "redis", "aiohttp", "requests", "tests.support", "contextlib")

Hook = Callable[[Callable[..., Any]], Callable[..., Any]]


def _wrap(undo: contextlib.ExitStack, owner: Any, name: str, hook: Hook) -> None:
    if name not in vars(owner) and name != "__init__":
        return
    original = getattr(owner, name)
    own = vars(owner).get(name)
    setattr(owner, name, hook(original))
    undo.callback(lambda: setattr(owner, name, own) if own is not None else delattr(owner, name))


def _noting_made(watch: ClientWatch) -> Hook:
    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        def init(client: Any, *args: Any, **kwargs: Any) -> None:
            original(client, *args, **kwargs)
            if all(made.client is not client for made in watch.made):
                watch.made.append(Made(client, _maker()))

        return init

    return hook


def _noting_http(watch: ClientWatch) -> Hook:
    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        async def handle(transport: Any, request: Any) -> Any:
            watch.asked.add(id(transport))
            watch.note(_name(request), _phases(request))
            token = _SENT_ABOVE.set(True)
            try:
                return await original(transport, request)
            finally:
                _SENT_ABOVE.reset(token)

        return handle

    return hook


def _noting_http_sync(watch: ClientWatch) -> Hook:
    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        def handle(transport: Any, request: Any) -> Any:
            watch.asked.add(id(transport))
            watch.note(_name(request), _phases(request))
            return original(transport, request)

        return handle

    return hook


def _noting_redis(watch: ClientWatch) -> Hook:
    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        async def handle(connection: Any, *args: Any, **kwargs: Any) -> Any:
            phases = {"connect": connection.socket_connect_timeout, "read": connection.socket_timeout}
            watch.note(f"redis {getattr(connection, 'host', '')}:{getattr(connection, 'port', '')}", phases)
            token = _SENT_ABOVE.set(True)
            try:
                return await original(connection, *args, **kwargs)
            finally:
                _SENT_ABOVE.reset(token)

        return handle

    return hook


def _noting_plain(watch: ClientWatch, what: str) -> Hook:
    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        def handle(*args: Any, **kwargs: Any) -> Any:
            watch.note(what, {})
            return original(*args, **kwargs)

        return handle

    return hook


def _noting_connection(watch: ClientWatch) -> Hook:
    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        def create(loop: Any, *args: Any, **kwargs: Any) -> Any:
            if not _SENT_ABOVE.get():
                watch.note("a connection of its own", {})
            return original(loop, *args, **kwargs)

        return create

    return hook


def _pipelines_around() -> Iterator[Pipeline]:
    frame = sys._getframe(1)
    above: Any = frame
    while above is not None:
        if above.f_code.co_filename.startswith("<resilience frame"):
            yield above.f_globals["pipeline"]
        above = above.f_back


def _maker() -> str:
    above: Any = sys._getframe(1)
    while above is not None:
        module = str(above.f_globals.get("__name__", ""))
        if not module.startswith(_THEIR_OWN):
            return module
        above = above.f_back
    return "nobody"


def _name(request: Any) -> str:
    return f"{request.method} {request.url.host}:{request.url.port}{request.url.path}"


def _phases(request: Any) -> dict[str, float | None]:
    given = request.extensions.get("timeout") or {}
    return {phase: given.get(phase) for phase in _PHASES}


def _trouble(client: Any) -> str | None:
    """What is wrong with a client before it has asked for anything."""
    timeout = getattr(client, "timeout", None)
    if hasattr(timeout, "pool") and None in [getattr(timeout, phase) for phase in _PHASES]:
        return "a timeout is missing"
    pool = getattr(getattr(client, "_transport", None), "_pool", None)
    if getattr(pool, "_retries", 0):
        return "its transport connects anew by itself"
    options = _options(client)
    if options is None:
        return None
    if None in (options.get("socket_timeout"), options.get("socket_connect_timeout")):
        return "a timeout is missing"
    retry = options.get("retry")
    return "it repeats commands by itself" if retry is None or retry.get_retries() else None


def _options(client: Any) -> dict[str, Any] | None:
    """What a client of redis-py gives its connections; None for others."""
    return getattr(getattr(client, "connection_pool", None), "connection_kwargs", None)


importlib.import_module("anyio._backends._asyncio")  # now, and not in the middle of what is watched
