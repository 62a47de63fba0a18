"""A turn that was cut off goes on where it was: with its steps in Redis, its own only, and without them anew."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from mcp_server_langgraph.agent.checkpoints import thread_of
from mcp_server_langgraph.agent.runner import Agent
from mcp_server_langgraph.auth.records import RedisRecords
from mcp_server_langgraph.auth.session import InMemorySessionStore
from mcp_server_langgraph.resilience import Pipeline
from tests.agent.cut_off import CutOff, answers_in_redis, counting_agent
from tests.support.eventually import until
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.real_time(limit=60), pytest.mark.usefixtures("fresh_registry")]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "data", "valkey") as running:
        yield running


@asynccontextmanager
async def kept(server: RedisServer, **options: float) -> AsyncIterator[RedisRecords]:
    records = RedisRecords(server.url, Pipeline.standard("database"), **options)  # type: ignore[arg-type]
    try:
        yield records
    finally:
        await records.aclose()


async def cut_off_turn(agent: Agent, owner: str = "me") -> str:
    """A conversation whose second turn lost its model after a tool was run."""
    begun = (await agent.chat(owner, "hello")).conversation_id
    with pytest.raises(CutOff):
        await agent.chat(owner, "work", begun)
    return begun


async def test_the_same_message_again_goes_on_and_repeats_no_tool(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, ran = counting_agent(records, cuts=1)
        begun = await cut_off_turn(agent)
        assert sorted(ran) == ["one", "two"]
        turn = await agent.chat("me", "work", begun)
        assert turn.answer == "done: one ran; two ran"
        assert [(use.name, use.ok) for use in turn.tool_calls] == [("one", True), ("two", True)]
        assert sorted(ran) == ["one", "two"]


async def test_another_process_goes_on_too(valkey: RedisServer) -> None:
    sessions = InMemorySessionStore()
    async with kept(valkey) as records:
        agent, _ = counting_agent(records, cuts=1, sessions=sessions)
        begun = await cut_off_turn(agent)
    async with kept(valkey) as records:
        other, ran = counting_agent(records, sessions=sessions)
        assert (await other.chat("me", "work", begun)).answer == "done: one ran; two ran"
        assert ran == []


async def test_of_two_tools_only_the_one_that_was_not_done_is_run_again(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, ran = counting_agent(records, hangs="two")
        begun = (await agent.chat("me", "hello")).conversation_id
        call = asyncio.create_task(agent.chat("me", "work", begun))
        await until(lambda: sorted(ran) == ["one", "two"])
        await answers_in_redis(valkey.url, "one")
        call.cancel()
        await asyncio.wait({call})
        turn = await agent.chat("me", "work", begun)
        assert turn.answer == "done: one ran; two ran"
        assert sorted(ran) == ["one", "two", "two"]


async def test_another_message_begins_anew(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, ran = counting_agent(records, cuts=1)
        begun = await cut_off_turn(agent)
        await agent.chat("me", "work, please", begun)
        assert sorted(ran) == ["one", "one", "two", "two"]


async def test_the_same_message_after_the_turn_was_answered_is_a_turn_of_its_own(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, ran = counting_agent(records)
        begun = (await agent.chat("me", "hello")).conversation_id
        for _ in range(2):
            await agent.chat("me", "work", begun)
        assert sorted(ran) == ["one", "one", "two", "two"]


async def test_what_is_answered_leaves_no_steps_behind(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, _ = counting_agent(records)
        begun = (await agent.chat("me", "hello")).conversation_id
        await agent.chat("me", "work", begun)
        redis: Redis = Redis.from_url(valkey.url)
        assert await redis.keys("*") == []
        await redis.aclose()


async def test_the_steps_end_with_their_time(valkey: RedisServer) -> None:
    async with kept(valkey, ttl=100.0) as records:
        agent, _ = counting_agent(records, cuts=1)
        await cut_off_turn(agent)
        redis: Redis = Redis.from_url(valkey.url)
        (name,) = await redis.keys("*")
        assert 0 < await redis.pttl(name) <= 100_000
        await redis.aclose()


async def test_a_poisoned_step_is_left_out_and_the_turn_begins_anew(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, ran = counting_agent(records, cuts=1)
        begun = await cut_off_turn(agent)
        redis: Redis = Redis.from_url(valkey.url)
        (name,) = await redis.keys("*")
        for field in await redis.hkeys(name):
            await redis.hset(name, field, b"\xc1 no msgpack")
        await redis.hset(name, b"\xff", b"x")
        await redis.aclose()
        assert (await agent.chat("me", "work", begun)).answer == "done: one ran; two ran"
        assert len(ran) == 4


async def test_in_an_outage_the_steps_are_kept_here_and_written_back(valkey: RedisServer) -> None:
    async with kept(valkey) as records:
        agent, ran = counting_agent(records, cuts=2)
        begun = (await agent.chat("me", "hello")).conversation_id
        valkey.kill()
        for _ in range(2):
            with pytest.raises(CutOff):
                await agent.chat("me", "work", begun)
        assert sorted(ran) == ["one", "two"]
        assert records.pending == 1
        valkey.start()
        await until(lambda: not records.pending)
        redis: Redis = Redis.from_url(valkey.url)
        assert len(await redis.keys("*")) == 1
        await redis.aclose()
        assert (await agent.chat("me", "work", begun)).answer == "done: one ran; two ran"
        assert sorted(ran) == ["one", "two"]


def test_a_thread_is_its_owners_and_its_parts() -> None:
    assert thread_of("ann", "c", 1, "hello") == thread_of("ann", "c", 1, "hello")
    others = [
        ("bob", "c", 1, "hello"),
        ("ann", "c", 2, "hello"),
        ("ann", "c1", "", "hello"),
        ("ann", "c", 1, "hell", "o"),
    ]
    assert len({thread_of(*each) for each in others} | {thread_of("ann", "c", 1, "hello")}) == 5


@pytest.mark.real_time(limit=180)
async def test_a_turn_goes_on_after_kill_9_of_the_process_that_ran_it(
    valkey: RedisServer, tmp_path: Path
) -> None:
    log = tmp_path / "tools"

    async def worker(cuts: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.agent.cut_off",
            valkey.url,
            str(log),
            cuts,
            stdout=asyncio.subprocess.PIPE,
        )

    first = await worker("hang")
    assert first.stdout is not None
    assert (await first.stdout.readline()).strip() == b"hanging"
    first.send_signal(signal.SIGKILL)
    await first.wait()
    assert sorted(log.read_text().split()) == ["one", "two"]
    again = await worker("go on")
    out, _ = await again.communicate()
    assert json.loads(out) == "done: one ran; two ran"
    assert sorted(log.read_text().split()) == ["one", "two"]


async def test_langgraphs_own_conformance_tests_pass(valkey: RedisServer) -> None:
    conformance = pytest.importorskip(
        "langgraph.checkpoint.conformance", reason="pip install langgraph-checkpoint-conformance"
    )
    from mcp_server_langgraph.agent.checkpoints import RedisSaver

    async def saver() -> AsyncIterator[RedisSaver]:
        async with kept(valkey) as records:
            yield RedisSaver(records)

    report = await conformance.validate(conformance.checkpointer_test(name="RedisSaver")(saver))
    failures = [failure for result in report.results.values() for failure in result.failures]
    assert failures == []
    detected = {name for name, result in report.results.items() if result.detected}
    assert {"put", "put_writes", "get_tuple", "list", "delete_thread", "copy_thread"} <= detected
