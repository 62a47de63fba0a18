"""Nodes and tools of LangGraph behind pipelines.

    @resilient_node("search", idempotent=True, timeout=10)
    async def search(state: State) -> dict[str, Any]: ...

    @resilient_tool("crm", tell_model=True)
    @tool
    async def customer(number: str) -> str: ...

A whole node is one call: where it is retried it runs anew from its first line, so it is retried only where it is said
to be idempotent. What LangGraph raises to steer a run (``interrupt``, a ``Command`` for the parent graph, a drain)
passes untouched: it is no failure, and never retried. A deadline around the graph holds in its nodes and tools.

Errors: those of the node or tool, and of the pipeline. Events and metrics: those of the policies.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, Tool, ToolException

from .. import _functions, _stack
from ..bulkhead import Bulkhead
from ..circuit_breaker import CircuitBreaker
from ..errors import ConfigurationError, Rejected
from ..pipeline import Pipeline
from ..retry import Kind, Retry
from ..timeout import Timeout

__all__ = ["resilient_node", "resilient_tool"]

T = TypeVar("T", bound=BaseTool)


def resilient_node(
    guard: str | Pipeline, *, idempotent: bool = False, timeout: float | None = None
) -> Callable[[Any], Any]:
    """Guard a node: a function, or a Runnable (a subgraph, an agent; then for asynchronous runs only).

    ``guard``: a pipeline, or the name of the service whose standard one is meant: a bulkhead, retries where the node is
    ``idempotent``, the breaker of that name, and a ``timeout`` in seconds (None: from the settings). A plain ``def``
    has no timeout: nothing can cut a thread.

    Raises `ConfigurationError` where options are given beside a pipeline.
    """

    def decorate(node: Any) -> Any:
        if not isinstance(node, Runnable):
            sync = _functions.kind_of(node) == "sync"
            return _pipeline(guard, idempotent, timeout, sync=sync)(node)
        pipeline = _pipeline(guard, idempotent, timeout, sync=False)
        return _invoking(pipeline, node.ainvoke)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    return decorate


def resilient_tool(
    guard: str | Pipeline,
    *,
    idempotent: bool = False,
    timeout: float | None = None,
    tell_model: bool = False,
) -> Callable[[T], T]:
    """Guard a tool (what ``@tool`` makes, what an MCP client gives); gives a copy of it.

    ``guard``, ``idempotent`` and ``timeout`` as in `resilient_node`; a tool that is not idempotent is never called
    twice. ``tell_model``: where the tool is unavailable or refused, the model is told so by a tool message with status
    "error", and may go on without; otherwise the error ends the run.

    Raises `ConfigurationError` for what is no such tool, and where options are given beside a pipeline.
    """

    def decorate(tool: T) -> T:
        if not isinstance(tool, (StructuredTool, Tool)):
            raise ConfigurationError(
                f"resilient_tool: {type(tool).__name__} is not made of functions; put it above @tool"
            )
        parts: dict[str, Any] = {}
        if tool.func is not None:
            pipeline = _pipeline(guard, idempotent, timeout, sync=True)
            parts["func"] = _told_now(pipeline, tool, tool.func) if tell_model else pipeline(tool.func)
        if tool.coroutine is not None:
            pipeline = _pipeline(guard, idempotent, timeout, sync=False)
            parts["coroutine"] = (
                _told(pipeline, tool, tool.coroutine) if tell_model else pipeline(tool.coroutine)
            )
        if tell_model:
            parts["handle_tool_error"] = tool.handle_tool_error or True
        return cast(T, tool.model_copy(update=parts))

    return decorate


def _invoking(pipeline: Pipeline, invoke: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def run(state: Any, config: RunnableConfig) -> Any:
        return await pipeline.call(invoke, state, config)

    return run


def _pipeline(guard: str | Pipeline, idempotent: bool, timeout: float | None, *, sync: bool) -> Pipeline:
    if isinstance(guard, Pipeline):
        if idempotent or timeout is not None:
            raise ConfigurationError(
                f"pipeline {guard.name!r} has its own retry and timeout: idempotent and timeout are for a name"
            )
        return guard
    breaker = _stack.shared(guard, CircuitBreaker(guard), "langgraph")
    if not sync:
        preset = "read" if idempotent else "non_idempotent_write"
        return Pipeline.standard(guard, preset, total=Timeout(timeout), breaker=breaker)
    kind = Kind.IDEMPOTENT_READ if idempotent else Kind.NON_IDEMPOTENT
    return Pipeline(guard, Bulkhead(name=guard), Retry(kind=kind), breaker)


def _told(
    pipeline: Pipeline, tool: BaseTool, fn: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await pipeline.call(fn, *args, **kwargs)
        except Exception as exc:
            told = _for_model(pipeline, tool, exc)
            if told is None:
                raise
            raise told from exc

    return call


def _told_now(pipeline: Pipeline, tool: BaseTool, fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return pipeline.call_sync(fn, *args, **kwargs)
        except Exception as exc:
            told = _for_model(pipeline, tool, exc)
            if told is None:
                raise
            raise told from exc

    return call


def _for_model(pipeline: Pipeline, tool: BaseTool, exc: Exception) -> ToolException | None:
    """What the model is told, None: nothing. Nothing of what the error says, which may be somebody's secret."""
    verdict = pipeline.site.verdict(exc)
    if not (verdict.unavailable or isinstance(exc, Rejected)):
        return None
    wait = exc.retry_after if isinstance(exc, Rejected) else verdict.retry_after
    hint = "" if wait is None else f"; it may be back in {wait:.3g} s"
    return ToolException(f"{tool.name} is unavailable at the moment ({type(exc).__name__}){hint}")
