"""What the tests of the timeout have in common."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import Pipeline, Retry, Timeout
from mcp_server_langgraph.resilience._time_guards import TimeGuard


def pipeline_of(kind: str, seconds: float, name: str = "p") -> Pipeline:
    """The first call of a pipeline on a loop takes another path than those after it."""
    policies = (Timeout(seconds),) if kind.startswith("total") else (Retry(1), Timeout(seconds))
    pipeline = Pipeline(name, *policies)
    guard = pipeline.bound[-1]
    assert isinstance(guard, TimeGuard)
    if "later" in kind:
        guard.find_queue(asyncio.get_running_loop(), seconds)
    return pipeline


BOTH = pytest.mark.parametrize("kind", ["total", "attempt"])
EACH = pytest.mark.parametrize("kind", ["total", "total, later", "attempt", "attempt, later"])
