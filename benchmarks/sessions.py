"""Whether an acknowledged message is ever lost: 10,000 writes while Redis is killed and hung again and again.

    python -m benchmarks.sessions > benchmarks/results/sessions.md

With `appendfsync always`. At every kill the disk that the server left is served by another server, where everything
that was acknowledged as durable until then must be; at the end, when nothing waits to be written back any more, after
one more kill, everything that was acknowledged at all. Five minutes; exit code 1 where anything is missing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from mcp_server_langgraph.resilience import registry
from tests.support import session_ledger
from tests.support.redis_server import RedisServer
from tests.support.session_ledger import Outcome

from ._report import machine, table

WRITES: Final = 10_000
SERVERS: Final = {"valkey": "Valkey", "redis": "Redis"}


def measured(component: str) -> tuple[Outcome, float]:
    """One run against a server, and how many seconds it took."""
    registry.reset()
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "data", component, appendfsync="always") as server,
    ):
        outcome = asyncio.run(session_ledger.run(server, Path(folder), WRITES))
    return outcome, time.perf_counter() - began


def report(measured_on: dict[str, tuple[Outcome, float]]) -> str:
    """The page."""
    rows = [
        ["writes", *(f"{WRITES:,}" for _ in measured_on)],
        ["kills (kill -9, restarted)", *(str(outcome.kills) for outcome, _ in measured_on.values())],
        ["pauses (SIGSTOP, resumed)", *(str(outcome.pauses) for outcome, _ in measured_on.values())],
        ["acknowledged as durable", *(f"{outcome.durable:,}" for outcome, _ in measured_on.values())],
        ["acknowledged as not durable", *(f"{outcome.not_durable:,}" for outcome, _ in measured_on.values())],
        ["refused", *(str(outcome.refused) for outcome, _ in measured_on.values())],
        ["looked for on the disk at kills", *(f"{outcome.audited:,}" for outcome, _ in measured_on.values())],
        ["durable, and not on the disk", *(str(len(outcome.untrue)) for outcome, _ in measured_on.values())],
        ["acknowledged, and lost", *(str(len(outcome.lost)) for outcome, _ in measured_on.values())],
        ["there twice", *(str(outcome.doubled) for outcome, _ in measured_on.values())],
        [
            "all written back after the last write, s",
            *(f"{outcome.written_back_after:.2f}" for outcome, _ in measured_on.values()),
        ],
        ["the whole run, s", *(f"{seconds:.0f}" for _, seconds in measured_on.values())],
    ]
    head = ["", *(SERVERS[component] for component in measured_on)]
    return f"# Session writes over kills and pauses of Redis\n\n{machine()}\n\n{table(head, rows)}\n"


def main() -> None:
    """Run, and print the page."""
    logging.disable()
    outcomes = {component: measured(component) for component in SERVERS}
    print(report(outcomes), end="")
    sys.exit(any(outcome.untrue or outcome.lost or outcome.refused for outcome, _ in outcomes.values()))


if __name__ == "__main__":
    main()
