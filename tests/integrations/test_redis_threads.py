"""A guarded synchronous client, shared by threads, on a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import exceptions

from mcp_server_langgraph.resilience import BulkheadFull, CircuitOpen
from tests.integrations.redis_clients import (
    breaker_of,
    bulkhead_of,
    client_in_threads,
    in_threads,
    plain,
    seen,
    small_bulkhead,
)
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def blocked(port: int) -> None:
    """Wait until the server has a client that waits for a list."""
    with plain(port) as operator:
        give_up = time.monotonic() + 10
        while not operator.info("clients")["blocked_clients"]:
            assert time.monotonic() < give_up
            time.sleep(0.005)


@pytest.mark.real_time(limit=20)
def test_threads_share_one_client_and_each_command_is_sent_once(valkey: RedisServer) -> None:
    pipeline = in_threads()
    with client_in_threads(valkey.port, pipeline) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.incr("count"), range(200)))
        assert client.lock("one at a time", timeout=5).acquire()
        assert client.client().get("count") == b"200"
        with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"):
            client.lpush("count", 1)
    assert sorted(answers) == list(range(1, 201))
    assert seen(valkey.port, "incrby") == 200
    assert breaker_of(pipeline).successes == 200 + 2
    assert breaker_of(pipeline).neutral == 1


@pytest.mark.real_time(limit=20)
def test_a_hung_and_a_dead_server_open_the_circuit_and_are_left_alone(valkey: RedisServer) -> None:
    pipeline = in_threads(small_bulkhead())
    with client_in_threads(valkey.port, pipeline, socket_timeout=0.5) as client:
        client.set("name", "value")
        valkey.pause()
        with pytest.raises(exceptions.TimeoutError):
            client.incr("count")
        with pytest.raises(exceptions.TimeoutError):
            client.get("name")
        assert breaker_of(pipeline).failures == {"TimeoutError": 4}
        valkey.resume()
        assert client.get("name") == b"value"
        valkey.kill()
        for _ in range(5):
            with pytest.raises((exceptions.ConnectionError, CircuitOpen)):
                client.get("name")
        commands = client.pipeline().get("name")
        with pytest.raises(CircuitOpen):
            commands.execute()
        assert not len(commands)
        with pytest.raises(CircuitOpen):
            client.blpop("queue", 1)
        with pytest.raises(CircuitOpen):
            client.pubsub().subscribe("news")
    assert bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=20)
def test_a_blocked_thread_takes_no_place_and_is_not_cut_before_its_time(valkey: RedisServer) -> None:
    pipeline = in_threads(small_bulkhead())
    with client_in_threads(valkey.port, pipeline, socket_timeout=0.4) as client:
        assert client.blpop("queue", 0.6) is None
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.blpop, "queue")
            blocked(valkey.port)
            time.sleep(0.6)
            client.rpush("queue", "item")
            assert waiting.result(30) == (b"queue", b"item")
        began = time.monotonic()
        valkey.pause()
        with pytest.raises(exceptions.TimeoutError):
            client.blpop("queue", 0.2)
        assert time.monotonic() - began >= 0.6
        valkey.resume()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.blpop, "queue", 5)
            blocked(valkey.port)
            valkey.kill()
            with pytest.raises(exceptions.ConnectionError):
                waiting.result(30)
    assert breaker_of(pipeline).failures == {"TimeoutError": 1, "ConnectionError": 1}
    assert bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=20)
def test_after_a_blocking_command_the_connection_has_its_timeout_back(valkey: RedisServer) -> None:
    pipeline = in_threads()
    with client_in_threads(valkey.port, pipeline, socket_timeout=0.5) as pooled:
        client = pooled.client()  # one connection; a pool sets it back itself
        client.rpush("queue", "item")
        client.blpop("queue", 5)
        valkey.pause()
        with ThreadPoolExecutor(1) as threads, pytest.raises(exceptions.TimeoutError):
            threads.submit(client.incr, "count").result(30)
        valkey.resume()


@pytest.mark.real_time(limit=20)
def test_a_full_bulkhead_refuses_a_second_thread(valkey: RedisServer) -> None:
    pipeline = in_threads(small_bulkhead())
    with client_in_threads(valkey.port, pipeline) as client:
        client.ping()
        valkey.pause()
        asking = threading.Thread(target=client.get, args=("name",))
        asking.start()
        give_up = time.monotonic() + 30
        while not bulkhead_of(pipeline).active:
            assert time.monotonic() < give_up
        with pytest.raises(BulkheadFull):
            client.incr("count")
        valkey.resume()
        asking.join(30)
    assert seen(valkey.port, "incrby") == 0


@pytest.mark.real_time(limit=20)
def test_a_subscribed_thread_comes_back_after_its_connection_was_lost(valkey: RedisServer) -> None:
    pipeline = in_threads(small_bulkhead())
    with (
        TcpProxy(valkey.port) as proxy,
        client_in_threads(proxy.port, pipeline, socket_timeout=0.5) as client,
        client.pubsub() as channel,
    ):
        channel.subscribe("news")
        assert channel.get_message(timeout=10)["type"] == "subscribe"
        assert channel.get_message(timeout=0.3) is None
        assert bulkhead_of(pipeline).active == 0
        assert not breaker_of(pipeline).failures
        before = proxy.connections
        proxy.reset()
        with pytest.raises(exceptions.ConnectionError):
            channel.get_message(timeout=10)
        assert proxy.connections == before
        assert breaker_of(pipeline).failures == {"ConnectionError": 1}
        with pytest.raises(exceptions.ConnectionError):
            channel.get_message(timeout=10)
        assert breaker_of(pipeline).failures == {"ConnectionError": 4}
        proxy.heal()
        assert channel.get_message(timeout=10)["type"] == "subscribe"
        client.publish("news", "again")
        assert next(channel.listen())["data"] == b"again"
    assert breaker_of(pipeline).state == "closed"
