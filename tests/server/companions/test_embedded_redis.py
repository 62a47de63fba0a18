"""`serve --with-redis`: conversations outlive the server, and the Redis that holds them does not."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from mcp import Client
from redis import Redis
from redis.exceptions import RedisError

from mcp_server_langgraph.resilience.errors import SettingsError
from mcp_server_langgraph.server.companions.redis import EmbeddedRedis, default_folder
from tests.server.running import chat_until_whole, eventually, running_server
from tests.support.components import require


@pytest.fixture(autouse=True)
def _valkey() -> None:
    require("valkey")


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_of(url: str) -> int:
    with Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def socket_of(folder: Path) -> str:
    """Where the Redis of a server answers; the folder's name must be short."""
    return f"unix://{folder / 'redis.sock'}"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")


@pytest.mark.real_time(limit=400)
async def test_a_conversation_survives_a_restart_of_the_server(folder: Path, tmp_path: Path) -> None:
    arguments = ("--with-redis", "--data-dir", str(folder))
    with running_server(tmp_path, *arguments) as first:
        async with Client(first.url) as client:
            said = await chat_until_whole(client, "My name is Ada")
        assert said["durable"] is True
        redis = pid_of(socket_of(folder))
        first.signal(signal.SIGTERM)
        assert first.process.wait(60) == 0
        assert not alive(redis)
    with running_server(tmp_path, *arguments) as second:
        async with Client(second.url) as client:
            again = await chat_until_whole(client, "What is my name?", said["conversation_id"])
        assert "Ada" in again["answer"]
        redis = pid_of(socket_of(folder))
    # Killed, not stopped: the server had no time for anything.
    await eventually(lambda: not alive(redis))


def answered(url: str) -> bool:
    with contextlib.suppress(RedisError), Redis.from_url(url, retry=None) as client:
        return bool(client.ping())
    return False


@pytest.mark.real_time
async def test_redis_that_dies_is_started_again_with_what_it_kept(folder: Path) -> None:
    with EmbeddedRedis(folder) as redis:
        with Redis.from_url(redis.url) as client:
            client.set("kept", "yes")
        first = pid_of(redis.url)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: not alive(first))
        await eventually(lambda: answered(redis.url))
        with Redis.from_url(redis.url) as client:
            assert client.get("kept") == b"yes"
        second = pid_of(redis.url)
        assert second != first
    assert not alive(second)


def test_its_folder_and_socket_are_for_this_user_alone(folder: Path) -> None:
    data = folder / "data"
    with EmbeddedRedis(data) as redis:
        assert data.stat().st_mode & 0o077 == 0
        assert Path(redis.url.removeprefix("unix://")).stat().st_mode & 0o077 == 0


def test_a_folder_with_a_long_path_has_its_socket_elsewhere_and_leaves_nothing_there(folder: Path) -> None:
    with EmbeddedRedis(folder / ("x" * 100)) as redis:
        assert answered(redis.url)
        elsewhere = Path(redis.url.removeprefix("unix://")).parent
        assert elsewhere.stat().st_mode & 0o077 == 0
    assert not elsewhere.exists()


def test_two_servers_cannot_have_one_folder(folder: Path) -> None:
    with EmbeddedRedis(folder), pytest.raises(SettingsError, match="in use by another server"):
        EmbeddedRedis(folder).__enter__()
    with EmbeddedRedis(folder) as again:
        assert answered(again.url)


def test_a_folder_that_valkey_cannot_read_is_told(folder: Path) -> None:
    (folder / "appendonlydir").write_text("not a folder")
    with pytest.raises(SettingsError, match=r"did not start; .*valkey\.log"):
        EmbeddedRedis(folder).__enter__()
    (folder / "appendonlydir").unlink()
    with EmbeddedRedis(folder) as redis:
        assert answered(redis.url)


def test_the_default_folder_follows_the_xdg_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_folder({}) == Path("/home/ada/.local/state/mcp-server-langgraph/redis")
    assert default_folder({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "mcp-server-langgraph/redis"
