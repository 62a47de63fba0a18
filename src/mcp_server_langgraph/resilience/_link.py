"""Links the policies of a pipeline: neighbouring guards and the retry loop become one compiled frame, other
policies are given ``proceed``.
"""

from __future__ import annotations

import asyncio
import bisect
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from . import _functions, _fuse
from ._past import Past
from .ended import Ended
from .metrics import Histogram, Sample
from .outcome import Outcome, classify
from .policy import WAIT, BadResult, Call, Guard, Policy, Repeat, Site

Bound = Guard | Repeat | Policy


class CallMeter:
    """How the calls of one pipeline ended, and how long the successful ones took."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.histogram = Histogram()
        self.once: Histogram | None = None  # the retry loop's, of calls that were one attempt
        self.failures = 0
        self.neutral = 0

    def ended(self, exc: BaseException) -> None:
        """Count a call that raised."""
        if self.site.verdict(exc).outcome is Outcome.FAILURE:
            self.failures += 1
        else:
            self.neutral += 1

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        labels = (self.site.name, self.site.operation)
        value = self.histogram.value() if self.once is None else self.histogram.with_those_of(self.once)
        yield Sample("resilience_call_duration_seconds", labels, value)
        yield Sample("resilience_calls_total", (*labels, "success"), sum(value.counts))
        yield Sample("resilience_calls_total", (*labels, "failure"), self.failures)
        yield Sample("resilience_calls_total", (*labels, "neutral"), self.neutral)


class Linker:
    """Makes the frames of one pipeline."""

    def __init__(self, owner: object, site: Site, bound: list[Bound], meter: CallMeter) -> None:
        self.owner = owner
        self.site = site
        self.bound = bound
        self.meter = meter
        first, _ = segments_of(bound)[0]
        meter.once = next((node.attempts.once for node in first if isinstance(node, Repeat)), None)

    def frame(
        self, face: _fuse.Face, *, sync: bool, fn: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """The function that runs calls through all policies."""
        segments = segments_of(self.bound)
        proceed: Callable[..., Any] | None = None
        for index in range(len(segments) - 1, -1, -1):
            nodes, around = segments[index]
            if around is not None:
                proceed = _link(around, proceed, sync=sync)
            shape = self.shape(nodes, face if index == 0 else "step", last=proceed is None, sync=sync)
            proceed = self._compile(shape, nodes, proceed, fn)
        assert proceed is not None
        return proceed

    def shape(self, nodes: list[Guard | Repeat], face: _fuse.Face, *, last: bool, sync: bool) -> _fuse.Shape:
        """What the source of a frame depends on."""
        parts = tuple(_part(node, nodes[:index]) for index, node in enumerate(nodes))
        keyed = any(isinstance(node, Repeat) and node.keyed for node in nodes)
        judged = self.site.judge_result is not None
        return _fuse.Shape(parts, face, last=last, sync=sync, judged=judged, keyed=keyed)

    def _compile(
        self,
        shape: _fuse.Shape,
        nodes: list[Guard | Repeat],
        proceed: Callable[..., Any] | None,
        fn: Callable[..., Any] | None,
    ) -> Callable[..., Any]:
        histogram = self.meter.histogram
        names: dict[str, Any] = {
            **_COMMON,
            "bounds": histogram.bounds,
            "counts": histogram.counts,
            "ended": self.meter.ended,
            "fn": fn,
            "histogram": histogram,
            "least": histogram.bounds[0],
            "judge_result": self.site.judge_result,
            "pipeline": self.owner,  # whoever keeps the frame keeps the pipeline: it is listed, and reloaded
            "proceed": proceed,
            "judged_by_us": self.site.classifier is classify,
            "meter": self.meter,
            "site": self.site,
            "sleep": time.sleep if shape.sync else asyncio.sleep,
        }
        for index, node in enumerate(nodes):
            names.update(_methods_of(node, index, sync=shape.sync))
            names.update(_names_of(node, index, nodes[:index]))
        # A copy of the code for each pipeline: the interpreter specialises it for the objects that it meets.
        return types.FunctionType(_fuse.compiled(shape).replace(), names)


_COMMON: Final[dict[str, Any]] = {
    "__name__": __name__,
    "BadResult": BadResult,
    "Call": Call,
    "Ended": Ended,
    "Past": Past,
    "WAIT": WAIT,
    "bisect_left": bisect.bisect_left,
    "current_task": asyncio.current_task,
    "get_running_loop": asyncio.get_running_loop,
    "monotonic": time.monotonic,
    "refuse_awaitable": _functions.refuse_awaitable,
}


def _methods_of(node: Guard | Repeat, index: int, *, sync: bool) -> dict[str, Any]:
    if isinstance(node, Repeat):
        return {
            "again": node.again,
            "attempts": node.attempts,
            "once_counts": node.attempts.once.counts,
            "once_histogram": node.attempts.once,
            "recovered": node.recovered,
            "successes": node.attempts.successes,
            "with_key": node.with_key,
        }
    return {
        f"enter{index}": node.enter,
        f"failed{index}": node.failed,
        f"succeeded{index}": node.succeeded,
        f"wait{index}": node.wait_sync if sync else node.wait,
    }


def _part(node: Guard | Repeat, outer: list[Guard | Repeat]) -> _fuse.Node:
    if isinstance(node, Repeat):
        return _fuse.Node("repeat")
    inline = node.inline(outer)
    kind: _fuse.Kind = "waiting" if node.waits else "guard"
    if inline is None:
        return _fuse.Node(kind)
    gives_way = all(isinstance(other, Repeat) or other.gives_way for other in outer)
    return _fuse.Node(kind, inline.lines, early=gives_way and bool(inline.lines.refusal))


def _names_of(node: Guard | Repeat, index: int, outer: list[Guard | Repeat]) -> dict[str, Any]:
    inline = None if isinstance(node, Repeat) else node.inline(outer)
    return {} if inline is None else {f"{name}{index}": value for name, value in inline.names.items()}


def segments_of(bound: list[Guard | Repeat | Policy]) -> list[tuple[list[Guard | Repeat], Policy | None]]:
    """Cut the chain after each policy that runs in the general form: (guards to fuse, the policy that follows)."""
    segments: list[tuple[list[Guard | Repeat], Policy | None]] = []
    nodes: list[Guard | Repeat] = []
    for item in bound:
        if isinstance(item, Policy):
            segments.append((nodes, item))
            nodes = []
        else:
            nodes.append(item)
    segments.append((nodes, None))
    return segments


def _link(policy: Policy, proceed: Callable[..., Any] | None, *, sync: bool) -> Callable[[Call], Any]:
    assert proceed is not None
    run: Callable[..., Any] = policy.run_sync if sync else policy.run
    return lambda call: run(call, proceed)
