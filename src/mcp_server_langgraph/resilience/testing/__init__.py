"""Tools to test code that waits: a deterministic event loop whose clock is virtual, and what goes with it.

Beside the loop: `explore` runs a program under many orders of its steps, `Recorder` hears what pipelines do, and
scripted dependencies do as they are told.
"""

from mcp_server_langgraph.resilience.testing.explore import (
    Exploration,
    NondeterminismError,
    ScheduleError,
    explore,
    replay,
)
from mcp_server_langgraph.resilience.testing.faults import (
    HANG,
    Asked,
    Scripted,
    Slow,
    StatusError,
    drip,
    flaky,
)
from mcp_server_langgraph.resilience.testing.recorder import Recorder
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
    "HANG",
    "Asked",
    "DeadlockError",
    "EndlessLoopError",
    "Exploration",
    "LeftoverTasksError",
    "NondeterminismError",
    "Recorder",
    "ScheduleError",
    "Scripted",
    "Slow",
    "StatusError",
    "UnhandledErrorsError",
    "VirtualClockLoop",
    "VirtualTimeError",
    "advance",
    "drip",
    "explore",
    "flaky",
    "replay",
    "run",
    "settle",
    "waiting_for_threads",
]
