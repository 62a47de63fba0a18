"""One call, and where it is guarded: what policies are told of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from .deadline import INHERITED, Deadline
from .outcome import DOWN, NEUTRAL, Classifier, Outcome, Verdict


class BadResult(Exception):
    """A result that was judged a failure, on its way through the policies. Never leaves the pipeline."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result


class Call:
    """One call on its way through a pipeline. ``attempt`` counts from 1."""

    __slots__ = ("args", "attempt", "fn", "kwargs", "site")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: Site,
        attempt: int = 1,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.site = site
        self.attempt = attempt


class Total(Protocol):
    """A total timeout, as the classifying of a cancellation knows it."""

    def expired(self, deadline: Deadline | None) -> bool:
        """Whether its own time ran out, under ``deadline`` or one around it that are still open."""
        ...


class Site:
    """Where policies work: what all of one pipeline's guards have in common.

    ``name`` is the pipeline's name and the metrics' ``service`` label, ``operation`` the function guarded.
    ``bypassed`` is True while the switch is off: calls then go straight to the function.
    """

    def __init__(
        self, name: str, operation: str, classifier: Classifier, judge: Callable[[Any], bool] | None
    ) -> None:
        self.name = name
        self.operation = operation
        self.classifier = classifier
        self.judge_result = judge
        self.bypassed = False
        self.clock: tuple[asyncio.AbstractEventLoop | None, Callable[[], float]] = (None, time.monotonic)
        self.totals: list[Total] = []
        self.inside_retry = False
        # Of what stands inside the retry loop: seconds for which it refuses every attempt, as far as it knows.
        self.gates: list[Callable[[float], float]] = []
        # Of limiters: whether there is no room for more than what is running, so that nothing optional should begin.
        self.saturation: list[Callable[[], bool]] = []

    def adopt_loop(self) -> tuple[asyncio.AbstractEventLoop, Callable[[], float]]:
        """The running loop and its clock, remembered. The usual loop's is ``time.monotonic`` behind a method."""
        loop = asyncio.get_running_loop()
        usual = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        clock = time.monotonic if usual else loop.time
        self.clock = (loop, clock)
        return loop, clock

    def named(self, name: str | None, *, given: bool) -> str:
        """The name of a policy that is called ``name`` until now. One that was ``given`` it keeps it; else it takes the
        first pipeline's: in a stack of decorators that is at first the function's, and the breaker's once a breaker
        with a name is put above.
        """
        return self.name if name is None or (not given and name == self.operation) else name

    def verdict(self, exc: BaseException) -> Verdict:
        """What ``exc`` means here. A cancellation is a failure where it is this pipeline's own total timeout that cut
        the call in mid-flight, and neutral otherwise.
        """
        if isinstance(exc, BadResult):
            return Verdict(Outcome.FAILURE, retryable=True)
        if isinstance(exc, Exception):
            return self.classifier(exc)
        if isinstance(exc, asyncio.CancelledError):
            deadline = INHERITED.get()
            return DOWN if any(total.expired(deadline) for total in self.totals) else NEUTRAL
        return NEUTRAL
