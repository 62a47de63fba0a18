"""What a policy is: told what comes next, and knowing no neighbour.

``run(call, proceed)`` is the general form. Most policies are simpler: they act before and after a call and never in
between. Such a `Guard` has ``enter``, ``succeeded`` and ``failed``, all plain functions, which a pipeline compiles into
one frame with those of its neighbours (`_fuse`). One policy object, a breaker for example, may stand in many
pipelines: `Policy.bind` gives each its own guard.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from . import config
from ._inline import Inline
from ._past import Past
from ._site import BadResult, Call, Site
from .metrics import Histogram, Meter

__all__ = [
    "WAIT",
    "BadResult",
    "Call",
    "Cost",
    "Guard",
    "Policy",
    "Proceed",
    "ProceedStream",
    "ProceedSync",
    "Repeat",
    "Site",
]

Proceed = Callable[["Call"], Awaitable[Any]]
ProceedSync = Callable[["Call"], Any]
ProceedStream = Callable[["Call"], AsyncGenerator[Any, Any]]

# Given back by `Guard.enter` where the call has to wait for its place.
WAIT: Final = object()


class Cost(NamedTuple):
    """The most that a call can cost: ``requests`` to the dependency, and ``seconds`` (infinity: nothing bounds it)."""

    requests: int
    seconds: float


class Policy:
    """One capability. Subclasses either bind to a `Guard` or implement ``run`` (and ``run_sync``, ``stream``)."""

    kind: ClassVar[str] = "policy"
    name: str | None = None

    @property
    def label(self) -> str:
        """The name, for metrics and messages."""
        return self.name or "unnamed"

    @property
    def acts_as(self) -> str:
        """The kind that counts in the order: of one policy for each key, what those are."""
        return self.kind

    def bind(self, site: Site) -> Guard | Repeat | Policy:
        """What does the work at that site. The default is the policy itself, through ``run``."""
        return self

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, keeping state and calls in flight."""

    def doubts(self, attempt_timeout: float | None) -> Iterable[str]:
        """What of its settings is probably not meant where an attempt may take so many seconds (None: any number)."""
        return ()

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """Carry the call out; ``await proceed(call)`` is what comes next."""
        return await proceed(call)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        """The same for a plain function."""
        raise TypeError(f"{self.kind} cannot guard a plain def; make it async def")

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        """The same around an async generator."""
        async for item in proceed(call):
            yield item

    def snapshot(self) -> object:
        """The state as a value that no longer changes; None where there is none."""
        return None

    def parts(self) -> Iterator[Policy]:
        """The policies that this one is made of, for whoever looks for all breakers, say."""
        return iter(())

    def matters_until(self, now: float) -> float:
        """Until when something would be lost if it were replaced by a new one: an open breaker, say. Minus infinity
        where it would not; what calls in flight hold is not meant.
        """
        return -math.inf

    def settings(self) -> Mapping[str, Any]:
        """The settings in force, for ``describe`` and ``repr``."""
        return {}

    def worst_case(self, inner: Cost) -> Cost:
        """The most that a call can cost, where what stands inside can cost ``inner``."""
        return inner

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
        return f"{type(self).__name__}({inside})"


class Guard:
    """A policy at a site that acts before and after, never in between."""

    __slots__ = ()

    waits: ClassVar[bool] = False
    # Whether a call that will be refused further in may be refused before this guard has heard of it.
    gives_way: ClassVar[bool] = False
    meter: Meter | None = None

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline | None:
        """Its part of the frame, written out, where ``outer`` stands around it in the same frame; None: the frame
        calls ``enter`` and ``succeeded``.
        """
        return None

    def enter(self, now: float) -> Any:
        """Let the call in and give a token for its end, or `WAIT`; raise `Rejected` where it may not begin."""

    def enter_with(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for whom the call's arguments say something: its lines in the frame call this one."""
        return self.enter(now)

    async def wait(self) -> Any:
        """Wait for a place after `WAIT`; gives the token."""

    def wait_sync(self) -> Any:
        """The same, blocking the thread."""

    def succeeded(self, token: Any, now: float) -> None:
        """The call that was let in with ``token`` gave a result."""

    def first_item_came(self, token: Any, now: float) -> None:
        """The stream that was let in with ``token`` gave its first item."""

    def failed(self, token: Any, now: float, exc: BaseException) -> BaseException | None:
        """It raised. Gives what to raise from it instead; None for ``exc`` itself."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """What the fused frame does for this guard, spelled out (the general form, and the reference in the tests)."""
        clock = asyncio.get_running_loop().time
        token = self.enter_with(clock(), call.args, call.kwargs)
        if token is WAIT:
            token = await self.wait()
        try:
            result = await proceed(call)
        except BaseException as exc:
            raised = self.failed(token, clock(), exc)
            if raised is None:
                raise
            raise raised from exc
        self.succeeded(token, clock())
        return result

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        """The same for a plain function."""
        token = self.enter_with(time.monotonic(), call.args, call.kwargs)
        if token is WAIT:
            token = self.wait_sync()
        try:
            result = proceed(call)
        except BaseException as exc:
            raised = self.failed(token, time.monotonic(), exc)
            if raised is None:
                raise
            raise raised from exc
        self.succeeded(token, time.monotonic())
        return result


class Attempts(Protocol):
    """Where the retry loop counts; the frame itself counts first attempts.

    ``once``: the time of whole calls that were one attempt from their first moment on, which the frame measures once
    for both. ``successes``: of the other attempts that ended well.
    """

    first: int
    once: Histogram
    successes: Histogram


class Repeat:
    """The retry loop at a site."""

    meter: Meter | None = None
    keyed: bool = False

    attempts: Attempts

    def again(
        self,
        attempt: int,
        began: float,
        now: float,
        exc: Exception,
        past: Past,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float | BaseException | None:
        """What follows a failed attempt: seconds to wait, an exception to raise instead, or None to raise ``exc``."""

    def succeeded(self, attempt: int, took: float) -> None:
        """An attempt succeeded, after so many seconds of its own. (The fused frame has this written out.)"""
        if attempt > 1:
            self.recovered(attempt, took)
        else:
            self.attempts.successes.observe(took)

    def recovered(self, attempt: int, took: float) -> None:
        """A later attempt succeeded, after so many seconds of its own."""

    def with_key(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with an idempotency key that all attempts share."""
        return kwargs

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """What the fused frame does for the loop, spelled out."""
        clock = asyncio.get_running_loop().time
        began = clock()
        past = Past(began)
        if self.keyed:
            call.kwargs = self.with_key(call.kwargs)
        self.attempts.first += 1
        try:
            while True:
                try:
                    result = await proceed(call)
                except Exception as exc:
                    step = self.again(
                        call.attempt, began, clock(), exc, past, call.fn, call.args, call.kwargs
                    )
                    if step is None:
                        raise
                else:
                    self.succeeded(call.attempt, clock() - past.since)
                    return result
                if isinstance(step, BaseException):
                    raise step
                await asyncio.sleep(step)
                call.attempt += 1
                past.since = clock()
        finally:
            past.end()
