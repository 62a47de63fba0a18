"""A naive breaker: a list of what happened, from which everything is counted anew whenever it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules

__all__ = ["Call", "Model"]

CHANCE = 0.25


@dataclass(eq=False)
class Call:
    """A call that was let in: in which period, when, and until when its lease lasts if it is a probe."""

    period: int
    began: float
    until: float | None
    timed: bool
    answered: bool = False
    evicted: bool = False
    result: str | None = None  # good, bad, void
    ended: float = math.nan

    def is_slow(self, rules: BreakerRules, now: float) -> bool:
        return self.timed and not self.answered and now - self.began >= rules.slow_after


@dataclass
class Period:
    """The breaker in one state."""

    state: str
    began: float
    because: str | None = None
    ramped: bool = False
    by_hand: bool = False
    told_until: float | None = None  # where it is due to the word of others
    row: int = 0  # breaks before this one, without a quiet time between them


@dataclass
class Model:
    """The breaker. Each period has a number; a call counts only in its own."""

    rules: BreakerRules
    periods: list[Period] = field(default_factory=lambda: [Period("closed", -math.inf, by_hand=True)])
    calls: list[Call] = field(default_factory=list)
    endings: list[tuple[Call, float, bool]] = field(
        default_factory=list
    )  # with the time, and whether it was slow
    window_from: int = 0  # the first of the endings that is in the window
    tries: list[tuple[int, float]] = field(default_factory=list)  # of calls in a closed period
    asked: list[tuple[int, float]] = field(
        default_factory=list
    )  # to be left alone until then, told in which period
    seen: set[tuple[str, str]] = field(default_factory=set)

    @property
    def number(self) -> int:
        return len(self.periods) - 1

    @property
    def period(self) -> Period:
        return self.periods[-1]

    @property
    def state(self) -> str:
        return self.period.state

    def go(self, state: str, now: float, **details: Any) -> None:
        self.seen.add((self.state, state))
        self.periods.append(Period(state, now, **details))

    # What the list says

    def own(self) -> list[Call]:
        """The calls of this period."""
        return [call for call in self.calls if call.period == self.number]

    def probes(self) -> list[Call]:
        return [call for call in self.own() if call.until and not call.result and not call.evicted]

    def failures(self) -> int:
        """In a row, of the newest closed period."""
        closed = max(number for number, period in enumerate(self.periods) if period.state == "closed")
        results = [call.result for call, _, _ in self.endings if call.period == closed]
        return next((n for n, result in enumerate(reversed(results)) if result == "good"), len(results))

    def good_probes(self) -> int:
        return sum(call.result == "good" and not call.evicted for call in self.own())

    def measured(self, now: float) -> list[tuple[Call, bool]]:
        """The calls in the window, and whether each was slow."""
        ended = [each for each in self.endings[self.window_from :] if each[0].period == self.number]
        seconds = self.rules.window_seconds
        if seconds is None:
            ended = ended[-self.rules.window :]
        else:
            tenth = seconds / 10
            newest = max([now, *(when for _, when, _ in ended)]) // tenth
            ended = [each for each in ended if newest - each[1] // tenth < 10]
        return [(call, slow) for call, _, slow in ended]

    def in_flight(self) -> list[Call]:
        """The calls whose time matters and is not up."""
        return [call for call in self.own() if call.timed and not call.answered and not call.result]

    def overdue(self, now: float) -> int:
        return sum(not call.result and call.is_slow(self.rules, now) for call in self.own())

    def too_high(self, now: float, *, only_slow: bool = False) -> str | None:
        rules, measured, overdue = self.rules, self.measured(now), self.overdue(now)
        least = rules.minimum_calls if rules.window_seconds else min(rules.minimum_calls, rules.window)
        failed = sum(call.result == "bad" for call, _ in measured)
        slow = sum(slow for _, slow in measured)
        if (
            len(measured) >= least
            and not only_slow
            and failed / len(measured) >= (rules.failure_rate or math.inf)
        ):
            return "failure_rate"
        both = len(measured) + overdue
        if both >= least and (slow + overdue) / both >= (rules.slow_rate or math.inf):
            return "slow_rate"
        return None

    def open_until(self) -> float:
        began = max((number for number, p in enumerate(self.periods) if p.state == "closed"), default=0)
        asked = [until for number, until in self.asked if number >= began]
        row = self.period.row
        end = self.period.began + self.rules.break_for(row, CHANCE * (row > 0))
        return max([end if self.period.told_until is None else self.period.told_until, *asked])

    def ramp_lets_in(self, now: float) -> bool:
        """Replays every try of this period. The last one is the call that comes now."""
        credit, let_in = Fraction(7, 8), True
        for number, when in self.tries:
            if number == self.number:
                credit += max(Fraction(1, 8), Fraction(when - self.period.began) / Fraction(self.rules.ramp))
                let_in = credit >= 1
                credit -= let_in
        return let_in

    # What happens

    def admit(self, now: float) -> Call | None:
        if self.state == "closed":
            return self.admit_closed(now)
        if self.state == "open":
            if now < self.open_until():
                return None
            self.go("half_open", now)
        if len(self.probes()) == self.rules.half_open_max:
            for probe in self.probes():
                probe.evicted = probe.until is not None and probe.until <= now
        if len(self.probes()) == self.rules.half_open_max:
            return None
        return self.let_in(now, until=now + self.rules.lease)

    def admit_closed(self, now: float) -> Call | None:
        period = self.period
        if period.ramped and now - period.began >= self.rules.ramp:
            period.ramped = False
        because = self.too_high(now, only_slow=True)
        if because:
            self.open(now, because)
            return None
        if period.ramped:
            self.tries.append((self.number, now))
            if not self.ramp_lets_in(now):
                return None
        return self.let_in(now)

    def let_in(self, now: float, until: float | None = None) -> Call:
        timed = until is not None or self.rules.slow_rate is not None
        self.calls.append(Call(self.number, now, until, timed))
        return self.calls[-1]

    def end(self, call: Call, result: str, now: float, retry_after: float | None = None) -> None:
        counts = call.period == self.number and not call.evicted
        call.result, call.ended = result, now
        if not counts or result == "void":
            return
        if result == "bad" and retry_after is not None:
            self.asked.append((self.number, now + min(retry_after, max(300.0, self.rules.timeout_max))))
        slow = call.is_slow(self.rules, now)
        if self.state == "half_open":
            if result == "bad":
                self.open(now, "probe_failed")
            elif slow and self.rules.slow_rate is not None:
                self.open(now, "probe_slow")
            elif self.good_probes() == self.rules.success_threshold:
                self.go("closed", now, ramped=self.rules.ramp > 0)
            return
        self.endings.append((call, now, slow))
        if result == "bad" and 0 < self.rules.fail_max <= self.failures():
            self.open(now, "fail_max")
        elif because := self.too_high(now):
            self.open(now, because)

    def open(self, now: float, because: str) -> None:
        last = next((period.row for period in reversed(self.periods) if period.state == "open"), 0)
        quiet = max(self.rules.timeout, self.rules.ramp)
        at_once = self.state == "half_open" or (not self.period.by_hand and now - self.period.began < quiet)
        self.go("open", now, because=because, row=last + 1 if at_once else 0)

    def told(self, now: float, seconds: float) -> bool:
        """Others find it down, for so long."""
        opens = self.state == "closed" and seconds > 0
        if opens:
            self.open(now, "quorum")
        if self.state == "open" and self.period.because == "quorum":
            self.period.told_until = now + min(seconds, max(300.0, self.rules.timeout_max))
        return opens

    def close_by_hand(self, now: float) -> None:
        self.go("closed", now, by_hand=True)

    def change(self, rules: BreakerRules) -> None:
        if rules.window_seconds != self.rules.window_seconds or (
            rules.window_seconds is None and rules.window != self.rules.window
        ):
            self.window_from = len(self.endings)
        if rules.ramp == 0:
            self.period.ramped = False
        self.rules = rules
