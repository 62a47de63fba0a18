"""A breaker that is shared: ``[which opening, seconds left of it, whether its calls succeed]``.

Only an opening by its own evidence is a vote: what it was told, or what an operator chose, is none. Read five times a
second, under the breaker's lock; its calls notice nothing.
"""

from __future__ import annotations

import math
from typing import Final

from ..._machines.breaker import TOLD
from ..._machines.breaker_state import Admission, Mode, State
from ..._machines.quorum import Quorum
from ...circuit_breaker import CircuitBreaker
from .codec import Fact
from .shares import Share

__all__ = ["BreakerShare"]

# Reasons of its own to open; all others are somebody's word.
OWN: Final = ("fail_max", "failure_rate", "slow_rate", "probe_failed", "probe_slow")
# Seconds for which a success says that the dependency is well.
FRESH: Final = 10.0


class BreakerShare(Share):
    """One breaker, and the quorum of the others."""

    def __init__(self, breaker: CircuitBreaker, quorum: Quorum) -> None:
        self.openings = 0  # by the word of others
        self._breaker = breaker
        self._quorum = quorum
        self._closed: Admission | None = breaker.machine.closed
        self._opened_at = -math.inf
        self._generation = 0
        self._successes: int = breaker.counts.successes
        self._succeeded_at = -math.inf
        self._healthy = False

    def look(self, now: float) -> Fact | None:
        with self._breaker.lock:
            self._notice(now)
            left = self._vote(now)
        if left > 0:
            return (float(self._generation), left, 0.0)
        return (0.0, 0.0, 1.0) if self._healthy else None

    def _notice(self, now: float) -> None:
        machine, successes = self._breaker.machine, self._breaker.counts.successes
        if machine.closed is not None and machine.closed is not self._closed:
            self._closed = machine.closed
            self._quorum.answer()
        if successes != self._successes:
            self._successes, self._succeeded_at = successes, now
        lately = now - self._succeeded_at <= FRESH
        self._healthy = lately and machine.state is State.CLOSED and not machine.failures

    def _vote(self, now: float) -> float:
        breaker, machine = self._breaker, self._breaker.machine
        if (
            breaker.mode is not Mode.AUTOMATIC
            or machine.state is not State.OPEN
            or machine.because not in OWN
        ):
            return 0.0
        if machine.opened_at != self._opened_at:
            self._opened_at = machine.opened_at
            self._generation += 1
        return machine.open_until - now

    def heard(self, replica: str, fact: Fact, fresh: bool, now: float) -> None:
        if not fresh:
            return
        if len(fact) != 3:
            self._quorum.has_no_opinion(replica)
        elif fact[0] >= 1:
            self._quorum.votes(replica, int(fact[0]), fact[1], now)
        elif fact[2]:
            self._quorum.finds_healthy(replica, now)

    def act(self, now: float, *, connected: bool) -> None:
        left = self._quorum.left(now, healthy=self._healthy)
        machine = self._breaker.machine
        # Nothing to take back where the break is over: a probe is due.
        if left > 0 or (machine.because == TOLD and machine.refuses_for(now)):
            self.openings += self._breaker.learn_open(left)

    def gone(self, replica: str) -> None:
        self._quorum.gone(replica)

    def end(self) -> None:
        self._breaker.learn_open(0)
