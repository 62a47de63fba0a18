"""Small records in Redis, a hash each under its owner, and in this process's memory while Redis cannot be reached.

    {namespace}:{<tag of the owner>}:record:<name>

What was written meanwhile is written back when Redis returns, field by field; a field that another instance wrote stays
where the writer said so. A record that is asked for in an outage and is not known here counts as empty.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from mcp_server_langgraph.auth._recovery import CircuitCloser, Recovery
from mcp_server_langgraph.auth._redis_client import RedisClient
from mcp_server_langgraph.resilience import (
    BulkheadFull,
    DeadlineExceeded,
    Fallback,
    Pipeline,
    Rung,
    timeout,
)

__all__ = ["RecordName", "RedisRecords"]

T = TypeVar("T")
RecordName = tuple[str, str]
"""The tag of the owner (see `owner_tag`), and the name."""
Fields = Mapping[bytes, bytes]

_log = logging.getLogger(__name__)

_PATIENCE: Final = 0.25
_IMPATIENCE: Final = 0.05
_LAST_WORDS: Final = 1.0

_WRITE: Final = """
local replaced = tonumber(ARGV[2])
for i = 3, #ARGV, 2 do
  redis.call(i < 3 + 2 * replaced and 'HSET' or 'HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""


class RedisRecords:
    """Records on the Redis at `url`, guarded by `pipeline`, kept for `ttl` seconds after the last write.

    `max_kept`: records that are held in memory for an outage, the ones used last, and that may wait for Redis; what
    waits longest is given up then, with a line in the log. `ca_file`: see `RedisClient`.
    """

    def __init__(
        self,
        url: str,
        pipeline: Pipeline,
        *,
        ttl: float = 900.0,
        namespace: str = "mcp",
        max_kept: int = 1_000,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = RedisClient(url, ca_file=ca_file)
        self._pipeline = pipeline
        self._ttl = ttl
        self._namespace = namespace
        self._max_kept = max_kept
        self._clock = clock
        self._kept: OrderedDict[RecordName, tuple[dict[bytes, bytes], float]] = OrderedDict()
        self._pending: dict[RecordName, tuple[dict[bytes, bytes], dict[bytes, bytes]] | None] = {}
        self._recovery = Recovery("record write-back", self._write_back)
        self._circuit = CircuitCloser(pipeline)
        self._reads = self._degradable("read", self._read_here)
        self._writes = self._degradable("write", self._write_here)
        self._deletions = self._degradable("delete", self._delete_here)

    @property
    def pending(self) -> int:
        """Records that Redis does not have as they are."""
        return len(self._pending)

    async def read(self, name: RecordName) -> Fields:
        """The fields of a record; none where there is none."""
        return await self._reads.call(self._read, name)

    async def write(self, name: RecordName, replaced: Fields, first: Fields) -> None:
        """Set the fields: `replaced` in any case, `first` where they are not set yet."""
        await self._writes.call(self._write, name, dict(replaced), dict(first))

    async def delete(self, name: RecordName) -> None:
        """Delete a record, if there is one."""
        await self._deletions.call(self._delete, name)

    async def aclose(self) -> None:
        """Make a last attempt at what still waits (one second), then close the connections."""
        await self._recovery.stop()
        if self._pending:
            try:
                async with timeout(_LAST_WORDS):
                    await self._write_back()
            except Exception as error:
                _log.warning(
                    "%d records could not be written to Redis: %s", self.pending, type(error).__name__
                )
        await self._redis.aclose()

    def _degradable(self, operation: str, here: Callable[..., Any]) -> Pipeline:
        also = (BulkheadFull, DeadlineExceeded)
        rung = Rung(here, source="memory: single-instance, not durable", also=also, with_error=True)
        # What is degraded is Redis, whichever limits of it are these.
        return Pipeline("redis", Fallback(rung), operation=f"record.{operation}")

    # Through Redis

    async def _read(self, name: RecordName) -> Fields:
        reply = await self._ask(self._redis.execute, "HGETALL", self._key(name))
        found: dict[bytes, bytes] = dict(reply)
        if name in self._pending:
            found = found | self._kept.get(name, ({}, 0.0))[0]
        self._keep(name, found)
        return found

    async def _write(self, name: RecordName, replaced: dict[bytes, bytes], first: dict[bytes, bytes]) -> None:
        await self._ask(self._send, name, replaced, first)
        self._grow(name, replaced, first)

    async def _delete(self, name: RecordName) -> None:
        await self._ask(self._redis.execute, "DEL", self._key(name))
        self._kept.pop(name, None)
        self._pending.pop(name, None)

    async def _send(self, name: RecordName, replaced: Fields, first: Fields) -> None:
        pairs = [part for fields in (replaced, first) for pair in fields.items() for part in pair]
        await self._redis.run(_WRITE, (self._key(name),), int(self._ttl * 1000), len(replaced), *pairs)

    async def _ask(self, operation: Callable[..., Awaitable[T]], *args: Any) -> T:
        limit = _IMPATIENCE if self._recovery.running else _PATIENCE
        async with timeout(None if self._pipeline.site.bypassed else limit, name=self._pipeline.name):
            result = await self._pipeline.call(operation, *args)
        self._recovery.hurry()
        return result

    # Without Redis

    def _read_here(self, _error: Exception, name: RecordName) -> Fields:
        self._recovery.start()
        fields, touched = self._kept.get(name, ({}, 0.0))
        return dict(fields) if self._clock() - touched < self._ttl else {}

    def _write_here(
        self, _error: Exception, name: RecordName, replaced: dict[bytes, bytes], first: dict[bytes, bytes]
    ) -> None:
        self._recovery.start()
        self._grow(name, replaced, first)
        waiting = self._pending.get(name) or ({}, {})
        self._pending[name] = (waiting[0] | replaced, first | waiting[1])
        while len(self._pending) > self._max_kept:
            if self._pending.pop(next(iter(self._pending))) is not None:
                _log.error(
                    "what waited longest for Redis is given up: no more than %d records may", self._max_kept
                )

    def _delete_here(self, _error: Exception, name: RecordName) -> None:
        self._recovery.start()
        self._kept.pop(name, None)
        self._pending[name] = None

    def _grow(self, name: RecordName, replaced: Fields, first: Fields) -> None:
        known = self._kept.get(name, ({}, 0.0))[0]
        self._keep(name, {**first, **known, **replaced})

    def _keep(self, name: RecordName, fields: dict[bytes, bytes]) -> None:
        self._kept[name] = (fields, self._clock())
        self._kept.move_to_end(name)
        while len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)

    async def _write_back(self) -> None:
        if self._circuit.is_open:
            await self._redis.execute("EXISTS", f"{self._namespace}:probe")
            self._circuit.close()
        elif not self._pending:
            await self._pipeline.call(self._redis.execute, "EXISTS", f"{self._namespace}:probe")
        while self._pending:
            name, waiting = next(iter(self._pending.items()))
            if waiting is None:
                await self._pipeline.call(self._redis.execute, "DEL", self._key(name))
            else:
                await self._pipeline.call(self._send, name, *waiting)
            if self._pending.get(name) is waiting:
                del self._pending[name]

    def _key(self, name: RecordName) -> str:
        tag, rest = name
        return f"{self._namespace}:{{{tag}}}:record:{rest}"
