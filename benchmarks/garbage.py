"""For how long a full collection of garbage stops the event loop, before and after the server settles.

    python -m benchmarks.garbage > benchmarks/results/garbage.md

A process that has built the models of all providers, as the server does at its start; five collections each, the
quickest counts.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Final

from mcp_server_langgraph.server.garbage import settle
from tests.llm.models import PROVIDERS, model_of, set_policies
from tests.llm.provider_server import ProviderServer

from ._report import machine, table

__all__ = ["main"]

COLLECTIONS: Final = 5


def _row(name: str) -> list[str]:
    gc.collect()
    objects = len(gc.get_objects())
    quickest = min(_milliseconds() for _ in range(COLLECTIONS))
    return [name, f"{quickest:.1f}", f"{objects:,}"]


def _milliseconds() -> float:
    began = time.perf_counter()
    gc.collect()
    return (time.perf_counter() - began) * 1000


async def _rows() -> list[list[str]]:
    set_policies()
    with ProviderServer() as server:
        model = model_of(server, *(f"{provider}:m" for provider in PROVIDERS))
        await model.prepare()
        rows = [_row("as it is")]
        settle()
        rows.append(_row("settled"))
        await model.aclose()
    return rows


def main() -> None:
    """Print the page."""
    rows = table(("", "full collection, ms", "objects looked at"), asyncio.run(_rows()))
    print(f"# A full collection of garbage\n\n{machine()}\n\n{rows}")


if __name__ == "__main__":
    main()
