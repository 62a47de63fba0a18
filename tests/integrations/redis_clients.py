"""Tame clients of redis-py, the pipelines that guard them, and what a server has seen of them."""

from __future__ import annotations

from typing import Any

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry as NoRetries
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry as NoRetriesInThreads

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Pipeline, Policy, Retry, Timeout
from mcp_server_langgraph.resilience.integrations.redis import guard
from tests.support.ports import HOST

ATTEMPT = 0.5


def tame(port: int, **options: Any) -> dict[str, Any]:
    return {
        "host": HOST,
        "port": port,
        "socket_timeout": 1.0,
        "socket_connect_timeout": 1.0,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **options,
    }


def client_on(port: int, pipeline: Pipeline, **options: Any) -> Any:
    """An asyncio client, guarded."""
    return guard(Redis(**tame(port, retry=NoRetries(NoBackoff(), 0), **options)), pipeline)


def client_in_threads(port: int, pipeline: Pipeline, **options: Any) -> Any:
    """A synchronous client, guarded."""
    return guard(redis.Redis(**tame(port, retry=NoRetriesInThreads(NoBackoff(), 0), **options)), pipeline)


def plain(port: int) -> Any:
    """A synchronous client that nobody guards: the test's own."""
    return redis.Redis(host=HOST, port=port, driver_info=None)


def guarding(*policies: Policy, breaker: CircuitBreaker | None = None) -> Pipeline:
    """The usual pipeline around ``policies``; retries hardly wait."""
    retry = Retry(3, multiplier=0.001, wait_max=0.001)
    return Pipeline("redis", *policies, retry, breaker or CircuitBreaker("redis"), Timeout(ATTEMPT))


def in_threads(*policies: Policy) -> Pipeline:
    """The same for synchronous clients, which no timeout can cut."""
    return Pipeline("redis", *policies, Retry(3, multiplier=0.001, wait_max=0.001), CircuitBreaker("redis"))


def breaker_of(pipeline: Pipeline) -> Any:
    return pipeline.snapshot()["circuit_breaker"]


def bulkhead_of(pipeline: Pipeline) -> Any:
    return pipeline.snapshot()["bulkhead"]


def small_bulkhead() -> Bulkhead:
    return Bulkhead(1, max_queue=0)


def seen(port: int, command: str) -> int:
    """How often the server has carried out that command."""
    with plain(port) as client:
        stats = client.info("commandstats").get(f"cmdstat_{command.lower()}")
    return 0 if stats is None else stats["calls"]
