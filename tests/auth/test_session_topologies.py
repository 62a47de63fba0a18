"""Sessions on a master that Sentinel knows, and on a cluster: found, lost, and found again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server_langgraph.auth.owners import owner_tag
from mcp_server_langgraph.auth.session import (
    ConversationConflict,
    ConversationDeleted,
    LimitReached,
    SessionLimits,
)
from tests.auth.redis_sessions import TURN, in_a_hurry, opened, patient, said, texts, turn
from tests.support.eventually import until
from tests.support.ports import HOST, free_port
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisSentinel, RedisServer


@pytest.fixture(params=["valkey", "redis"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path, request.param) as running:
        yield running


@pytest.mark.real_time(limit=60)
async def test_sentinels_new_master_gets_what_was_said_while_there_was_none(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one", "redis") as one:
        other = RedisServer(tmp_path / "two", "redis", replicaof=f"{HOST} {one.port}")
        with other, RedisSentinel(tmp_path / "sentinel", one) as sentinel:
            await sentinel.knows_a_replica()
            hosts = f"{HOST}:{free_port()},{HOST}:{sentinel.port}"
            async with in_a_hurry(f"redis+sentinel://{hosts}/main/0") as store:
                assert store.master is None
                with patient(store):
                    kept, notes, _ = await turn(store, "before")
                assert kept.durable
                assert notes == []
                assert store.master == f"{HOST}:{one.port}"
                one.kill()
                kept, notes, seconds = await turn(store, "in the outage")
                assert seconds < TURN
                assert notes
                assert not kept.durable
                await until(lambda: not store.pending and not store.degraded, within=30)
                assert store.master == f"{HOST}:{other.port}"
                one.start()
                with patient(store):
                    assert (await turn(store, "after"))[0].durable
            async with opened(other.url) as direct:
                assert texts(await direct.get("c", "ann")) == ["before", "in the outage", "after"]


@pytest.mark.real_time(limit=60)
async def test_an_old_master_that_became_a_replica_is_not_written_to(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one", "redis") as one:
        other = RedisServer(tmp_path / "two", "redis", replicaof=f"{HOST} {one.port}")
        with other, RedisSentinel(tmp_path / "sentinel", one) as sentinel:
            await sentinel.knows_a_replica()
            async with in_a_hurry(f"redis+sentinel://{HOST}:{sentinel.port}/main") as store:
                with patient(store):
                    await turn(store, "before")
                one.pause()
                assert (await turn(store, "in the outage"))[0].durable is False
                await until(lambda: not store.pending and not store.degraded, within=30)
                one.resume()
                with patient(store):
                    assert (await turn(store, "after"))[0].durable
                assert store.master == f"{HOST}:{other.port}"


@pytest.mark.real_time(limit=60)
async def test_a_sentinel_that_knows_no_such_master_is_an_outage(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one", "redis") as one, RedisSentinel(tmp_path / "sentinel", one) as sentinel:
        async with in_a_hurry(f"redis+sentinel://{HOST}:{sentinel.port}/other") as store:
            began = asyncio.get_running_loop().time()
            assert not (await store.append("c", "ann", said("hello"))).durable
            assert asyncio.get_running_loop().time() - began < TURN


@pytest.mark.real_time(limit=90)
async def test_a_cluster_keeps_finds_limits_and_deletes(cluster: RedisCluster) -> None:
    limits = SessionLimits(conversations=2)
    async with opened(cluster.url, limits=limits, extend_on_read=True) as store:
        for owner in ("ann", "bob", "cat", "dan", "eve{a}", "{b}fay"):
            kept = await store.append("c{x}", owner, said(f"{owner} likes tea"), expected_version=0)
            assert kept.durable
            assert texts(await store.get("c{x}", owner)) == [f"{owner} likes tea"]
            assert [hit.snippet for hit in await store.search(owner, "tea")] == [f"{owner} likes tea"]
            with pytest.raises(ConversationConflict):
                await store.append("c{x}", owner, said("late"), expected_version=0)
            await store.append("d", owner, said("another"))
            with pytest.raises(LimitReached):
                await store.ensure_room(owner, None)
            with pytest.raises(LimitReached):
                await store.append("e", owner, said("one too many"))
            assert await store.delete("d", owner)
            assert await store.delete_all(owner) == 1
            with pytest.raises(ConversationDeleted):
                await store.append("c{x}", owner, said("late"))
        assert not store.degraded


@pytest.mark.real_time(limit=90)
async def test_when_a_clusters_master_is_killed_its_replica_gets_what_was_said_meanwhile(
    cluster: RedisCluster,
) -> None:
    async with in_a_hurry(cluster.url) as store:
        with patient(store):
            await turn(store, "before")
        master = cluster.master_of(f"{{{owner_tag('ann')}}}")
        master.kill()
        kept, notes, seconds = await turn(store, "in the outage")
        assert seconds < TURN
        assert notes
        assert not kept.durable
        await until(lambda: not store.pending and not store.degraded, within=40)
        assert cluster.master_of(f"{{{owner_tag('ann')}}}") is not master
        with patient(store):
            assert (await turn(store, "after"))[0].durable
        async with opened(cluster.url) as other:
            assert texts(await other.get("c", "ann")) == ["before", "in the outage", "after"]
