"""Compiles the policies of a pipeline into one frame.

Four policies in the general form, each a coroutine that awaits the next, cost about 50 times a bare await; one frame
that calls their ``enter`` and ``succeeded`` about 17 (CPython 3.12, `benchmarks/results`, and why:
`docs/explanation/decisions/fused-pipelines.md`). So the source of that
frame is put together once for each *shape* of pipeline, as `dataclasses` does for ``__init__``, and run for each
pipeline with the methods of its own policies. ``Pipeline.source`` shows it; tracebacks show its lines.

What the frame does is what `Guard.run` and `Repeat.run` spell out by hand, one policy at a time; the tests run random
scripts of calls through both.
"""

from __future__ import annotations

import functools
import itertools
import linecache
from collections.abc import Generator
from contextlib import contextmanager
from types import CodeType
from typing import Final, Literal, NamedTuple

from ._inline import BY_METHODS, Lines

# A guard that cannot wait, one that can, and the retry loop.
Kind = Literal["guard", "waiting", "repeat"]
# bound: a decorated function; call: the function comes first; try: so too, and the end is given as a value; step:
# after a policy that is given the `Call`.
Face = Literal["bound", "call", "try", "step"]

_PARAMETERS: Final[dict[Face, str]] = {
    "bound": "*args, **kwargs",
    "call": "fn, /, *args, **kwargs",
    "try": "fn, /, *args, **kwargs",
    "step": "call",
}


class Node(NamedTuple):
    """A part of the frame. ``lines``: its source, where it has its own; ``early``: its refusal comes first of all."""

    kind: Kind
    lines: Lines | None = None
    early: bool = False


class Shape(NamedTuple):
    """All that the source depends on."""

    nodes: tuple[Node, ...]
    face: Face
    last: bool  # the frame calls the function itself, not the next policy
    sync: bool
    judged: bool  # results are judged, not only exceptions
    keyed: bool  # the retry loop adds an idempotency key to the arguments

    @property
    def task(self) -> bool:
        """Whether a guard asks for the task."""
        return any(node.lines is not None and node.lines.task for node in self.nodes)


class _Writer:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.lines: list[str] = []
        self._depth = 0

    def __call__(self, text: str) -> None:
        self.lines.append("    " * self._depth + text)

    def copy(self, source: str, index: int) -> None:
        """Lines of a guard's own."""
        source = source.replace("$arguments", "args, kwargs" if self.outermost else "call.args, call.kwargs")
        for line in source.strip("\n").replace("$", str(index)).splitlines():
            self(line)

    @contextmanager
    def block(self, opening: str) -> Generator[None]:
        self(opening)
        self._depth += 1
        yield
        self._depth -= 1

    @property
    def wait(self) -> str:
        return "" if self.shape.sync else "await "

    @property
    def outermost(self) -> bool:
        return self.shape.face != "step"

    @property
    def repeating(self) -> bool:
        """Whether the retry loop is in this frame."""
        return any(node.kind == "repeat" for node in self.shape.nodes)

    @property
    def catching(self) -> bool:
        """Whether the end of the call is given as a value."""
        return self.shape.face == "try"

    def given(self, value: str) -> str:
        """What to return for a value."""
        return f"Ended(site, {value})" if self.catching else value

    @property
    def target(self) -> str:
        if not self.shape.last:
            return "proceed(Call(fn, args, kwargs, site))" if self.outermost else "proceed(call)"
        if not self.outermost:
            return "call.fn(*call.args, **call.kwargs)"
        # Handing on keyword arguments copies them, even where there are none.
        return "(fn(*args, **kwargs) if kwargs else fn(*args))"


def write(shape: Shape) -> str:
    """The source of the frame for a shape."""
    w = _Writer(shape)
    with w.block(f"{'' if shape.sync else 'async '}def frame({_PARAMETERS[shape.face]}):"):
        if w.outermost:
            _write_bypass(w)
        if shape.sync:
            w("time = monotonic")
        else:
            w("loop, time = site.clock")
            w("if loop is not get_running_loop(): loop, time = site.adopt_loop()")
        w("now = time()")
        _write_early_refusals(w)
        if shape.task:
            _write_with_task(w)
        else:
            _write_body(w)
        w(f"return {w.given('result')}")
    return "\n".join(w.lines) + "\n"


def _write_bypass(w: _Writer) -> None:
    result = f"{w.wait}fn(*args, **kwargs)"
    if not w.catching:
        w(f"if site.bypassed: return {result}")
        return
    with w.block("if site.bypassed:"):
        w(f"try: return {w.given(result)}")
        w("except Exception as exc: return Ended(site, None, exc)")


def _write_early_refusals(w: _Writer) -> None:
    for index, node in enumerate(w.shape.nodes):
        if node.early:
            assert node.lines is not None
            w.copy(f"refusal = {node.lines.refusal}", index)
            with w.block("if refusal is not None:"):
                if any(outer.kind == "repeat" for outer in w.shape.nodes[:index]):
                    w("attempts.first += 1")
                if w.outermost:  # no refusal is a failure to the layer's own classifier
                    w("if judged_by_us: meter.neutral += 1")
                    w("else: ended(refusal)")
                if w.catching:
                    w("return Ended(site, None, refusal)")
                    continue
                w("try: raise refusal")
                w("finally: refusal = None")  # an exception kept in its own frame is a cycle


