"""What `guard` takes and refuses, and what it knows of commands."""

from __future__ import annotations

import math
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry as Retries
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    ConfigurationError,
    Hedge,
    Pipeline,
    Retry,
    Timeout,
)
from mcp_server_langgraph.resilience.integrations._redis.commands import blocks_for
from mcp_server_langgraph.resilience.integrations.redis import guard, is_repeatable
from mcp_server_langgraph.resilience.testing import Recorder
from tests.integrations.redis_clients import client_on, guarding, tame

ONE = Retries(NoBackoff(), 0)


@pytest.mark.parametrize(
    "words",
    [
        ("GET", "k"),
        ("get", "k"),
        (b"GET", "k"),
        ("MGET", "a", "b"),
        ("SET", "k", "v"),
        ("SET", "k", "NX"),
        ("SET", b"k", b"v", "EX", 10),
        ("SET", "k", "v", "px", "10", "KEEPTTL"),
        ("GET k",),
        ("SET k v EX 10",),
        ("SUBSCRIBE", "news"),
    ],
)
def test_what_does_no_harm_twice_may_be_sent_again(words: tuple[Any, ...]) -> None:
    assert is_repeatable(words)


@pytest.mark.parametrize(
    "words",
    [
        ("INCR", "k"),
        ("INCRBY", "k", 1),
        ("LPUSH", "k", 1),
        ("DEL", "k"),
        ("HSET", "k", "f", "v"),
        ("EVALSHA", "x", 0),
        ("SET", "k", "v", "NX"),
        ("SET", "k", "v", "xx"),
        ("SET", "k", "v", b"NX"),
        ("SET", "k", "v", "GET"),
        ("SET", "k", "v", "EX", 10, "NX"),
        ("SET k v NX",),
        ("GETDEL", "k"),
        ("BLPOP", "k", 1),
        ("SPUBLISH", "news", "x"),
        ("CLIENT LIST",),
        ("",),
    ],
)
def test_what_does_or_says_something_else_the_second_time_may_not(words: tuple[Any, ...]) -> None:
    assert not is_repeatable(words)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (("BLPOP", "a", "b", 1.5), 1.5),
        (("BLPOP", "a", 0), math.inf),
        ((b"BRPOP", "a", b"2"), 2),
        (("BLMOVE", "a", "b", "LEFT", "RIGHT", 3), 3),
        (("BLMPOP", 4, 1, "a", "LEFT"), 4),
        (("BZMPOP", 5, 1, "a", "MIN"), 5),
        (("WAIT", 1, 250), 0.25),
        (("WAITAOF", 1, 0, 500), 0.5),
        (("XREAD", b"BLOCK", b"100", b"STREAMS", "s", "$"), 0.1),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", ">"), math.inf),
        (("XREAD", b"STREAMS", "BLOCK", "5", "0", "0"), None),
        (("blpop q 7",), 7),
        (("BLPOP", "a", "soon"), None),
        (("BLMPOP",), None),
        (("GET", "BLPOP", 1), None),
    ],
)
def test_how_long_a_command_may_wait(words: tuple[Any, ...], seconds: float | None) -> None:
    assert blocks_for(words) == seconds


WORD = st.one_of(st.text(max_size=5), st.binary(max_size=5), st.integers(), st.floats(), st.none())
NAME = st.sampled_from(["SET", "XREAD", "BLPOP", "WAIT", "BLMPOP", "", "GET"])


@given(st.tuples(NAME, WORD, WORD, WORD))
def test_no_command_however_wrong_is_stopped_here(words: tuple[Any, ...]) -> None:
    assert is_repeatable(words) in (True, False)
    waits = blocks_for(words)
    assert waits is None or waits > 0 or words[0] in ("BLPOP", "WAIT", "BLMPOP")


def test_a_client_that_retries_by_itself_is_refused() -> None:
    for client in (
        Redis(),
        redis.Redis(),
        RedisCluster(host="localhost"),
        Redis.from_url("redis://localhost", retry_on_timeout=True),
    ):
        with pytest.raises(ConfigurationError, match=r"retry=Retry\(NoBackoff\(\), 0\)"):
            guard(client, guarding())


def test_a_client_that_waits_for_ever_is_refused_where_nothing_else_bounds_it() -> None:
    unbounded = Pipeline("redis", CircuitBreaker())
    for client in (Redis(retry=ONE, socket_timeout=None), Redis.from_url("redis://", socket_timeout=None)):
        with pytest.raises(ConfigurationError, match="socket_timeout"):
            guard(client, unbounded)
        assert guard(client, Pipeline("redis", Timeout(1))) is client
    assert guard(Redis.from_url("redis://localhost"), unbounded)  # redis-py 8 bounds it itself


def test_what_is_no_client_or_is_guarded_already_is_refused() -> None:
    pipeline = guarding()
    client = client_on(1, pipeline)
    others: list[Any] = [client.pipeline(), redis.Redis().pipeline(), client.pubsub(), object()]
    for other in others:
        with pytest.raises(ConfigurationError, match="no client"):
            guard(other, pipeline)
    with pytest.raises(ConfigurationError, match="already"):
        guard(client, pipeline)


def test_a_synchronous_client_under_a_timeout_is_refused() -> None:
    client = redis.Redis.from_url("redis://localhost", socket_timeout=1)
    with pytest.raises(TypeError, match="timeout cannot guard"):
        guard(client, guarding())
    assert type(client) is redis.Redis


def test_a_guarded_client_stays_of_its_class_and_is_the_same_object() -> None:
    class Mine(Redis):
        pass

    client = Mine(**tame(1, retry=ONE))
    assert guard(client, guarding()) is client
    assert isinstance(client, Mine)
    assert type(client).__name__ == "Mine"


def test_one_is_warned_of_connections_that_nobody_looks_at(recorder: Recorder) -> None:
    guard(Redis(**tame(1, retry=ONE, maint_notifications_config=None)), guarding())
    quiet = MaintNotificationsConfig(enabled=False)
    guard(Redis(**tame(1, retry=ONE, maint_notifications_config=quiet)), guarding())
    warned = [event.details["advice"] for event in recorder.events if event.kind == "warning"]
    assert warned == ["maint_notifications_config=MaintNotificationsConfig(enabled=False)"]


async def test_hedges_too_are_only_for_what_does_no_harm_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    async def execute(_: object, *words: Any, **__: Any) -> None:
        sent.append(words[0])
        raise redis.ConnectionError

    monkeypatch.setattr(Redis, "execute_command", execute)
    pipeline = Pipeline("redis", Retry(2, multiplier=0.01), Hedge(delay=0.01), Timeout(1))
    client: Any = client_on(1, pipeline)
    for ask in (client.get, client.incr):
        with pytest.raises(redis.ConnectionError):
            await ask("k")
    assert sent.count("INCRBY") == 1
    assert sent.count("GET") >= 2
