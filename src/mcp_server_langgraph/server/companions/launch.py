"""Becomes another program, which is told to end (SIGTERM) when the process that started it is gone: Linux does that.

Run as a script: ``python launch.py PARENT PROGRAM [ARGUMENT ...]``. A program of its own, because it must be done
between fork and exec, where a process with threads must not run Python.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1


def main(parent: str, program: str, *arguments: str) -> None:
    """Become the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # It may have died before it was watched.
        if os.getppid() != int(parent):
            return
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
