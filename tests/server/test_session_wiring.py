"""What the settings make of sessions: where they are, what readiness tells, and that no client acts by itself."""

from pathlib import Path

import pytest

from mcp_server_langgraph.auth.session import InMemorySessionStore, RedisSessionStore, StoredMessage
from mcp_server_langgraph.resilience.errors import SettingsError
from mcp_server_langgraph.resilience.integrations.doctor import examine
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.server.wiring._parts import Parts
from mcp_server_langgraph.server.wiring._sessions import records, sessions
from mcp_server_langgraph.settings import Settings
from tests.support.certificates import write_certificate
from tests.support.ports import HOST, free_port

KINDS = {
    "server": f"redis://{HOST}:{free_port()}",
    "sentinel": f"redis+sentinel://{HOST}:{free_port()},{HOST}:{free_port()}/main",
    "cluster": f"redis+cluster://{HOST}:{free_port()},{HOST}:{free_port()}",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tls", [False, True])
async def test_no_client_of_redis_retries_by_itself_or_waits_for_ever(
    kind: str, tls: bool, tmp_path: Path
) -> None:
    url = KINDS[kind].replace("redis", "rediss", 1) if tls else KINDS[kind]
    given = {"REDIS_URL": url, "REDIS_CA_FILE": str(write_certificate(tmp_path)[0])}
    store = sessions(Parts(Settings.from_env(given)))
    assert isinstance(store, RedisSessionStore)
    report = examine(store)
    assert report.healthy, str(report)
    client = store._redis.client._redis
    clients = [client, *getattr(store._redis.client._sentinel, "sentinels", ())]
    for each in clients:
        options = each.get_connection_kwargs()
        assert 0 < options["socket_timeout"] <= 0.5
        assert 0 < options["socket_connect_timeout"] <= 0.5
        retry = each.retry if kind == "cluster" else each.get_retry()
        assert retry.get_retries() == 0
    await store.aclose()


async def test_readiness_tells_sentinels_master_and_what_waits() -> None:
    parts = Parts(Settings.from_env({"REDIS_URL": KINDS["sentinel"]}))
    store = sessions(parts)
    (dependency,) = parts.dependencies
    assert dependency.mode == "sessions in Redis, found by Sentinel"
    assert dependency.facts() == {"messages_to_write_back": 0, "memory_bytes": 0, "sentinel_master": None}
    await store.aclose()


async def test_the_limits_are_those_of_the_settings() -> None:
    store = sessions(
        Parts(Settings.from_env({"SESSION_MAX_CONVERSATIONS": "1", "SESSION_EXTEND_ON_READ": "true"}))
    )
    assert isinstance(store, InMemorySessionStore)
    assert store._limits.conversations == 1
    assert store._extend_on_read


def test_a_url_that_is_none_of_redis_is_told_without_its_password() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL") as refused:
        Settings.from_env({"REDIS_URL": "redis+sentinel://me:swordfish@host"})
    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize("redis", [False, True])
@pytest.mark.parametrize(
    ("user", "share"), [({}, 1_048_576), ({"SESSION_MEMORY_BYTES_PER_USER": "3000000"}, 3_000_000)]
)
async def test_with_redis_copies_and_what_waits_have_half_of_the_memory_each(
    redis: bool, user: dict[str, str], share: int
) -> None:
    url = {"REDIS_URL": KINDS["server"]} if redis else {}
    user = {} if share is None else {"SESSION_MEMORY_BYTES_PER_USER": str(share)}
    store = sessions(Parts(Settings.from_env({"SESSION_MEMORY_BYTES": "4194304", **user, **url})))
    each = (1_048_576 if share is None else share) // (1 + redis)
    if isinstance(store, RedisSessionStore):
        memory, backlog = store._held.memory, store._held.backlog
        assert (backlog._max_bytes, backlog._share) == (2_097_152, each)
    else:
        assert isinstance(store, InMemorySessionStore)
        memory = store
    assert (memory._kept._max_bytes, memory._share) == (4_194_304 // (1 + redis), each)
    await store.aclose()


async def test_readiness_tells_how_much_memory_the_conversations_take() -> None:
    parts = Parts(Settings.from_env({}))
    store = sessions(parts)
    (dependency,) = parts.dependencies
    assert dependency.facts() == {"memory_bytes": 0}
    await store.append("c", "ann", [StoredMessage.new("user", "x" * 5_000)])
    assert 5_000 < dependency.facts()["memory_bytes"] < 8_000


async def test_readiness_tells_of_how_many_turns_the_steps_wait() -> None:
    parts = Parts(Settings.from_env({"REDIS_URL": KINDS["server"]}))
    steps = records(parts)
    assert steps is not None
    store = sessions(parts, steps)
    (dependency,) = parts.dependencies
    assert dependency.facts()["records_to_write_back"] == 0
    steps._pending["tag", "turn"] = ({b"field": b"1"}, {})
    assert dependency.facts()["records_to_write_back"] == 1
    steps._pending.clear()
    for close in (store.aclose, *parts.closers):
        await close()


async def test_the_server_tells_it() -> None:
    wired = wire(Settings.from_env({"REDIS_URL": KINDS["server"]}))
    facts = {each.name: each.facts() for each in wired.services.board._dependencies}
    assert facts["redis"].keys() == {"messages_to_write_back", "memory_bytes", "records_to_write_back"}
    await wired.services.aclose()
