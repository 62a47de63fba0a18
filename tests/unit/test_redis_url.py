"""What a Redis URL may say."""

import pytest

from mcp_server_langgraph.settings.redis_url import RedisUrl


def test_one_server() -> None:
    found = RedisUrl.parse("rediss://me:p%40ss@redis.example/3?ssl_ca_certs=/a.pem")
    assert (found.kind, found.tls, found.nodes, found.db) == ("server", True, (("redis.example", 6379),), 3)
    assert (found.username, found.password) == ("me", "p@ss")
    assert RedisUrl.parse("redis://h:1").nodes == (("h", 1),)
    assert RedisUrl.parse("unix:///run/redis.sock?db=1").nodes == ()


def test_sentinels() -> None:
    found = RedisUrl.parse("redis+sentinel://:secret@a:1,b,[::1]:3/main%2F1/2?sentinel_password=x")
    assert found.nodes == (("a", 1), ("b", 26379), ("::1", 3))
    assert (found.kind, found.tls, found.service, found.db) == ("sentinel", False, "main/1", 2)
    assert (found.username, found.password) == (None, "secret")
    assert found.options == {"sentinel_password": "x"}
    assert RedisUrl.parse("rediss+sentinel://a/main").tls


def test_a_cluster() -> None:
    found = RedisUrl.parse("redis+cluster://a,b:7001/0")
    assert (found.kind, found.nodes, found.db) == ("cluster", (("a", 6379), ("b", 7001)), 0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a",
        "redis",
        "redis://",
        "unix://",
        "redis+magic://a",
        "unix+cluster:///a",
        "redis://a:b",
        "redis://a:99999",
        "redis://a/b",
        "redis://a/1/2",
        "redis+sentinel://a",
        "redis+sentinel://a,/main",
        "redis+sentinel://a/main/x",
        "redis+sentinel://a/main?socket_timeout=60",
        "redis+sentinel://a/main?x",
        "redis+cluster://a/1",
        "redis+cluster://a?sentinel_retry=5",
        "redis+cluster://",
    ],
)
def test_what_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RedisUrl.parse(url)


def test_secrets_are_not_shown() -> None:
    found = RedisUrl.parse("redis+sentinel://me:swordfish@a/main?sentinel_password=marlin")
    assert "swordfish" not in repr(found)
    assert "marlin" not in repr(found)
    with pytest.raises(ValueError, match="number") as refused:
        RedisUrl.parse("redis://me:swordfish@a/x")
    assert "swordfish" not in str(refused.value)
