"""Where the time of one guarded call goes: ``python -m benchmarks.frame_parts [--rounds N] [--write]``.

Each part of the fused frame of five policies is timed by itself: its lines as `Pipeline.source` shows them, on the
objects of a real pipeline, in a loop beside the empty loop. What a whole call costs beyond their sum is what is neither
a line nor a call: jumps, reference counts, and what the parts cost each other in the processor's caches.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from mcp_server_langgraph.resilience import Pipeline

from . import ours
from ._cases import give
from ._report import machine, table
from ._stacks import Limits

__all__ = ["PARTS", "Parts", "main", "measure", "report"]

RESULTS: Final = Path(__file__).parent / "results"
TURNS: Final = 1000


class Part(NamedTuple):
    """Some lines of the frame, and the policy that wants them."""

    policy: str
    name: str
    lines: str


PARTS: Final = (
    Part("frame", "the function called, and one coroutine around it", "await passed()"),
    Part("frame", "switch, loop and clock", "site.bypassed; loop, time = site.clock; loop is get_running_loop()"),
    Part("frame", "the clock read twice", "time(); time()"),
    Part(
        "frame",
        "the histogram",
        "elapsed = now - now; counts[0 if elapsed <= least else 1] += 1; histogram.sum += elapsed",
    ),
    Part("timeouts", "the task, and who wants to cancel it", "current_task(loop); task.cancelling()"),
    Part(
        "total",
        "the context read, the queue of its length found",
        """
        outer = inherited0.get()
        queue = guard0.queue
        queue.loop is loop and queue.seconds == policy0.seconds
        outer is None or outer.task is None and outer.parent is None
        """,
    ),
    Part(
        "total",
        "a deadline made and closed",
        """
        token = deadline0()
        token.task = task
        token.owner = guard0
        token.queue = queue
        token.seconds = queue.seconds
        token.end = now + queue.seconds
        token.parent = token.reset = token.handle = None
        token.fired = token.inherited = False
        token.cancelling = 0
        token.task = token.owner = token.queue = None
        """,
    ),
    Part("total", "put into its queue and taken out", "entries[token] = now; queue.handle is None; del entries[token]"),
    Part("total", "the context set", "token, other = other, token; inherited0.set(token)"),
    Part(
        "bulkhead",
        "a place taken and given back",
        "take1(); places1.debt; put1(None); places1.waiting or places1.debt",
    ),
    Part("retry", "attempts", "attempt = 1; began = now; last = step = None; attempts.first += 1; attempt > 1"),
    Part(
        "breaker",
        "the door twice, a success counted",
        """
        refusal = None if machine3.door is not None else 1
        refusal is not None
        token3 = machine3.door
        token3 is None
        if token3 is machine3.door and machine3.quiet: counts3.successes += 1
        """,
    ),
    Part(
        "attempt timeout",
        "the task put into its queue and taken out",
        """
        queue = guard4.queue
        queue.loop is loop and queue.seconds == policy4.seconds and task not in queue.entries
        queue.entries[task] = end = now + queue.seconds
        queue.handle is None
        del queue.entries[task]
        """,
    ),
)  # fmt: skip

_LOOP: Final = """
async def timed(started):
    loop, time = site.clock
    task = current_task()
    queue = guard0.queue
    entries = {{}}
    token, other = inherited0.get(), deadline0()
    now = 1.0
    for _ in turns:
{body}
    return clock() - started
"""


class Parts(NamedTuple):
    """Nanoseconds, the least of the rounds, without the loop: of each part, a whole call, a bare await."""

    parts: list[float]
    whole: float
    bare: float


async def measure(rounds: int) -> Parts:
    """Time every part, all taking turns."""
    pipeline = Pipeline("benchmark", *ours.five(Limits()))
    await pipeline.call(give)
    names = {**pipeline.call.__globals__, "clock": time.process_time_ns, "turns": range(TURNS)}
    names |= {"pipeline": pipeline, "give": give, "passed": _passed}
    sources = ["pass", *(part.lines for part in PARTS), "await pipeline.call(give)", "await give()"]
    loops = [_compiled(source, names) for source in sources]
    least = [float("inf")] * len(loops)
    for _ in range(rounds):
        for index, timed in enumerate(loops):
            least[index] = min(least[index], (await timed(time.process_time_ns())) / TURNS)
    empty, *others = least
    *parts, whole, bare = (value - empty for value in others)
    return Parts(parts, whole, bare)


async def _passed(*args: Any, **kwargs: Any) -> int:
    """As the frame hands arguments on."""
    return await (give(*args, **kwargs) if kwargs else give(*args))


def _compiled(lines: str, names: dict[str, Any]) -> Callable[[int], Awaitable[int]]:
    body = textwrap.indent(textwrap.dedent(lines).strip(), " " * 8)
    found = dict(names)
    exec(_LOOP.format(body=body), found)
    timed: Callable[[int], Awaitable[int]] = found["timed"]
    return timed


def report(found: Parts) -> str:
    """The page of one run."""
    rows = [_row(part.policy, part.name, ns, found) for part, ns in zip(PARTS, found.parts, strict=True)]
    rest = found.whole - sum(found.parts)
    rows.append(_row("", "what the parts cost each other, and jumps between them", rest, found))
    rows.append(_row("", "**the whole call**", found.whole, found))
    lines = [
        f"# Parts of one call of five policies, CPython {sys.version_info.major}.{sys.version_info.minor}",
        "",
        f"{machine()}.",
        "`python -m benchmarks.frame_parts`: lines of the frame in loops of their own, the least of the rounds.",
        "",
        table(["", "", "ns", "bare awaits"], rows),
    ]
    return "\n".join(lines) + "\n"


def _row(policy: str, name: str, ns: float, found: Parts) -> list[str]:
    return [name, policy, f"{ns:,.0f}", f"{ns / found.bare:.1f}"]


def main(arguments: list[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frame_parts", description="Where the time of one guarded call goes."
    )
    parser.add_argument("--rounds", type=int, default=500, help="samples of each part (default: 500)")
    parser.add_argument("--write", action="store_true", help="write the page into benchmarks/results/")
    options = parser.parse_args(arguments)
    page = report(asyncio.run(measure(options.rounds)))
    print(page)
    if options.write:
        name = f"parts-{sys.version_info.major}.{sys.version_info.minor}.md"
        (RESULTS / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
