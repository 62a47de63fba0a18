"""Tools to test code that waits: a deterministic event loop whose clock is virtual."""

from mcp_server_langgraph.resilience.testing.virtual_loop import (
    DeadlockError,
    EndlessLoopError,
    LeftoverTasksError,
    UnhandledErrorsError,
    VirtualClockLoop,
    VirtualTimeError,
)
from mcp_server_langgraph.resilience.testing.virtual_time import advance, run, settle, waiting_for_threads

__all__ = [
    "DeadlockError",
    "EndlessLoopError",
    "LeftoverTasksError",
    "UnhandledErrorsError",
    "VirtualClockLoop",
    "VirtualTimeError",
    "advance",
    "run",
    "settle",
    "waiting_for_threads",
]
