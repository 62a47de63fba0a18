"""What the tests of the breaker ask of it, and of the numbers that it gives."""

from __future__ import annotations

from mcp_server_langgraph.resilience import Pipeline, registry

__all__ = ["call", "fail", "fine", "gauge", "transitions"]


async def fine() -> str:
    """A dependency that answers."""
    return "fine"


async def fail(error: BaseException) -> None:
    """A dependency that raises."""
    raise error


async def call(pipeline: Pipeline, error: BaseException | None = None) -> BaseException | None:
    """One call that fails as told; gives what came out."""
    try:
        await (pipeline.call(fine) if error is None else pipeline.call(fail, error))
    except BaseException as exc:
        return exc
    return None


def gauge() -> set[str]:
    """The states whose gauge stands at 1."""
    (samples,) = (metric.samples for metric in registry.metrics() if metric.name == "circuit_breaker_state")
    return {labels[1] for labels, value in samples.items() if value == 1}


def transitions() -> dict[str, object]:
    """How often each state was entered."""
    (samples,) = (
        metric.samples for metric in registry.metrics() if metric.name == "circuit_breaker_transitions_total"
    )
    return {labels[1]: value for labels, value in samples.items()}
