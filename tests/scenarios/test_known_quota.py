"""A provider that tells nothing of its limit and refuses what is over it in any minute, as Google does: a process that
was given the limit uses it, and is never refused.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from mcp_server_langgraph.resilience import Pipeline, Quota, QuotaUsed, RateLimit, RateLimited

LIMIT = 30
MINUTES = 6


class TooMany(Exception):
    status_code = 429


class Provider:
    """Counts the requests of the last 60 seconds, refused ones too."""

    def __init__(self) -> None:
        self.arrivals: deque[float] = deque()
        self.served = self.refused = self.most = 0

    async def answer(self) -> None:
        now = asyncio.get_running_loop().time()
        self.arrivals.append(now)
        while self.arrivals[0] <= now - 60.0 + 1e-5:
            self.arrivals.popleft()
        self.most = max(self.most, len(self.arrivals))
        if len(self.arrivals) > LIMIT:
            self.refused += 1
            raise TooMany
        self.served += 1
        await asyncio.sleep(2)


async def work(pipeline: Pipeline) -> Provider:
    """Twenty agents that would ask several times as often as they may, and pause now and then for two minutes."""
    provider, chance = Provider(), random.Random(5)

    async def agent() -> None:
        while True:
            try:
                await pipeline.call(provider.answer)
            except (TooMany, RateLimited, QuotaUsed):
                await asyncio.sleep(chance.uniform(0.5, 2))

    for _ in range(2):
        agents = [asyncio.ensure_future(agent()) for _ in range(20)]
        await asyncio.sleep(60 * MINUTES)
        for each in agents:
            each.cancel()
        await asyncio.gather(*agents, return_exceptions=True)
        await asyncio.sleep(120)
    return provider


async def test_no_minute_holds_more_requests_than_were_set_and_nearly_all_are_used() -> None:
    provider = await work(Pipeline("known", Quota(limits={"requests": LIMIT}, max_wait=30)))
    assert (provider.refused, provider.most) == (0, LIMIT)
    assert provider.served > 0.95 * 2 * MINUTES * LIMIT


async def test_a_bucket_of_the_same_rate_is_refused_after_each_pause() -> None:
    """The reason why a given limit is counted by the minute and not by what has come in."""
    provider = await work(Pipeline("bucket", RateLimit(LIMIT, per=60, max_wait=30)))
    assert provider.refused > LIMIT
    assert provider.most > 1.9 * LIMIT
