"""A breaker that shares its state through pybreaker's storages, with pybreaker's own breakers too, and never waits.

    shared = share(breaker, lambda: pybreaker.CircuitRedisStorage("closed", redis.Redis(...), namespace="search"))

pybreaker asks its storage two to three times for every call, and blocks the loop meanwhile. Here calls ask nobody. A
thread of its own looks at the storage every ``refresh`` seconds and writes what has happened as soon as it has; what it
reads becomes the breaker's state. A storage that is slow, hangs or is gone delays no call: the breaker goes by what it
sees itself, and tells the others when the storage is back.

Good probes are counted by each side for itself; a breaker that opens on rates shares that it opened, not its window.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .. import events
from .._checks import checked_time
from .._machines.breaker_state import Mode, State
from ..circuit_breaker import CircuitBreaker
from ._pybreaker.state import CLOSED, HALF_OPEN, OPEN, Mine, Move, Shared, move
from ._pybreaker.storage import Storage, Teller

__all__ = ["SharedBreaker", "SharedBreakerSnapshot", "share"]

# pybreaker's names for the states of the automatic machine; an operator's modes are not shared.
_NAMES: Final = {State.CLOSED: CLOSED, State.OPEN: OPEN, State.HALF_OPEN: HALF_OPEN}
# Seconds between two looks at least, so that a burst of failures is told as one.
_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class SharedBreakerSnapshot:
    """What is known of the shared state. ``state`` and ``opened_at`` as they were read last, ``age`` seconds ago (None:
    never). ``reachable``: whether the storage answers.
    """

    state: str | None
    opened_at: datetime | None
    age: float | None
    reachable: bool


class SharedBreaker:
    """The state of one breaker, shared through a storage; see `share`, which makes it."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        storage: Callable[[], Storage],
        refresh: float,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self._breaker = weakref.ref(breaker)
        self._refresh = refresh
        self._patience = patience
        self._clock = clock
        self._opened: tuple[int, datetime | None] = (-1, None)
        self._teller = Teller(storage, self._look(breaker))
        self._shared: Shared | None = None
        self._read_at = 0.0
        self._answers = True
        self._asked_at: float | None = None
        self._wake = threading.Event()
        self._closed = False
        breaker.listeners.attach(self)
        # Not a pool's thread: those are waited for when the interpreter ends, and this one may hang in a socket.
        name = f"shared-state-{breaker.label}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    # What the breaker tells: nothing on the success path

    def failure(self, cb: Any, exc: BaseException) -> None:
        """A call failed."""
        self._notice()

    def state_change(self, cb: Any, old: Any, new: Any) -> None:
        """The breaker changed its state."""
        self._notice()

    def _notice(self) -> None:
        self._wake.set()
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > self._patience:
            self._lost("no answer")

    # For operators

    def snapshot(self) -> SharedBreakerSnapshot:
        """What is known now."""
        shared, asked_at = self._shared, self._asked_at
        hangs = asked_at is not None and time.monotonic() - asked_at > self._patience
        age = None if shared is None else time.monotonic() - self._read_at
        reachable = self._answers and not hangs
        if shared is None:
            return SharedBreakerSnapshot(None, None, age, reachable)
        return SharedBreakerSnapshot(shared.state, shared.opened_at, age, reachable)

    def close(self) -> None:
        """Share no more. The breaker keeps the state that it has."""
        self._closed = True
        self._wake.set()
        breaker = self._breaker()
        if breaker is not None:
            breaker.listeners.detach(self)

    # In the thread

    def _work(self) -> None:
        while not self._closed:
            breaker = self._breaker()
            if breaker is None:
                return
            self._wake.clear()
            self._exchange(breaker)
            del breaker
            time.sleep(_PAUSE)
            self._wake.wait(self._refresh)

    def _exchange(self, breaker: CircuitBreaker) -> None:
        mine = self._look(breaker)
        self._asked_at = time.monotonic()
        try:
            shared, enough = self._teller.exchange(mine)
        except Exception as exc:
            self._lost(repr(exc))
            return
        finally:
            self._asked_at = None
        self._shared, self._read_at = shared, time.monotonic()
        if not self._answers:
            self._answers = True
            events.logger.info("shared state of %s is reached again", breaker.label)
        self._follow(breaker, mine, Move.OPEN if enough else move(mine, shared), shared, told=not enough)

    def _lost(self, problem: str) -> None:
        """Tell once that the storage is out of reach."""
        breaker = self._breaker()
        if self._answers and breaker is not None:
            self._answers = False
            events.emit("warning", breaker.label, problem="shared state is out of reach", error=problem)

    def _look(self, breaker: CircuitBreaker) -> Mine:
        with breaker.lock:
            machine, counts = breaker.machine, breaker.counts
            generation = sum(counts.transitions.values())
            state = _NAMES[machine.state]
            if state != CLOSED and self._opened[0] != generation:
                since = timedelta(seconds=max(0.0, self._clock() - machine.opened_at))
                self._opened = (generation, datetime.now(UTC) - since)
            return Mine(
                generation,
                state,
                None if state == CLOSED else self._opened[1],
                machine.failures,
                sum(counts.failures.values()),
                counts.successes,
                machine.rules.fail_max,
                breaker.mode is Mode.AUTOMATIC,
            )

    def _follow(self, breaker: CircuitBreaker, mine: Mine, todo: Move, shared: Shared, *, told: bool) -> None:
        """Do as the others did, unless something has happened here since we looked."""
        if todo is Move.TELL_AGAIN:
            self._teller.forget()
        if todo in (Move.NOTHING, Move.TELL_AGAIN):
            return
        with breaker.lock:
            transitions = breaker.counts.transitions
            if breaker.mode is not Mode.AUTOMATIC or sum(transitions.values()) != mine.generation:
                return
            before = breaker.machine.state
            self._move(breaker, todo, shared if told else Shared(CLOSED, None))
            change = breaker.changed_from(before)
            generation = sum(transitions.values())
            if told:
                self._opened = (generation, shared.opened_at)
                self._teller.agreed(generation)
        if change is not None:
            breaker.tell_change(*change)

    def _move(self, breaker: CircuitBreaker, todo: Move, shared: Shared) -> None:
        machine, now = breaker.machine, self._clock()
        if todo is Move.CLOSE:
            machine.close()
            return
        machine.open(now - shared.open_for(datetime.now(UTC)), "shared")
        if todo is Move.PROBE:
            machine.opened_at -= machine.open_until - now  # the break is over: the next call is a probe
            machine.settle()


def share(
    breaker: CircuitBreaker,
    storage: Storage | Callable[[], Storage],
    *,
    refresh: float = 1.0,
    patience: float = 5.0,
) -> SharedBreaker:
    """Share the state of ``breaker`` through a storage of pybreaker's, with every breaker that has the same one.

    ``storage``: the object, or a function that makes it (`pybreaker.CircuitRedisStorage` asks Redis when it is made,
    and raises where that is away; a function is called in the background, again and again until it succeeds).
    ``refresh``: seconds between two looks at it (> 0). ``patience``: seconds after which one that does not answer is
    warned of (> 0).

    Call it where the breaker's calls will be made, or outside any event loop. It is shared until `SharedBreaker.close`,
    or until the breaker is gone. Raises `ConfigurationError` for values out of range.
    """
    checked_time("share", "refresh", refresh)
    checked_time("share", "patience", patience)
    loop = asyncio._get_running_loop()
    clock = time.monotonic if loop is None else loop.time
    make = (lambda: storage) if isinstance(storage, Storage) else storage
    return SharedBreaker(breaker, make, refresh, patience, clock)
