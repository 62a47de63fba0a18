"""The methods of an object that a layer guards, and what they use of it."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple, cast

from .layer import Layer
from .layers import is_pipeline, layer_of
from .reach import attributes, code_names, is_of_a_framework

__all__ = ["Guarded", "guarded_methods"]


class Guarded(NamedTuple):
    """A decorated method, the layer that its decorator is, and the attributes of its object that it uses."""

    method: Any
    layer: Layer
    uses: tuple[Any, ...]


def guarded_methods(thing: Any) -> Iterator[Guarded]:
    """Those of the object's class and of its bases, a framework's aside."""
    own: dict[str, Any] | None = None
    for method, layer, names in _of_class(cast("Hashable", type(thing))):
        own = attributes(thing) if own is None else own
        yield Guarded(method, layer, tuple(own[name] for name in names if name in own))


@functools.lru_cache(maxsize=1024)
def _of_class(kind: Hashable) -> tuple[tuple[Any, Layer, frozenset[str]], ...]:
    found: dict[str, tuple[Any, Layer, frozenset[str]] | None] = {}
    for base in cast("type[Any]", kind).__mro__:
        module = str(base.__module__)
        if module.partition(".")[0] in sys.stdlib_module_names or is_of_a_framework(module):
            continue
        for name, member in vars(base).items():
            layer = None if is_pipeline(member) else layer_of(member)
            found.setdefault(name, None if layer is None else (member, layer, _names(member)))
    return tuple(each for each in found.values() if each is not None)


def _names(method: Any) -> frozenset[str]:
    """What the function that was decorated reads."""
    while (inner := getattr(method, "__wrapped__", None)) is not None:
        method = inner
    return frozenset(code_names(method.__code__)) if isinstance(method, types.FunctionType) else frozenset()
