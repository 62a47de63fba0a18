"""The same policies around async generators.

A stream has four clocks: the time to its first item (connecting included), the idle time between items, the time of
one attempt and the total. They run while we wait for the stream, step by step, so that no deadline is ever left in
the consumer's context. Before the first item retry and fallback are free to act; after it an interruption is a
`StreamInterrupted` with what was received. Guards are held from the first attempt to the end of the stream, and its
outcome is recorded there; a consumer that stops early (``aclose``, ``break`` in ``aclosing``) is neutral.

Errors: those of the policies, and `StreamInterrupted` where a failure came after the first item; what is no failure of
the dependency (a bug, a client error) passes as it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ._link import CallMeter
from ._source import END
from ._stream_run import KEPT_ITEMS, Nodes, Plan, StreamRun
from .policy import Call, Guard, Policy, Repeat, Site

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["KEPT_ITEMS", "as_function", "stream"]

Stream = AsyncGenerator[Any, Any]


def as_function(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Stream]:
    """An async generator function that runs ``fn`` through the pipeline."""
    guarded, bare = _link(pipeline), Plan(pipeline.site)

    def begin(*args: Any, **kwargs: Any) -> StreamRun:
        call = Call(fn, args, kwargs, pipeline.site)
        return StreamRun(bare if pipeline.site.bypassed else guarded, call)

    return _generator(begin)


def stream(
    pipeline: Pipeline, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Stream:
    """``fn(*args, **kwargs)`` through the policies of the pipeline."""
    return as_function(pipeline, fn)(*args, **kwargs)


def _generator(begin: Callable[..., StreamRun]) -> Callable[..., Stream]:
    """The generator function whose streams do what ``begin`` gives them to do."""

    async def frame(*args: Any, **kwargs: Any) -> Stream:
        run = begin(*args, **kwargs)
        try:
            item = await run.first()
            while item is not END:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    item = await run.throw(thrown)
                else:
                    item = await run.next(sent)
            await run.source.close()
        except BaseException as exc:
            raised = await run.failed(exc)
            try:
                if raised is exc:
                    raise
                raise raised from raised.__cause__ or exc
            finally:
                del raised  # an exception kept in its own frame is a cycle
        run.succeeded()

    return frame


def _link(pipeline: Pipeline) -> Plan:
    plan = _linked(pipeline.bound, pipeline.site)
    plan.meter = next((meter for meter in pipeline.meters() if isinstance(meter, CallMeter)), None)
    return plan


def _linked(bound: Nodes, site: Site) -> Plan:
    at = next((index for index, item in enumerate(bound) if isinstance(item, Policy)), None)
    if at is None:
        plan = Plan(site, bound)
    else:
        plan = Plan(site, bound[:at], _around(bound[at], _linked(bound[at + 1 :], site)))
    plan.guarded = True
    return plan


def _around(policy: Guard | Repeat | Policy, plan: Plan) -> Callable[[Call], Any]:
    assert isinstance(policy, Policy)
    kind = type(policy)
    if kind.stream is Policy.stream and kind.run is not Policy.run:
        reason = getattr(policy, "refuses_stream", None) or f"{kind.__qualname__} has no stream()"
        raise TypeError(f"{policy.kind} cannot guard an async generator: {reason}")
    proceed = _generator(partial(StreamRun, plan))
    return lambda call: policy.stream(call, proceed)
