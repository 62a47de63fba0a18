"""One service's pipeline for operations that differ in whether they may be repeated."""

from mcp_server_langgraph.resilience import Fallback, Hedge, Kind, Pipeline, Retry

__all__ = ["never_repeated", "repeatable"]


def repeatable(pipeline: Pipeline, operation: str) -> Pipeline:
    """The same guards, counted as `operation`."""
    return Pipeline(pipeline.name, *pipeline.policies, operation=operation)


def never_repeated(pipeline: Pipeline, operation: str) -> Pipeline:
    """The same guards around what is done at most once: no retry, no hedge, nothing that stands in for it."""
    never = Retry(kind=Kind.NON_IDEMPOTENT)
    guards = [policy for policy in pipeline.policies if not isinstance(policy, (Fallback, Hedge))]
    same = [never if isinstance(policy, Retry) else policy for policy in guards]
    return Pipeline(pipeline.name, *same, operation=operation)
