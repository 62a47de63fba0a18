"""Runs a page's Python."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import sys
from pathlib import Path
from types import ModuleType, TracebackType

from mcp_server_langgraph.resilience.testing import VirtualClockLoop
from tests.docs.pages import Block, page_id

__all__ = ["PageRunner", "printed_by"]

_SHOWN = re.compile(r"^\s*print\(.*\) +# -> (?P<shown>.*)$", re.MULTILINE)


def printed_by(block: Block) -> str:
    """What the comments behind its ``print`` calls say that it prints."""
    return "".join(f"{match['shown']}\n" for match in _SHOWN.finditer(block.text))


class PageRunner:
    """One page's namespace and event loop, in virtual time.

    A block with ``await`` at its top level runs on the page's loop, as in ``python -m asyncio``; any other outside it.
    """

    def __init__(self, path: Path) -> None:
        self._name = "docs:" + page_id(path)
        self._module = ModuleType(self._name)
        self._runner = asyncio.Runner(loop_factory=lambda: VirtualClockLoop(thread_patience=1.0))

    def __enter__(self) -> PageRunner:
        sys.modules[self._name] = self._module
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, exc, traceback)
        del sys.modules[self._name]

    def run(self, block: Block) -> str:
        """Run a block and give what it printed. Raises what it raises, with the page's lines in the traceback."""
        module = ModuleType(self._name) if block.marker == "alone" else self._module
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(block.path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            began = eval(code, vars(module))
            if inspect.iscoroutine(began):
                self._runner.run(began)
        return printed.getvalue()
