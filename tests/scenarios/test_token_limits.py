"""A hundred agents share a provider's limit of 200,000 tokens a minute, and guess four times what they use.

The scenario of survey section 4.6; that streams went uncounted is LiteLLM #41610.
"""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

import pytest

from mcp_server_langgraph.resilience import Pipeline, RateLimit, RateLimited
from mcp_server_langgraph.resilience._machines.tokens import TokenBucket

TOKENS_A_MINUTE = 200_000
MINUTES = 5
AGENTS = 100


class TooMany(Exception):
    """The provider's 429."""

    status_code = 429


class Answer(NamedTuple):
    tokens: float


class Provider:
    """Charges what was used when it has been used, and lets nobody in while that is more than there was."""

    def __init__(self) -> None:
        self.bucket = TokenBucket(TOKENS_A_MINUTE, 60, TOKENS_A_MINUTE)
        self.chance = random.Random(7)
        self.served = 0.0
        self.answers = self.refusals = 0

    async def answer(self, estimate: float) -> Answer:
        loop = asyncio.get_running_loop()
        if self.bucket.level(loop.time()) < 0:
            self.refusals += 1
            raise TooMany
        used = estimate / 4 * self.chance.lognormvariate(-0.125, 0.5)
        await asyncio.sleep(used / 100)
        self.bucket.charge(used, loop.time())
        self.served += used
        self.answers += 1
        return Answer(used)


async def minutes_of(provider: Provider, pipeline: Pipeline) -> tuple[float, float]:
    """(share of the limit that was used after the first minute, share of requests that were refused there)."""
    sizes = random.Random(11)

    async def agent() -> None:
        while True:
            try:
                await pipeline.call(provider.answer, sizes.uniform(2000, 6000))
            except (TooMany, RateLimited):
                await asyncio.sleep(1)

    agents = [asyncio.ensure_future(agent()) for _ in range(AGENTS)]
    await asyncio.sleep(60)
    before = provider.served
    await asyncio.sleep(60 * MINUTES)
    used = (provider.served - before) / (TOKENS_A_MINUTE * MINUTES)
    for each in agents:
        each.cancel()
    await asyncio.gather(*agents, return_exceptions=True)
    return used, provider.refusals / (provider.refusals + provider.answers)


def estimated(estimate: float) -> float:
    return estimate


def used(answer: Answer) -> float:
    return answer.tokens


async def test_without_a_limit_of_our_own_most_requests_are_refused_by_the_provider() -> None:
    _, refused = await minutes_of(Provider(), Pipeline("llm"))
    assert refused > 0.5


async def test_reserving_what_might_be_used_wastes_three_quarters_of_the_limit() -> None:
    limit = RateLimit(TOKENS_A_MINUTE, 60, weight=estimated, max_wait=600)
    share, refused = await minutes_of(Provider(), Pipeline("llm", limit))
    assert refused == 0
    assert share == pytest.approx(0.25, abs=0.05)


async def test_settling_what_was_used_uses_the_limit_and_is_never_refused() -> None:
    limit = RateLimit(TOKENS_A_MINUTE, 60, weight=estimated, settle=used, max_wait=600)
    share, refused = await minutes_of(Provider(), Pipeline("llm", limit))
    assert refused == 0
    assert share > 0.95


async def test_a_call_whose_use_is_not_counted_runs_into_refusals() -> None:
    limit = RateLimit(TOKENS_A_MINUTE, 60, weight=lambda estimate: 0.05 * estimate, max_wait=600)
    _, refused = await minutes_of(Provider(), Pipeline("llm", limit))
    assert refused > 0.2
