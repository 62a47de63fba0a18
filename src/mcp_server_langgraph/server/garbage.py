"""The garbage collector leaves alone what is there for good.

The agent's packages are more than half a million objects. A full collection looks at each of them, finds nothing, and
stops the event loop for half a second (figures in docs/reference/benchmarks.md), every so many thousand calls. Frozen
objects are not looked at again (https://docs.python.org/3/library/gc.html#gc.freeze).
"""

from __future__ import annotations

import gc

__all__ = ["settle"]


def settle() -> None:
    """Collect once, and freeze what is left. To be called when all is loaded, and nobody is served yet."""
    gc.collect()
    gc.freeze()
