"""Two processes share a provider's limit of 60,000 tokens a minute; neither knows of the other, nor of the limit."""

from __future__ import annotations

import asyncio
import math
import random
from types import SimpleNamespace

from mcp_server_langgraph.resilience import Pipeline, Quota, RateLimited
from mcp_server_langgraph.resilience._machines.tokens import TokenBucket

TOKENS_A_MINUTE = 60_000
MINUTES = 4


class TooMany(Exception):
    """The provider's 429."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.status_code = 429
        self.response = SimpleNamespace(headers=headers)


class Provider:
    """Takes the tokens when a request comes, as OpenAI does, and says with each answer what is left."""

    def __init__(self) -> None:
        self.bucket = TokenBucket(TOKENS_A_MINUTE, 60, TOKENS_A_MINUTE)
        self.chance = random.Random(3)
        self.served = 0.0
        self.answers = self.refusals = 0

    async def answer(self, tokens: float) -> dict[str, str]:
        await asyncio.sleep(0.05)
        now = asyncio.get_running_loop().time()
        taken = self.bucket.take(tokens, now)
        left = self.bucket.level(now)
        headers = {
            "x-ratelimit-limit-tokens": str(TOKENS_A_MINUTE),
            "x-ratelimit-remaining-tokens": f"{max(0.0, left):.0f}",
            "x-ratelimit-reset-tokens": f"{TOKENS_A_MINUTE - left:.0f}ms",
        }
        if not taken:
            self.refusals += 1
            raise TooMany({**headers, "retry-after": str(math.ceil(self.bucket.delay(tokens, now)))})
        self.served += tokens
        self.answers += 1
        await asyncio.sleep(self.chance.uniform(1, 5))
        return headers


async def work(provider: Provider, pipelines: list[Pipeline]) -> tuple[float, float]:
    """(share of the limit that was used, share of requests that were refused) after the first minute."""
    sizes = random.Random(4)

    async def agent(pipeline: Pipeline) -> None:
        while True:
            try:
                await pipeline.call(provider.answer, sizes.uniform(500, 1500))
            except (TooMany, RateLimited):
                await asyncio.sleep(1)

    agents = [asyncio.ensure_future(agent(pipeline)) for pipeline in pipelines for _ in range(20)]
    await asyncio.sleep(60)
    before = provider.served, provider.answers, provider.refusals
    await asyncio.sleep(60 * MINUTES)
    served, answers, refusals = provider.served, provider.answers, provider.refusals
    for each in agents:
        each.cancel()
    await asyncio.gather(*agents, return_exceptions=True)
    refused = refusals - before[2]
    return (served - before[0]) / (TOKENS_A_MINUTE * MINUTES), refused / (refused + answers - before[1])


def quota() -> Quota:
    return Quota(tokens=lambda tokens: tokens, headers=lambda headers: headers, max_wait=120)


async def test_without_it_nearly_all_requests_are_refused() -> None:
    _, refused = await work(Provider(), [Pipeline("one"), Pipeline("two")])
    assert refused > 0.9


async def test_one_process_that_follows_what_the_provider_says_uses_the_limit_and_is_not_refused() -> None:
    share, refused = await work(Provider(), [Pipeline("one", quota())])
    assert share > 0.95
    assert refused < 0.01


async def test_two_that_do_not_know_of_each_other_use_it_and_are_refused_much_less() -> None:
    """Each predicts what comes in as if it were alone, until the next answer tells."""
    share, refused = await work(Provider(), [Pipeline("one", quota()), Pipeline("two", quota())])
    assert share > 0.95
    assert refused < 0.45
