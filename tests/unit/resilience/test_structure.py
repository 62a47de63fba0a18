"""The layer as a house: no circle of imports, whatever is imported first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import mcp_server_langgraph.resilience as layer

FILES = {path.stem: path for path in Path(layer.__path__[0]).glob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """The layer's own modules that this one needs to be loaded; not what only its types or a late call want."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from (name for name in names if name in FILES)


def test_no_module_needs_itself_by_way_of_others() -> None:
    needs = {name: set(imported(path)) for name, path in FILES.items()}
    order = list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle
    assert set(order) == set(FILES)
    assert order.index("errors") < order.index("policy") < order.index("pipeline") < order.index("presets")
