"""What a session store promised while its Redis was killed and hung, against what is found afterwards.

The ledger writes down every append that the store acknowledged, and whether as durable. Two audits:

- at every kill, what was acknowledged as durable until then must be on the disk that the killed server left: a copy of
  it is served on another port, and the store cannot mend it;
- at the end, when nothing waits any more, everything acknowledged must be there, after another kill.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server_langgraph.auth.session import (
    Conversation,
    RedisSessionStore,
    SessionsUnavailable,
    StoredMessage,
)
from mcp_server_langgraph.resilience import Pipeline, registry
from tests.support.redis_server import RedisServer

__all__ = ["Ledger", "Outcome", "run"]

_OWNERS = 20
_CONVERSATIONS = 10
_WRITERS = 8
_WORTH_AN_AUDIT = 100
"""Durable writes that there are before the first kill."""

Name = tuple[str, str, str]
"""Owner, conversation and message id."""


@dataclass
class Outcome:
    """What came of it. ``lost``: acknowledged and not found, ``untrue``: called durable and not on the disk."""

    durable: int = 0
    not_durable: int = 0
    refused: int = 0
    kills: int = 0
    pauses: int = 0
    audited: int = 0
    untrue: set[Name] = field(default_factory=set)
    lost: set[Name] = field(default_factory=set)
    doubled: int = 0
    written_back_after: float = 0.0


class Ledger:
    """Writes through the store, and remembers what it said."""

    def __init__(self, store: RedisSessionStore, outcome: Outcome) -> None:
        self._store = store
        self.outcome = outcome
        self.durable: set[Name] = set()
        self.acknowledged: set[Name] = set()

    async def write(self, number: int) -> None:
        """One append, by its number."""
        owner = f"owner-{number % _OWNERS}"
        conversation = f"conversation-{number // _OWNERS % _CONVERSATIONS}"
        message = StoredMessage.new("user", f"message {number}")
        try:
            kept = await self._store.append(conversation, owner, [message])
        except SessionsUnavailable:
            self.outcome.refused += 1
            return
        name = (owner, conversation, message.id)
        self.acknowledged.add(name)
        if kept.durable:
            self.durable.add(name)
            self.outcome.durable += 1
        else:
            self.outcome.not_durable += 1


async def run(
    server: RedisServer,
    folder: Path,
    writes: int,
    *,
    pause: float = 0.05,
    kinds: str = "kp",
    every: tuple[float, float] = (0.3, 1.2),
    chance: random.Random | None = None,
    tamper: Callable[[RedisSessionStore], None] = lambda store: None,
) -> Outcome:
    """Write so often while the running ``server`` is killed, restarted, hung and resumed; then audit.

    More is written where not each kind of fault has come about by then.
    ``pause``: seconds of each writer between two writes. ``kinds`` of faults, in turn: k (kill) and p (pause), with so
    many seconds between them as ``every`` says.
    ``tamper`` may break the store on purpose.
    """
    chance = chance or random.Random(7)
    # Else the breaker would spend most of the run open, and Redis would hardly be asked.
    registry.reload(
        {"REDIS_CIRCUIT_BREAKER_TIMEOUT_DURATION": "0.3", "REDIS_CIRCUIT_BREAKER_TIMEOUT_MAX": "0.3"}
    )
    outcome = Outcome()
    store = RedisSessionStore(server.url, Pipeline.standard("redis"), max_pending=max(writes, 10_000))
    tamper(store)
    ledger = Ledger(store, outcome)

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            each = outcome.kills >= ("k" in kinds) and outcome.pauses >= ("p" in kinds)
            if number >= writes and (each or faults.done()):
                return
            yield number

    next_number = numbers()

    async def write() -> None:
        for number in next_number:
            await ledger.write(number)
            await asyncio.sleep(pause * 2 * chance.random())

    faults = asyncio.create_task(_faults(server, folder, ledger, kinds, every, chance))
    try:
        await asyncio.gather(*(write() for _ in range(_WRITERS)))
    finally:
        faults.cancel()
        await asyncio.wait({faults})
    if not faults.cancelled():
        faults.result()
    began = asyncio.get_running_loop().time()
    while store.pending:
        await asyncio.sleep(0.01)
    outcome.written_back_after = asyncio.get_running_loop().time() - began
    await store.aclose()
    server.kill()
    outcome.lost = ledger.acknowledged - await _on_disk(server, folder, outcome)
    server.start()
    return outcome


async def _faults(
    server: RedisServer,
    folder: Path,
    ledger: Ledger,
    kinds: str,
    every: tuple[float, float],
    chance: random.Random,
) -> None:
    outcome = ledger.outcome
    for kind in itertools.cycle(kinds):
        await asyncio.sleep(chance.uniform(*every))
        if kind == "p":
            outcome.pauses += 1
            await _uncut(_pause(server, chance.uniform(0.1, 0.8)))
        else:
            while len(ledger.durable) <= _WORTH_AN_AUDIT:
                await asyncio.sleep(0.01)
            outcome.kills += 1
            await _uncut(_kill(server, folder, ledger, chance.uniform(0.0, 0.3)))


async def _uncut(fault: object) -> None:
    """A fault is ended properly, also when the last write was done in its middle."""
    task = asyncio.ensure_future(fault)  # type: ignore[arg-type]
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _pause(server: RedisServer, seconds: float) -> None:
    server.pause()
    await asyncio.sleep(seconds)
    server.resume()


async def _kill(server: RedisServer, folder: Path, ledger: Ledger, seconds: float) -> None:
    promised = set(ledger.durable)
    server.kill()
    found = await _on_disk(server, folder, ledger.outcome)
    ledger.outcome.untrue |= promised - found
    ledger.outcome.audited += len(promised)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def _on_disk(server: RedisServer, folder: Path, outcome: Outcome) -> set[Name]:
    """What the killed server left, read by a server of its own that serves a copy."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    await asyncio.to_thread(shutil.copytree, server.folder, copy)
    reader = type(server)(copy, server.component)
    await asyncio.to_thread(reader.start)
    store = RedisSessionStore(reader.url, Pipeline("audit"))
    found: set[Name] = set()
    try:
        for owner in (f"owner-{number}" for number in range(_OWNERS)):
            for conversation in (f"conversation-{number}" for number in range(_CONVERSATIONS)):
                kept = await _patiently(store, conversation, owner)
                messages = kept.messages if kept is not None else ()
                found |= {(owner, conversation, message.id) for message in messages}
                outcome.doubled += len(messages) - len({message.content for message in messages})
    finally:
        await store.aclose()
        reader.stop()
    return found


async def _patiently(store: RedisSessionStore, conversation: str, owner: str) -> Conversation | None:
    """An audit has time, on a machine that has none."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.get(conversation, owner)
            except SessionsUnavailable:
                await asyncio.sleep(0.1)
