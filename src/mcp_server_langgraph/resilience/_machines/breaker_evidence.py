"""What the calls of one closed period have shown, where rates are measured: those that ended, and those still running.

A call that still runs and is already slow counts as slow, as long as it runs; when it ends it is counted in the window
and no longer here. Else a dependency that hangs would look well until the first timeouts (resilience4j #1597; go-zero
#5011).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile
from typing import NamedTuple

from .breaker_rules import BreakerRules
from .breaker_state import Admission

__all__ = ["Evidence", "Measured"]


class Measured(NamedTuple):
    """Calls in the window, the share of them that failed, and of slow ones, those that are slow and still run included.
    0 where there is none.
    """

    calls: int
    failure_rate: float
    slow_rate: float


class Evidence:
    """A window of what ended, and the timed calls in flight, oldest first."""

    __slots__ = ("overdue", "rules", "running", "window")

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.window = rules.new_window()
        # Not a dict: finding the first of one is slow after many were taken from its front.
        self.running: OrderedDict[Admission, None] = OrderedDict()
        self.overdue: set[Admission] = set()

    def change(self, rules: BreakerRules) -> None:
        """Take over changed rules. The window stays where its size did; calls in flight stay in any case."""
        if not rules.same_window(self.rules):
            self.window = rules.new_window()
        self.rules = rules
        timed = sorted([*self.overdue, *self.running], key=lambda admission: admission.since)
        self.overdue.clear()
        self.running = OrderedDict.fromkeys(timed)

    def began(self, admission: Admission) -> None:
        """A timed call begins."""
        self.running[admission] = None

    def left(self, admission: Admission) -> None:
        """It is no longer in flight, or its time no longer matters."""
        if admission in self.running:
            del self.running[admission]
        else:
            self.overdue.discard(admission)

    def ended(self, admission: Admission, now: float, failed: bool) -> str | None:
        """It ended and says something; failures can be slow too. Gives which rate is too high now, None for none."""
        slow = False
        if admission.period is not None:
            self.left(admission)
            slow = now - admission.since >= self.rules.slow_after
        window, rules = self.window, self.rules
        window.record(now, failed, slow)
        if window.calls >= rules.enough_calls and window.failures / window.calls >= rules.failure_limit:
            return "failure_rate"
        return self.too_slow(now) if rules.timed else None

    def forget_running(self) -> None:
        """The period is over: whoever is in flight has no say."""
        self.running.clear()
        self.overdue.clear()

    def too_slow(self, now: float) -> str | None:
        """The same for the slow ones alone, whose rate grows while nothing ends."""
        rate = self.rules.slow_rate
        if rate is None:
            return None
        if self.running and now - next(iter(self.running)).since >= self.rules.slow_after:
            self._find_overdue(now)
        window, overdue = self.window, len(self.overdue)
        window.advance(now)
        calls = window.calls + overdue
        if calls < self.rules.enough_calls or (window.slow + overdue) / calls < rate:
            return None
        return "slow_rate"

    def _find_overdue(self, now: float) -> None:
        running = self.running
        while running:
            oldest = next(iter(running))
            if now - oldest.since < self.rules.slow_after:
                return
            del running[oldest]
            self.overdue.add(oldest)

    def measured(self, now: float) -> Measured:
        """The rates now, whenever the last call was. Changes nothing."""
        calls, failures, slow = self.window.seen(now)
        still = len(self.overdue) + self._late(now)
        failure_rate = failures / calls if calls else 0.0
        return Measured(calls, failure_rate, (slow + still) / (calls + still) if calls + still else 0.0)

    def _late(self, now: float) -> int:
        """How many of those that run have become slow since a call began or ended."""
        known = (admission.since for admission in self.running)
        return sum(1 for _ in takewhile(lambda since: now - since >= self.rules.slow_after, known))