def _write_with_task(w: _Writer) -> None:
    w("task = current_task(loop)")
    w("quick = task is not None and not task.cancelling()")
    with w.block("try:"):
        _write_body(w)
    w("finally: task = None")  # it may keep the exception, which keeps this frame


def _write_body(w: _Writer) -> None:
    if w.outermost:
        _write_measured(w)
    else:
        _write_node(w, 0)


def _write_measured(w: _Writer) -> None:
    w("started = now")
    with w.block("try:"):
        _write_node(w, 0)
    if w.shape.judged:
        with w.block("except BadResult as bad:"):
            w("ended(bad)")
            w("return Ended(site, bad.result, None, bad)" if w.catching else "return bad.result")
    if w.catching:
        with w.block("except Exception as exc:"):
            w("ended(exc)")
            w("return Ended(site, None, exc)")
    with w.block("except BaseException as exc:"):
        w("ended(exc)")
        w("raise")
    w("elapsed = now - started")
    if not w.repeating:
        _write_counted(w, "")
        return
    # Of one attempt, without a wait before: what it took is what the attempt took, and is counted once for both.
    with w.block("if began is started:"):
        _write_counted(w, "once_")
    with w.block("else:"):
        _write_counted(w, "")
        w("if attempt == 1: successes.observe(now - began)")


def _write_counted(w: _Writer, histogram: str) -> None:
    w(f"{histogram}counts[0 if elapsed <= least else bisect_left(bounds, elapsed)] += 1")
    w(f"{histogram}histogram.sum += elapsed")


def _write_node(w: _Writer, index: int) -> None:
    if index == len(w.shape.nodes):
        w(f"result = {w.wait}{w.target}")
        if w.shape.sync and w.shape.last:
            w("if hasattr(result, '__await__'): refuse_awaitable(result)")
        if w.shape.judged and w.shape.last:
            w("if judge_result(result): raise BadResult(result)")
        w("now = time()")
    elif w.shape.nodes[index].kind == "repeat":
        _write_repeat(w, index)
    else:
        _write_guard(w, index)


def _write_guard(w: _Writer, i: int) -> None:
    kind, lines, _ = w.shape.nodes[i]
    lines = lines or BY_METHODS
    w.copy(lines.enter, i)
    if kind == "waiting":
        with w.block(f"if token{i} is WAIT:"):
            w(f"token{i} = {w.wait}wait{i}()")
            w("now = time()")
            if w.shape.task:
                w("quick = False")
    with w.block("try:"):
        _write_node(w, i + 1)
    with w.block("except BaseException as exc:"):
        w.copy(f"raised = failed$({lines.token}, time(), exc)", i)
        w(f"token{i} = None")  # it may be the task, which keeps the exception, which keeps this frame
        w("if raised is None: raise")
        w("try: raise raised from exc")
        w("finally: raised = None")  # an exception kept in its own frame is a cycle
    with w.block("else:"):
        w.copy(lines.success, i)


def _write_repeat(w: _Writer, i: int) -> None:
    holder = "" if w.outermost else "call."
    if w.shape.keyed:
        w(f"{holder}kwargs = with_key({holder}kwargs)")
    w("attempt = 1")
    w("began = now")
    w("past = step = None")
    w("attempts.first += 1")
    with w.block("try:"):
        with w.block("while True:"):
            with w.block("try:"):
                _write_node(w, i + 1)
                w("break")
            with w.block("except Exception as exc:"):
                arguments = "fn, args, kwargs" if w.outermost else "call.fn, call.args, call.kwargs"
                w("if past is None: past = Past(began)")
                w(f"step = again(attempt, began, time(), exc, past, {arguments})")
                w("if step is None: raise")
            # Outside the handler, so that what is raised keeps the context it came with.
            w("if step.__class__ is not float: raise step")
            w(f"{w.wait}sleep(step)")
            w("attempt += 1")
            if w.shape.task:
                w("quick = False")
            if not w.outermost:
                w("call.attempt = attempt")
            w("now = past.since = time()")
        with w.block("if attempt > 1:"):
            w("recovered(attempt, now - past.since)")
            if w.outermost:
                w("began = None")
        if not w.outermost:
            w("else: successes.observe(now - began)")
    with w.block("finally:"):
        w("if past is not None: past.end()")
        w("past = step = None")


_numbers = itertools.count(1)


@functools.cache
def compiled(shape: Shape) -> CodeType:
    """The code of a shape; its lines are known to tracebacks."""
    source = write(shape)
    kinds = " > ".join(node.kind for node in shape.nodes) or "no policy"
    filename = f"<resilience frame {next(_numbers)}: {kinds}, {shape.face}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = compile(source, filename, "exec")
    return next(part for part in module.co_consts if isinstance(part, CodeType))
