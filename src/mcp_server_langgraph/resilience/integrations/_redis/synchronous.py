"""The same as `_redis.asynchronous` for synchronous clients, which threads may share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from redis.client import Pipeline as RedisPipeline
from redis.exceptions import WatchError

from ...pipeline import Pipeline
from .checks import refuse_cut
from .commands import blocks_for
from .guards import GUARDS, WAITS, Guards, is_immediate, lost_while_watching, put_behind

__all__ = ["SyncClient"]


class SyncClient:
    """Of a `Redis` or a `RedisCluster`."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        above: Any = super()
        guards: Guards = getattr(self, GUARDS)
        seconds = blocks_for(words)
        if seconds is None:
            return guards.of(words).call_sync(above.execute_command, *words, **options)
        if hasattr(self, "connection_pool"):
            options[WAITS] = seconds
        else:
            refuse_cut(self, seconds)
        with guards.blocking_sync():
            return above.execute_command(*words, **options)

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        above: Any = super()
        seconds = options.pop(WAITS, None)
        socket = getattr(connection, "_sock", None)
        if seconds is None or socket is None:
            return above.parse_response(connection, command_name, **options)
        before = socket.gettimeout()
        socket.settimeout(None if before is None or math.isinf(seconds) else before + seconds)
        try:
            return above.parse_response(connection, command_name, **options)
        finally:
            if socket.fileno() >= 0:  # a connection that broke is closed
                socket.settimeout(before)

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        made = above.pipeline(*args, **kwargs)
        kind = SyncPipeline if isinstance(made, RedisPipeline) else SyncClusterPipeline
        return put_behind(made, kind, getattr(self, GUARDS))

    def pubsub(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        return put_behind(above.pubsub(*args, **kwargs), SyncPubSub, getattr(self, GUARDS))

    def client(self) -> Any:
        above: Any = super()
        made = above.client()
        setattr(made, GUARDS, getattr(self, GUARDS))
        return made


class SyncPipeline:
    """Of one server's pipelines."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        above: Any = super()
        if not is_immediate(self, words):
            return above.execute_command(*words, **options)
        guards: Guards = getattr(self, GUARDS)
        return guards.once.call_sync(self._while_watching, above.immediate_execute_command, *words, **options)

    def execute(self, raise_on_error: bool = True) -> Any:
        this: Any = self
        commands = list(this.command_stack)
        if not commands and not this.watching:
            return []
        try:
            pipeline: Pipeline = getattr(self, GUARDS).of_stack(this)
            return pipeline.call_sync(self._execute, commands, raise_on_error)
        finally:
            this.reset()

    def _execute(self, commands: Sequence[Any], raise_on_error: bool) -> Any:
        above: Any = super()
        this: Any = self
        this.command_stack = list(commands)
        return self._while_watching(above.execute, raise_on_error)

    def _while_watching(self, ask: Any, *args: Any, **options: Any) -> Any:
        try:
            return ask(*args, **options)
        except WatchError as exc:
            raise lost_while_watching(exc) or exc from None


class SyncClusterPipeline:
    """Of a cluster's pipelines."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        guards: Guards = getattr(self, GUARDS)
        return guards.once.call_sync(above.execute, *args, **kwargs)


class SyncPubSub:
    """Of subscribers."""

    _resubscribes = 0

    def on_connect(self, connection: Any) -> None:
        above: Any = super()
        self._resubscribes += 1
        try:
            above.on_connect(connection)
        finally:
            self._resubscribes -= 1

    def execute_command(self, *words: Any, **options: Any) -> Any:
        above: Any = super()
        if self._resubscribes:
            return above.execute_command(*words, **options)
        guards: Guards = getattr(self, GUARDS)
        return guards.of(words).call_sync(above.execute_command, *words, **options)

    def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        guards: Guards = getattr(self, GUARDS)
        connection: Any = getattr(self, "connection", None)
        if connection is not None and getattr(connection, "_sock", self) is None:
            guards.repeating.call_sync(connection.connect)
        try:
            return above.parse_response(*args, **kwargs)
        except Exception as exc:
            guards.tell_sync(exc)
            raise

    def _reconnect(self, connection: Any, *_: Any, **__: Any) -> None:
        connection.disconnect()
