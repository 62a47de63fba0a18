"""One call and its hedges: the first that succeeds wins, and nothing of it outlives the call.

The *primary* runs in the task of the caller, so that it costs no task and shares the caller's context. A hedge is a
task of its own, in a copy of the context as it was when the call began. If a hedge wins, the primary is interrupted
as ``asyncio.timeout`` would do it (`_machines.timers.Stay`): ``Task.cancelling()`` is remembered at the beginning and
compared with ``uncancel()`` at the end, so that a cancellation from outside is neither taken for ours nor swallowed.
Such a cancellation cancels the hedges too, and waits for their end.

What may begin, and what is counted, is the `Umpire`'s word; here is only the race.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final, NamedTuple, Protocol

from ._machines.timers import Stay, Task
from .errors import Rejected
from .policy import Call
from .propagation import HEDGE

# The ``winner`` where no hedge has won.
NOBODY: Final = object()

# The loop holds its tasks weakly, and these must come to their end even where the caller was abandoned.
_running: Final[set[Task]] = set()


class Hedged(NamedTuple):
    """A hedge that runs: when it began, and the generation of the switch that it belongs to."""

    began: float
    generation: int


class Umpire(Protocol):
    """Who decides and counts."""

    def wanted(self, race: Race, why: str) -> None:
        """A hedge would help now: `Race.begin` one, or not."""

    def failed(self, race: Race, exc: BaseException) -> None:
        """An attempt failed, and nobody has won yet."""

    def ended(self, race: Race, hedge: Hedged, won: bool | None) -> None:
        """A hedge ended. ``won`` is None where that says nothing about hedging."""


class Race(Stay):
    """One call on its way. Made for every call, and cheap as long as nothing happens.

    ``number``: how many hedges have begun. ``winner``: the result of the hedge that won, else `NOBODY`.
    """

    __slots__ = (
        *("attempt", "call", "context", "decided", "hedges", "late", "loop"),
        *("number", "primary_failed", "umpire", "waiter", "winner"),
    )

    def __init__(
        self,
        task: Task,
        loop: asyncio.AbstractEventLoop,
        umpire: Umpire,
        call: Call,
        attempt: Callable[[Call], Awaitable[Any]],
    ) -> None:
        # The base's own __init__ is repeated here because this is made for every call.
        self.task = task
        self.cancelling = task.cancelling()
        self.fired = False
        self.queue = None
        self.handle = None
        self.loop = loop
        self.umpire = umpire
        self.call = call
        self.attempt = attempt
        self.context = copy_context()
        self.number = 0
        self.winner: Any = NOBODY
        self.hedges: dict[Task, Hedged] | None = None
        self.late: list[Any] | None = None  # results that came after the winner's
        self.decided = False  # somebody has won
        self.primary_failed = False
        self.waiter: asyncio.Future[None] | None = None

    def fire(self) -> None:
        """The delay has passed."""
        self.handle = None
        if self.task is not None and not self.decided:
            self.umpire.wanted(self, "slow")

    def begin(self, now: float, generation: int) -> None:
        """Begin a hedge."""
        if self.hedges is None:
            self.hedges, self.late = {}, []
        self.number += 1
        task = self.context.run(self._spawn)
        self.hedges[task] = Hedged(now, generation)
        _running.add(task)
        task.add_done_callback(_running.discard)
        task.add_done_callback(self._ended)

    def _spawn(self) -> Task:
        HEDGE.set(self.number)
        call = self.call
        copy = Call(call.fn, call.args, call.kwargs, call.site, call.attempt)
        return self.loop.create_task(self._hedge(copy), name=f"hedge {self.number} of {call.site.name}")

    async def _hedge(self, call: Call) -> Any:
        return await self.attempt(call)

    def _ended(self, task: Task) -> None:
        """A hedge is done: said by the loop, or before that by `_drain`, which looked."""
        assert self.hedges is not None
        assert self.late is not None
        hedge = self.hedges.pop(task, None)
        if hedge is None:
            return
        open_ = self.task is not None and not self.decided
        exc = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.umpire.ended(self, hedge, False if self.decided else None)
        elif exc is not None:
            self.umpire.ended(self, hedge, None if isinstance(exc, Rejected) else False)
            if open_:
                self.umpire.failed(self, exc)
        elif open_:
            self.decided = True
            self.winner = task.result()
            self.umpire.ended(self, hedge, True)
            if not self.primary_failed:
                self._interrupt()
        else:
            self.late.append(task.result())
            self.umpire.ended(self, hedge, False)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _interrupt(self) -> None:
        """Cut the primary."""
        assert self.task is not None
        self.fired = True
        self.task.cancel()

    async def after_success(self, result: Any) -> Any:
        """What to give after the primary gave ``result``, and hedges had begun."""
        self.ended()
        if self.winner is not NOBODY:  # cut too late, or it did not let itself be cut
            assert self.late is not None
            self.late.append(result)
            result = self.winner
        self.decided = True
        await self._drain(result)
        return result

    async def after_failure(self, exc: BaseException) -> bool:
        """Whether a hedge has the answer (``winner``) after the primary raised ``exc``. Where it has not, ``exc`` is
        to be raised.
        """
        if not isinstance(exc, (Exception, asyncio.CancelledError)):
            self._abandon()
            return False
        if isinstance(exc, Exception) and not self.decided:
            self.primary_failed = True
            self.umpire.failed(self, exc)
            await self._wait_for_hedges()
        ours = self.ended()
        if isinstance(exc, asyncio.CancelledError) and not ours:
            await self._give_up()
            return False
        await self._drain(self.winner)
        return self.winner is not NOBODY

    async def _wait_for_hedges(self) -> None:
        """Until one has won, or all have failed."""
        try:
            while self.hedges and not self.decided:
                self.waiter = self.loop.create_future()
                await self.waiter
        except asyncio.CancelledError:
            self.ended()
            await self._give_up()
            raise
        except BaseException:
            self._abandon()
            raise

    async def _give_up(self) -> None:
        """Cancelled from outside: who has won no longer matters."""
        if self.winner is not NOBODY:
            assert self.late is not None
            self.late.append(self.winner)
            self.winner = NOBODY
        await self._drain(NOBODY)

    async def _drain(self, kept: Any) -> None:
        """Cancel the hedges that still run, and wait for their end. A cancellation from outside that comes meanwhile
        reaches them too, and is raised when they have ended; then ``kept``, the result, is discarded as theirs are.
        """
        if self.hedges is None or self.late is None:
            return
        cancelled: BaseException | None = None
        self._cancel_all()
        while self.hedges or self.late:
            try:
                if self.hedges:
                    await asyncio.wait(list(self.hedges))
                else:
                    await self._discard(self.late.pop())
            except asyncio.CancelledError as exc:
                self._cancel_all()
                if cancelled is None and kept is not NOBODY:
                    self.late.append(kept)
                cancelled = exc
            for task in [task for task in self.hedges if task.done()]:
                self._ended(task)
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # an exception kept in its own frame is a cycle

    def _cancel_all(self) -> None:
        for task in self.hedges or ():
            task.cancel()

    def _abandon(self) -> None:
        """Nobody can wait any more (the caller's coroutine was thrown away, perhaps after its loop was closed, perhaps
        in another thread): the hedges are told, and end by themselves.
        """
        self.ended()
        with contextlib.suppress(RuntimeError):
            if asyncio._get_running_loop() is self.loop:
                self._cancel_all()
            else:
                self.loop.call_soon_threadsafe(self._cancel_all)

    async def _discard(self, result: Any) -> None:
        """Get rid of the result of one that lost."""
