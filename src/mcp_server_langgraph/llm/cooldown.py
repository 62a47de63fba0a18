"""A model that told us to stay away (429 with Retry-After) is left alone for that long, by all calls.

It is not down, so this is no matter for the breaker; and one call's retry, which waits, would not keep the others away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from mcp_server_langgraph.resilience import Policy, RateLimited, ResilienceError, remaining
from mcp_server_langgraph.resilience.policy import WAIT, Guard, Site

__all__ = ["Cooldown"]

# As `Retry.retry_after_max`: longer than this nobody waits for an answer.
_LONGEST_WAIT: Final = 60.0


class Cooldown(Policy):
    """Keeps the Retry-After of one model for all pipelines it stands in. Only ever extended.

    ``wait``: True waits for its end, as long as the deadline allows; False refuses at once, for where another model can
    be asked. Raises RateLimited with the seconds left.
    """

    kind: ClassVar[str] = "cooldown"

    def __init__(self, *, wait: bool) -> None:
        self.wait = wait
        self.until = float("-inf")

    def settings(self) -> Mapping[str, Any]:
        """Whether calls wait."""
        return {"wait": self.wait}

    def bind(self, site: Site) -> Guard:
        """The guard of one pipeline."""
        return _CooldownGuard(self, site)


class _CooldownGuard(Guard):
    waits = True

    def __init__(self, policy: Cooldown, site: Site) -> None:
        self.policy = policy
        self.site = site

    def enter(self, now: float) -> object:
        left = self.policy.until - now
        if left <= 0:
            return None
        deadline = remaining()
        if not self.policy.wait or left > _LONGEST_WAIT or (deadline is not None and left >= deadline):
            raise RateLimited(self.site.name, left)
        return WAIT

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self.policy.until - loop.time()) > 0:  # noqa: ASYNC110 (it may be extended meanwhile)
            await asyncio.sleep(left)

    def failed(self, token: object, now: float, exc: BaseException) -> None:
        if isinstance(exc, ResilienceError):
            return  # an open circuit has a time of its own
        asked = self.site.verdict(exc).retry_after
        if asked is not None:
            self.policy.until = max(self.policy.until, now + asked)
