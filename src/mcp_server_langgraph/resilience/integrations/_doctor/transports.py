"""What repeats requests inside a client: the transport below it, which it knows nothing of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from ..._known_clients import is_a, known_client
from .layer import Layer, repeating
from .layers import is_pipeline, layer_of_pipelines
from .reach import is_opaque, referred

__all__ = ["transport_of"]

_MOST: Final = 5_000
_HTTP: Final = ("httpx", "httpx2")
_INTEGRATIONS: Final = __name__.rpartition(".")[0]


def transport_of(client: Any) -> Layer | None:
    """What repeats most below ``client``: one of our transports, or httpx's that connects anew; None: nothing."""
    # What httpx's clients do themselves, `known_client` has counted.
    its_own = any(is_a(type(client), package, "BaseClient") for package in _HTTP)
    layers = [layer for thing in _inside(client) if (layer := _layer(thing, its_own)) is not None]
    return max(layers, key=lambda layer: layer.attempts, default=None)


def _layer(thing: Any, its_own: bool) -> Layer | None:
    if str(type(thing).__module__).startswith(_INTEGRATIONS):
        pipelines = [each for each in referred(thing) if is_pipeline(each)]
        layer = layer_of_pipelines(pipelines) if pipelines else None
        return layer if layer is not None and layer.attempts > 1 else None
    transport = any(is_a(type(thing), package, name) for package in _HTTP for name in _TRANSPORTS)
    found = known_client(thing) if transport and not its_own else None
    if found is None or found.attempts == 1:
        return None
    return repeating(found.client, found.attempts, 0.0, f"set {found.advice} of {found.client}", hidden=True)


def _inside(client: Any) -> Iterator[Any]:
    todo, seen = deque([client]), {id(client): client}
    while todo:
        thing = todo.popleft()
        yield thing
        if is_opaque(thing):
            continue
        for inner in referred(thing):
            if id(inner) not in seen and len(seen) < _MOST:
                seen[id(inner)] = inner
                todo.append(inner)


_TRANSPORTS: Final = ("HTTPTransport", "AsyncHTTPTransport")
