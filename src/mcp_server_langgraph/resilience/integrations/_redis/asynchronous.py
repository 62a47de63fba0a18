"""What a guarded client of ``redis.asyncio`` does otherwise. These classes stand before redis-py's own.

What is behind them is known only when a client is guarded, so it is Any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from redis.asyncio.client import Pipeline as RedisPipeline
from redis.exceptions import WatchError

from ...pipeline import Pipeline
from .checks import refuse_cut
from .commands import blocks_for
from .guards import GUARDS, WAITS, Guards, is_immediate, lost_while_watching, put_behind

__all__ = ["AsyncClient"]


class AsyncClient:
    """Of a `Redis` or a `RedisCluster`."""

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        above: Any = super()
        guards: Guards = getattr(self, GUARDS)
        seconds = blocks_for(words)
        if seconds is None:
            return await guards.of(words).call(above.execute_command, *words, **options)
        if hasattr(self, "connection_pool"):
            options[WAITS] = seconds
        else:
            refuse_cut(self, seconds)
        async with guards.blocking(seconds):
            return await above.execute_command(*words, **options)

    async def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        above: Any = super()
        seconds = options.pop(WAITS, None)
        if seconds is None:
            return await above.parse_response(connection, command_name, **options)
        before = connection.socket_timeout
        connection.socket_timeout = None if before is None or math.isinf(seconds) else before + seconds
        try:
            return await above.parse_response(connection, command_name, **options)
        finally:
            connection.socket_timeout = before

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        made = above.pipeline(*args, **kwargs)
        kind = AsyncPipeline if isinstance(made, RedisPipeline) else AsyncClusterPipeline
        return put_behind(made, kind, getattr(self, GUARDS))

    def pubsub(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        return put_behind(above.pubsub(*args, **kwargs), AsyncPubSub, getattr(self, GUARDS))

    def client(self) -> Any:
        above: Any = super()
        made = above.client()
        setattr(made, GUARDS, getattr(self, GUARDS))
        return made


class AsyncPipeline:
    """Of one server's pipelines."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        above: Any = super()
        if not is_immediate(self, words):
            return above.execute_command(*words, **options)
        guards: Guards = getattr(self, GUARDS)
        return guards.once.call(self._while_watching, above.immediate_execute_command, *words, **options)

    async def execute(self, raise_on_error: bool = True) -> Any:
        this: Any = self
        commands = list(this.command_stack)
        if not commands and not this.watching:
            return []
        try:
            pipeline: Pipeline = getattr(self, GUARDS).of_stack(this)
            return await pipeline.call(self._execute, commands, raise_on_error)
        finally:
            await this.reset()  # where it was refused, as where it failed

    async def _execute(self, commands: Sequence[Any], raise_on_error: bool) -> Any:
        above: Any = super()
        this: Any = self
        this.command_stack = list(commands)  # an attempt empties it, however it ends
        return await self._while_watching(above.execute, raise_on_error)

    async def _while_watching(self, ask: Any, *args: Any, **options: Any) -> Any:
        try:
            return await ask(*args, **options)
        except WatchError as exc:
            raise lost_while_watching(exc) or exc from None


class AsyncClusterPipeline:
    """Of a cluster's pipelines."""

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        guards: Guards = getattr(self, GUARDS)
        return await guards.once.call(above.execute, *args, **kwargs)


class AsyncPubSub:
    """Of subscribers."""

    _resubscribes = 0

    async def on_connect(self, connection: Any) -> None:
        above: Any = super()
        self._resubscribes += 1
        try:
            await above.on_connect(connection)
        finally:
            self._resubscribes -= 1

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        above: Any = super()
        if self._resubscribes:  # connecting is guarded, and this is part of it
            return await above.execute_command(*words, **options)
        guards: Guards = getattr(self, GUARDS)
        return await guards.of(words).call(above.execute_command, *words, **options)

    async def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        above: Any = super()
        guards: Guards = getattr(self, GUARDS)
        connection: Any = getattr(self, "connection", None)
        if connection is not None and not connection.is_connected:
            await guards.repeating.call(connection.connect)
        try:
            return await above.parse_response(*args, **kwargs)
        except Exception as exc:
            await guards.tell(exc)
            raise

    async def _reconnect(self, connection: Any, *_: Any, **__: Any) -> None:
        await connection.disconnect()  # the next wait connects, through the guards
