"""The server's door: which tool calls are let in, under which deadline, and how much each of them matters.

Before a tool is asked for anything: what comes too late for its caller is dropped; while this process is late the calls
that matter least are shed; no caller gets more calls than its rate; and there are never more calls at once than end
well. Refusing is cheap here, and says when to come again.

A caller tells its deadline and criticality in the headers of `resilience.propagation`, over stdio in the request's
``_meta`` under the same names. It cannot raise itself above ``CRITICAL``.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Keyed,
    Pipeline,
    RateLimit,
    RateLimited,
    Rejected,
    Shed,
    TimedOut,
    incoming,
)
from mcp_server_langgraph.server.identity import caller_of

__all__ = ["NAME", "Door"]

T = TypeVar("T")

NAME: Final = "mcp"
"""The pipeline's name, and so the prefix of its settings: ``MCP_RATE_LIMIT_PERMITS``, ``MCP_SHED_MAX_LAG``."""

CALLS_PER_SECOND: Final = 50.0
"""Of one caller. An agent that fans out stays below it; a loop that has run wild does not."""
BURST: Final = 100.0
CALLS_AT_ONCE: Final = 100
"""To begin with. It grows while calls end well, and shrinks when they are cut or refused further in."""
_FEWEST: Final = 10
_MOST: Final = 1000

_PEPPER: Final = secrets.token_bytes(16)

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_TOO_LATE: Final = 504


class Door:
    """Lets tool calls in. Raises MCPError, with a code like HTTP's, for those that it does not let in."""

    def __init__(self) -> None:
        # A tool's time is its model's time, and a slow model is no overload of this process: so the limit goes by how
        # calls end (AIMD), not by how long they take.
        at_once = AdaptiveLimit("aimd", initial=CALLS_AT_ONCE, min_limit=_FEWEST, max_limit=_MOST, name=NAME)
        each = Keyed(lambda _: RateLimit(CALLS_PER_SECOND, burst=BURST), key=_caller_is, name=NAME)
        self.pipeline = Pipeline(NAME, Shed(name=NAME), each, at_once, operation="tools/call")

    async def let_in(self, ctx: ServerRequestContext[Any, Any], work: Callable[[], Awaitable[T]]) -> T:
        """Do the work of a tool call, if it may begin."""
        subject = caller_of(ctx.request).subject
        try:
            async with incoming(_carried(ctx), service=NAME):
                return await self.pipeline.call(_work, subject, work)
        except (Rejected, TimedOut) as error:
            if error.pipeline.partition(".")[0] != NAME:
                raise
            raise _refusal(error) from None


def _caller_is(subject: str, work: object) -> str:
    """A pseudonym for as long as this process lives: keys are seen in metrics and in the status, by everybody."""
    return hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), key=_PEPPER, digest_size=8).hexdigest()


async def _work(subject: str, work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _carried(ctx: ServerRequestContext[Any, Any]) -> Mapping[str, str]:
    """The request's headers; over stdio the text values of its ``_meta``."""
    if ctx.request is not None:
        return dict(ctx.request.headers)
    meta = (ctx.params or {}).get("_meta") or {}
    return {str(name): str(value) for name, value in meta.items() if isinstance(value, str | int)}


def _refusal(error: Rejected | TimedOut) -> MCPError:
    if isinstance(error, TimedOut):
        return MCPError(code=_TOO_LATE, message=str(error), data={"retryable": False})
    late = error.policy == "deadline"
    code = _TOO_MANY if isinstance(error, RateLimited) else _TOO_LATE if late else _UNAVAILABLE
    data: dict[str, Any] = {"retryable": not late}
    if error.retry_after is not None:
        data["retryAfterMs"] = math.ceil(error.retry_after * 1000)
    return MCPError(code=code, message=str(error), data=data)
