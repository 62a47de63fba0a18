"""Two hundred clients are told to wait ten seconds by a provider that serves twenty a second (survey section 4.6)."""

from __future__ import annotations

import asyncio
import random

import pytest

from mcp_server_langgraph.resilience import Cooldown, Pipeline, Retry
from mcp_server_langgraph.resilience._machines.tokens import TokenBucket

CLIENTS = 200


class TooMany(Exception):
    status_code = 429
    headers = {"retry-after": "10"}  # noqa: RUF012 (as a client library has it)


async def refusals_when_they_come_back(jitter: float) -> int:
    """How many requests of the second wave were refused. Each client is a process of its own."""
    bucket = TokenBucket(20, 1, 20)
    chance = random.Random(3).random
    refused = [0, 0]
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def serve() -> None:
        now = loop.time()
        if not bucket.take(1, now):
            refused[now > began + 1] += 1
            raise TooMany

    pipelines = [
        Pipeline(
            f"client-{number}",
            Retry(max_attempts=2, jitter="none"),
            Cooldown(max_wait=60, jitter=jitter, chance=chance),
        )
        for number in range(CLIENTS)
    ]
    await asyncio.gather(*(pipeline.call(serve) for pipeline in pipelines), return_exceptions=True)
    assert refused[0] == CLIENTS - 20
    return refused[1]


async def test_without_jitter_they_come_back_as_a_herd_and_most_are_refused_again() -> None:
    assert await refusals_when_they_come_back(0.0) == CLIENTS - 20 - 20


async def test_jitter_of_a_tenth_lets_one_more_second_s_worth_in() -> None:
    assert await refusals_when_they_come_back(0.1) == pytest.approx(140, abs=3)


async def test_jitter_as_long_as_the_wait_itself_spreads_them_to_what_the_provider_serves() -> None:
    assert await refusals_when_they_come_back(1.0) < 10
