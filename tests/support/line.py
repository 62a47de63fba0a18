"""A gate with one ware a second, and those who stand in line before it."""

from __future__ import annotations

from collections.abc import Callable

from mcp_server_langgraph.resilience._machines.line import (
    Line,
    Sleeper,
)


class Shop:
    """A gate that has one ware more each second from 0 s on."""

    def __init__(self, sold: float = 0.0) -> None:
        self.sold = sold
        self.returned: list[tuple[float, int, float, float]] = []
        self.marks = 0
        self.on_take: Callable[[], object] | None = None

    def take(self, cost: float, now: float) -> int:
        if self.sold + cost > now:
            return 0
        self.sold += cost
        self.marks += 1
        if self.on_take is not None:
            self.on_take()
        return self.marks

    def delay(self, cost: float, now: float, ahead: float) -> float:
        return max(0.0, self.sold + ahead + cost - now)

    def give_back(self, cost: float, mark: int, since: float, now: float) -> None:
        self.sold -= cost
        self.returned.append((cost, mark, since, now))


class Noted(Sleeper):
    """Somebody who notes how often it was woken."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return self.there


def line_of(shop: Shop) -> Line[float]:
    return Line(shop, 0.0)


def stands(line: Line[float], cost: float, at: float, *, there: bool = True) -> Noted:
    sleeper = Noted(there=there)
    assert line.join(sleeper, cost, at, 100.0, 9) is None
    return sleeper
