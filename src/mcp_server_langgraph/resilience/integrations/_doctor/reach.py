"""What a live object refers to, as far as it may hold a client: attributes, items, closures, globals that are used."""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, cast

__all__ = ["attributes", "code_names", "is_of_a_framework", "is_opaque", "referred"]

_PLAIN: Final = (
    *(str, bytes, bytearray, memoryview, int, float, complex, range, slice, type(None), type(Ellipsis), type),
    *(types.ModuleType, types.CodeType, types.FrameType, types.TracebackType, types.BuiltinFunctionType),
)
# Packages whose objects hold no client that anybody calls, and much else.
_FOREIGN: Final = frozenset({"langsmith", "opentelemetry", "prometheus_client", "pydantic_core"})
# Packages whose functions hold what is of interest in closures, and in their globals only themselves.
_LAYER: Final = __name__.rpartition(".integrations")[0]
_FRAMEWORKS: Final = ("langchain", "langgraph", "pydantic", "stamina", "tenacity", _LAYER)


def referred(thing: Any) -> Iterator[Any]:
    """The objects that ``thing`` refers to. Runs no code of theirs: properties are not read. May raise anything."""
    if isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, dict):
        yield from _values(thing)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(thing, (list, tuple, set, frozenset, deque)):
        yield from list(cast("list[Any]", thing))
    yield from attributes(thing).values()


def _values(thing: dict[Any, Any]) -> list[Any]:
    return list(thing.values())


def is_opaque(thing: Any) -> bool:
    """Whether it holds no client, or none that is its user's business."""
    if isinstance(thing, _PLAIN) or _package(thing) in _FOREIGN:
        return True
    module = str(type(thing).__module__)
    return module.startswith(f"{_LAYER}.") and not module.startswith(f"{_LAYER}.integrations.")


def _package(thing: Any) -> str:
    return str(type(thing).__module__).partition(".")[0]


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    # In the order of names backwards: of langchain's middleware the "outer" comes before the "inner".
    for _, cell in sorted(cells, key=lambda each: each[0], reverse=True):
        try:
            yield cell.cell_contents
        except ValueError:  # empty
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if is_of_a_framework(str(function.__globals__.get("__name__"))):  # `wraps` copies ``__module__``
        return
    for name in code_names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def is_of_a_framework(module: str) -> bool:
    """Whether it is a module of those who wrap what users write."""
    return module.startswith(_FRAMEWORKS)


def code_names(code: types.CodeType) -> Iterator[str]:
    """The globals and attributes that the code, or a function inside it, may read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_names(constant)


def attributes(thing: Any) -> dict[str, Any]:
    """What the object's own attributes hold, those in slots and pydantic's private ones too."""
    own = _own(thing)
    if isinstance(thing, types.FunctionType) or _package(thing) in sys.stdlib_module_names:
        # Its insides are its own, but for what is wrapped. (`wraps` copies attributes, so those of a function may be
        # another's: tenacity's lead past its retries.)
        return {name: own[name] for name in ("__wrapped__",) if name in own}
    found = {**own, **_slots(thing)}
    for name in ("__pydantic_private__", "__pydantic_extra__"):
        found |= found.pop(name, None) or {}
    return found


def _own(thing: Any) -> dict[str, Any]:
    try:
        own = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return dict(own)


def _slots(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in type(thing).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    found[name] = member.__get__(thing)
                except AttributeError:  # not set
                    continue
    return found
