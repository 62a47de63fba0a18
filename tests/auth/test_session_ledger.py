"""Every acknowledged message is found after kills and pauses of Redis, or was called not durable and is found later.

The same with 10,000 writes: `python -m benchmarks.sessions`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcp_server_langgraph.auth.session import Conversation, RedisSessionStore
from tests.support import session_ledger
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("fresh_registry")


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "data", request.param, appendfsync="always") as running:
        yield running


@pytest.mark.real_time(limit=120)
async def test_no_acknowledged_message_is_lost_over_kills_and_pauses(
    server: RedisServer, tmp_path: Path
) -> None:
    outcome = await session_ledger.run(server, tmp_path, 500, pause=0.06, kinds="kp")
    assert outcome.kills >= 1
    assert outcome.pauses >= 1
    assert outcome.audited > 100
    assert outcome.untrue == set()
    assert outcome.lost == set()
    assert outcome.doubled == 0
    assert outcome.durable + outcome.not_durable >= 500
    assert outcome.not_durable > 0


def acknowledge_before_writing(store: RedisSessionStore) -> None:
    """A store that answers first and writes a moment later."""
    write, close, background = store._redis.append, store._redis.aclose, set[asyncio.Task[Any]]()
    told: dict[tuple[str, str], Conversation] = {}

    async def late(*args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0.3)
        with suppress(Exception):
            await write(*args, **kwargs)

    async def append(conversation_id: str, owner: str, messages: Any, **kwargs: Any) -> Conversation:
        task = asyncio.create_task(late(conversation_id, owner, messages, **kwargs))
        background.add(task)
        task.add_done_callback(background.discard)
        name = (owner, conversation_id)
        known = told.get(name) or Conversation.of(conversation_id, owner, (), now=0.0, durable=True)
        told[name] = known.with_messages((*kwargs["earlier"], *messages), now=0.0, durable=True)
        return told[name]

    async def aclose() -> None:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await close()

    store._redis.append = append  # type: ignore[assignment,method-assign]
    store._redis.aclose = aclose  # type: ignore[method-assign]


@pytest.mark.real_time(limit=120)
async def test_the_ledger_finds_out_a_store_that_acknowledges_before_it_writes(
    valkey: RedisServer, tmp_path: Path
) -> None:
    outcome = await session_ledger.run(valkey, tmp_path, 300, kinds="k", tamper=acknowledge_before_writing)
    assert outcome.untrue
    assert outcome.lost
