"""Public is what a sorted ``__all__`` says."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import mcp_server_langgraph.resilience as layer

MODULES = [
    importlib.import_module(f"{layer.__name__}.{found.name}")
    for found in pkgutil.iter_modules(layer.__path__)
    if not found.name.startswith("_") and not found.ispkg
]


@pytest.mark.parametrize("module", [layer, *MODULES], ids=lambda module: module.__name__.rpartition(".")[2])
def test_all_is_sorted_and_true(module: ModuleType) -> None:
    names = module.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(module, name)] == []
    constants_classes_functions = sorted(
        names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
    )
    assert names == constants_classes_functions


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_a_module_defines_is_public_or_underscored(module: ModuleType) -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
        and not name.startswith("_")
    }
    assert defined - set(module.__all__) <= INTERNAL.get(module.__name__.rpartition(".")[2], set())


# Shared inside the layer, not part of its face.
INTERNAL = {
    "deadline": {"now", "passed", "patience"},
    "pipeline": {"forget_pipelines", "live_pipelines"},
    "policy": {"Attempts"},
}


def test_the_decorators_win_over_the_modules_of_the_same_name() -> None:
    importlib.import_module("mcp_server_langgraph.resilience.circuit_breaker")
    assert callable(layer.circuit_breaker)
    assert callable(layer.timeout)
