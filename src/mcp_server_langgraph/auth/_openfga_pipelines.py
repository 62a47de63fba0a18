"""The pipeline of lists, made of the policies that guard the checks: one breaker, one bulkhead for all."""

from mcp_server_langgraph.resilience import Fallback, Hedge, Pipeline, Timeout

__all__ = ["attempt_clock", "listing_of"]


def listing_of(pipeline: Pipeline, seconds: float) -> Pipeline:
    """The same guards, with so many seconds for an attempt: a list is much work, and a second copy of it no help."""
    guards = [policy for policy in pipeline.policies if not isinstance(policy, (Fallback, Hedge))]
    clocks = [place for place, policy in enumerate(guards) if isinstance(policy, Timeout)]
    for place in clocks[1:]:
        guards[place] = Timeout(seconds_for=lambda *_: seconds)
    return Pipeline(pipeline.name, *guards, operation="openfga.list_objects")


def attempt_clock(pipeline: Pipeline) -> Timeout | None:
    """What bounds one attempt; None where nothing but the total time does."""
    clocks = [policy for policy in pipeline.policies if isinstance(policy, Timeout)]
    return clocks[-1] if len(clocks) > 1 else None
