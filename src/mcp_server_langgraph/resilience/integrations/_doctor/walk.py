"""Finds every way from some objects to clients, through the layers that stand between."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..._known_clients import is_a, known_client
from ...policy import Cost
from .diagnosis import Diagnosis, diagnosed
from .layer import Layer, repeating
from .layers import (
    is_middleware,
    is_pipeline,
    layer_of,
    layer_of_middleware,
    layer_of_pipelines,
    layers_of_node,
)
from .methods import guarded_methods
from .reach import is_opaque, referred
from .timeouts import Patience, patience_of, pauses_of, trap_of
from .transports import transport_of

__all__ = ["MOST_OBJECTS", "Walk"]

MOST_OBJECTS: Final = 100_000


class Scope(NamedTuple):
    """Where an object was found: inside which layers, which objects those are, and whether tools are called here."""

    layers: tuple[Layer, ...]
    tools: bool = True
    entered: frozenset[int] = frozenset()

    def within(self, layer: Layer, *things: Any) -> Scope:
        """The inside of ``layer``, which ``things`` are."""
        return self._replace(layers=(*self.layers, layer), entered=self.entered | set(map(id, things)))


class Walk:
    """Gathers in ``found`` what is known of each client, and in ``unseen`` what could not be looked at."""

    def __init__(self, patient: float, most: int = MOST_OBJECTS) -> None:
        self.found: list[Diagnosis] = []
        self.unseen: list[str] = []
        self._patient = patient
        self._left = most
        self._seen: set[tuple[int, tuple[str, ...]]] = set()
        self._kept: list[Any] = []  # so that no two have one id

    def from_(self, thing: Any, layers: tuple[Layer, ...] = ()) -> None:
        """Look at ``thing``, which is called through ``layers``, and at everything that it refers to."""
        todo: list[tuple[Any, Scope]] = [(thing, Scope(layers))]
        while todo:
            if self._left <= 0:
                self.unseen.append(
                    f"what is left of {type(thing).__qualname__}: too many objects; name smaller ones"
                )
                return
            thing_, scope = todo.pop()
            if self._is_new(thing_, scope):
                todo += self._looked_at(thing_, scope)

    def _is_new(self, thing: Any, scope: Scope) -> bool:
        key = (id(thing), tuple(layer.label for layer in scope.layers))
        if key in self._seen or id(thing) in scope.entered:
            return False
        self._seen.add(key)
        self._kept.append(thing)
        self._left -= 1
        return True

    def _looked_at(self, thing: Any, scope: Scope) -> list[tuple[Any, Scope]]:
        try:
            return [] if is_opaque(thing) else list(self._inside(thing, scope))
        except Exception as error:
            kind = _kind(thing)
            what = f"{kind.__module__}.{kind.__qualname__}: {type(error).__name__}"
            if what not in self.unseen:
                self.unseen.append(what)
            return []

    def _inside(self, thing: Any, scope: Scope) -> Iterator[tuple[Any, Scope]]:
        if is_a(type(thing), "langgraph", "Pregel"):
            yield from _nodes(thing, scope)
        elif _is_tool(thing) and not scope.tools:
            return
        elif (layer := layer_of(thing)) is not None:
            scope = scope.within(layer, thing)
            for inner in referred(thing):
                yield inner, scope
        elif (patience := patience_of(thing)) is not None or known_client(thing) is not None:
            self._diagnose(thing, patience, scope)
        else:
            yield from _members(thing, scope)

    def _diagnose(self, thing: Any, patience: Patience | None, scope: Scope) -> None:
        client, transport = known_client(thing), transport_of(thing)
        if patience is None and (client is None or client.attempts == 1) and transport is None:
            return  # a transport, whose client knows the timeout
        kind = _kind(thing)
        name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
        attempts, cure = (1, "") if client is None else (client.attempts, f"set {client.advice} of {name}")
        trap = trap_of(thing) if attempts > 1 else ""
        itself = repeating(name, attempts, pauses_of(thing, attempts), cure, trap, hidden=True)
        layers = (*scope.layers, itself, *([] if transport is None else [transport]))
        cost = Cost(1, math.inf if patience is None else patience.seconds)
        for layer in reversed(layers):
            cost = layer.around(cost)
        advice = "" if patience is None else f"set {patience.advice} of {name}"
        self.found.append(diagnosed(layers, cost, advice, self._patient))


def _members(thing: Any, scope: Scope) -> Iterator[tuple[Any, Scope]]:
    """What an object, a function or a container refers to. What stands beside a pipeline is called through it."""
    guarded = list(guarded_methods(thing))
    for each in guarded:
        inside = scope.within(each.layer, each.method)
        yield each.method, scope
        yield from ((used, inside) for used in each.uses)
    elsewhere = {id(used) for each in guarded for used in each.uses}
    inner = [each for each in referred(thing) if id(each) not in elsewhere]
    pipelines = [] if isinstance(thing, _CONTAINERS) else [each for each in inner if is_pipeline(each)]
    if pipelines and scope.entered.isdisjoint(map(id, pipelines)):
        scope = scope.within(layer_of_pipelines(pipelines), *pipelines)
    yield from ((each, scope) for each in inner)


def _nodes(graph: Any, scope: Scope) -> Iterator[tuple[Any, Scope]]:
    """What each node of a graph runs, inside its retry policy, its timeout and the middleware that is there."""
    for name, node in graph.nodes.items():
        tools = is_a(type(node.bound), "langgraph", "ToolNode")
        around = [*layers_of_node(name, node, graph.retry_policy)]
        around += [layer_of_middleware(each) for each in _middleware(node.bound, tools=tools)]
        yield node.bound, scope._replace(layers=(*scope.layers, *around), tools=tools)


def _middleware(bound: Any, *, tools: bool) -> list[Any]:
    """The agent middleware that the node calls, outermost first."""
    found: list[Any] = []
    todo, seen = deque([bound]), {id(bound): bound}
    while todo and len(seen) < MOST_OBJECTS:
        thing = todo.popleft()
        if is_middleware(thing):
            found.append(thing)
        apart = (
            is_opaque(thing)
            or _is_tool(thing)
            or known_client(thing)
            or is_a(type(thing), "langgraph", "Pregel")
        )
        for inner in () if apart else referred(thing):
            if id(inner) not in seen:
                seen[id(inner)] = inner
                todo.append(inner)
    return [each for each in found if tools == is_a(type(each), "langchain", "ToolRetryMiddleware")]


def _kind(thing: object) -> type[Any]:
    return type(thing)


def _is_tool(thing: Any) -> bool:
    return is_a(type(thing), "langchain_core", "BaseTool")


_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
