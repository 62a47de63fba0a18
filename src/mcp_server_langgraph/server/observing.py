"""What happens to every MCP request: it is counted, timed and logged, and it takes part in the drain."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import INVALID_PARAMS, SubscriptionsListenResult
from pydantic import ValidationError

from mcp_server_langgraph.server.door import Door
from mcp_server_langgraph.server.lifecycle import Lifecycle, ServerStopping
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.outcomes import Outcome, Tally

__all__ = ["STOPPING", "Observer"]

logger = logging.getLogger(__name__)

STOPPING: Final = 503
"""JSON-RPC code of a call refused or cut while stopping; application codes stay outside the range of the protocol."""

_LISTEN: Final = "subscriptions/listen"
# What this server answers; other methods are one, so that callers cannot make up series.
_METHODS: Final = frozenset(
    {
        *("initialize", "ping", "server/discover", _LISTEN),
        *("tools/list", "tools/call", "prompts/list", "prompts/get"),
        *("resources/list", "resources/read", "resources/templates/list"),
    }
)


class Observer:
    """Middleware around every message of both protocol eras.

    ``names`` maps ``tools/call`` and ``prompts/get`` to the tools and prompts that exist.
    """

    def __init__(
        self, lifecycle: Lifecycle, metrics: ServerMetrics, names: Mapping[str, set[str]], door: Door
    ) -> None:
        self._lifecycle = lifecycle
        self._door = door
        self._metrics = metrics
        self._names = names

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            return await call_next(ctx)
        began = time.perf_counter()
        outcome: Outcome = "cancelled"
        error, tally = None, Tally()
        try:
            with tally.current():
                result = await self._serve(ctx, call_next)
            outcome = tally.of_result(result)
            return result
        except Exception as failure:
            outcome, error = tally.of_failure(failure), failure
            raise
        finally:
            self._tell(ctx, outcome, error, time.perf_counter() - began)

    async def _serve(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        try:
            if ctx.method == _LISTEN:
                return await self._listen(ctx, call_next)
            work = ctx.method == "tools/call"
            with self._lifecycle.call(new_work=work):
                self._metrics.in_flight(self._lifecycle.in_flight)
                if not work:
                    return await _with_prompt_errors(ctx, call_next)
                self._refuse_unknown_tool(ctx)
                return await self._door.let_in(ctx, lambda: call_next(ctx))
        except ServerStopping as stopping:
            data = {"retryable": True, "retryAfterMs": 1000}
            raise MCPError(code=STOPPING, message=str(stopping), data=data) from None
        finally:
            self._metrics.in_flight(self._lifecycle.in_flight)

    async def _listen(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        with self._lifecycle.stream() as stream:
            return await call_next(ctx)
        assert stream.cancelled_caught
        # The deliberate end that the specification describes, instead of a dropped connection.
        return SubscriptionsListenResult(_meta={SUBSCRIPTION_ID_META_KEY: ctx.request_id})

    def _refuse_unknown_tool(self, ctx: ServerRequestContext[Any, Any]) -> None:
        """The specification asks for a protocol error; the SDK makes it a tool's error."""
        name = (ctx.params or {}).get("name")
        if isinstance(name, str) and name not in self._names["tools/call"]:
            raise MCPError(code=INVALID_PARAMS, message=f"Unknown tool: {name}")

    def _tell(
        self, ctx: ServerRequestContext[Any, Any], outcome: Outcome, error: Exception | None, seconds: float
    ) -> None:
        name = self._name(ctx)
        method = ctx.method if ctx.method in _METHODS else "unknown"
        self._metrics.call(method, name, outcome, seconds)
        fields: dict[str, Any] = {
            "method": method,
            "request_id": str(ctx.request_id),
            "protocol": ctx.protocol_version,
            "outcome": outcome,
            "seconds": round(seconds, 4),
        }
        if name:
            fields["name"] = name
        if error is not None:
            fields["error_type"] = type(error).__name__
        logger.info("mcp request", extra={"fields": fields})

    def _name(self, ctx: ServerRequestContext[Any, Any]) -> str:
        """The tool or prompt asked for; names that do not exist are one, so that callers cannot make up series."""
        known = self._names.get(ctx.method)
        if known is None:
            return ""
        name = (ctx.params or {}).get("name")
        return name if isinstance(name, str) and name in known else "unknown"


async def _with_prompt_errors(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """A wrong name or argument of a prompt is the caller's error; the SDK reports it as an internal one."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except ValueError as error:
        if ctx.method == "prompts/get":
            raise MCPError(code=INVALID_PARAMS, message=str(error)) from None
        raise
