"""Budget: one limit for all the calls that are made twice, retries and hedges alike.

A retry helps when few calls fail and harms when all do: three attempts are three times the load on a dependency that
is failing under its load. A limit per call does not see that; a budget does. Retries and hedges together stay below a
share of the traffic (20 %), whatever fails, or below a small floor for who has little traffic.

Where it comes from: Finagle, Envoy, linkerd and failsafe-go have one, Polly and resilience4j do not. The machine, and
what exactly is counted, is in `_machines.budget`.

Events: ``budget_refused`` (by whoever asked). Metrics: ``retry_budget_balance``, ``retry_budget_refused_total``.
"""

from __future__ import annotations

import inspect
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import config
from ._checks import checked
from ._machines.budget import RESERVE, Allowance
from .deadline import now as current_time
from .metrics import Sample

if TYPE_CHECKING:
    from .policy import Site

__all__ = ["RESERVE", "Budget", "BudgetSnapshot", "forget", "shared"]

Count = Callable[[], int]


@dataclass(frozen=True, slots=True)
class BudgetSnapshot:
    """A budget at one moment. ``balance``: retries and hedges that could begin now; infinity: any number."""

    ratio: float
    per_second: float
    balance: float
    spent: int
    refused: int


class Budget:
    """At most a share of the traffic, and a small floor, for retries and hedges together.

    ``ratio``: what share of the first attempts of the last ``window`` seconds they stay below (>= 0, default 0.2;
    infinity: no limit). ``per_second``: the floor, for who has little traffic (>= 0, default 1.0; 0: none): so many a
    second, of which `RESERVE` (3) may be saved up, and are there at the start: the default two retries of a first
    call can be made. The larger of the two counts. ``name`` is the metrics' ``service``; None: the first pipeline's.

    One budget may be given to several policies and pipelines: share it where they ask the same dependency. Safe from
    several threads. None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    def __init__(
        self,
        ratio: float | None = None,
        *,
        per_second: float | None = None,
        window: float = 10.0,
        name: str | None = None,
    ) -> None:
        _check(ratio, per_second, window)
        self.name = name
        self._named = name is not None
        self.window = window
        self.spent = 0
        self.refused = 0
        self.arrived = 0
        self._explicit = (ratio, per_second)
        self._allowance = Allowance(0.0, 0.0, window, current_time())
        self._sources: list[_Source] = []
        self._watched: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = threading.Lock()  # taken where a retry or a hedge is wanted, never where a call succeeds
        self.apply(config.current(), name or "")

    @classmethod
    def unlimited(cls) -> Budget:
        """A budget that refuses nothing: the off switch. The setting of one service (``<SERVICE>_RETRY_BUDGET_RATIO``)
        still wins over it.
        """
        return cls(math.inf)

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; what was spent stays spent."""
        ratio, per_second = self._explicit
        service = self.name or service
        self._allowance.ratio = settings.choose(service, "RETRY_BUDGET_RATIO", ratio)
        self._allowance.per_second = settings.choose(service, "RETRY_BUDGET_PER_SECOND", per_second)

    @property
    def ratio(self) -> float:
        """The share of the traffic, as in force."""
        return self._allowance.ratio

    @property
    def per_second(self) -> float:
        """The floor, as in force."""
        return self._allowance.per_second

    def watch(self, count: Count, of: object = None) -> None:
        """Take ``count()`` (first attempts so far) for traffic, from now on.

        It is read only when a retry or a hedge is wanted. A bound method is held weakly: its object may go. ``of`` says
        whose calls are counted (a policy's site): of several counters of the same calls only the first is read, so
        retry and hedge of one pipeline do not count them twice; it is held weakly too.
        """
        with self._lock:
            if of is None or of not in self._watched:
                self._sources.append(_Source(count))
            if of is not None:
                self._watched.add(of)

    def join(self, site: Site, count: Count) -> None:
        """Serve a policy at ``site`` too, and watch ``count``, its calls.

        Without a name of its own the budget takes the first pipeline's (in a stack of decorators: the last one's).
        """
        self.name = site.named(self.name, given=self._named)
        self.watch(count, site)

    def spend(self, now: float) -> bool:
        """Take one retry or hedge that would begin at ``now`` (the clock of the call). False: refused, and counted."""
        if self._allowance.ratio == math.inf:
            self.spent += 1
            return True
        with self._lock:
            granted = self._allowance.take(now, self._arrived())
            self.spent += granted
            self.refused += not granted
        return granted

    def _arrived(self) -> int:
        """First attempts since the last look; forgets counters whose owner is gone."""
        arrived = 0
        gone = False
        for source in self._sources:
            new = source.read()
            arrived += new or 0
            gone = gone or new is None
        if gone:
            self._sources = [source for source in self._sources if source.count() is not None]
        self.arrived += arrived
        return arrived

    def tally(self) -> tuple[int, int]:
        """First attempts so far, and retries and hedges spent."""
        with self._lock:
            self._allowance.look(current_time(), self._arrived())
            return self.arrived, self.spent

    def note_foreign(self, arrived: int, spent: int) -> None:
        """Others who share it made so many first attempts since the last time, and spent so many."""
        with self._lock:
            self._allowance.told(current_time(), arrived, spent)

    def share_floor(self, sharers: int) -> None:
        """Let that many (>= 1) have the floor together: each gets its part of it."""
        with self._lock:
            self._allowance.look(current_time(), self._arrived())
            self._allowance.sharers = sharers

    def snapshot(self) -> BudgetSnapshot:
        """The budget now."""
        return BudgetSnapshot(self.ratio, self.per_second, self._balance(), self.spent, self.refused)

    def _balance(self) -> float:
        if self.ratio == math.inf:
            return math.inf
        with self._lock:
            return self._allowance.balance(current_time(), self._arrived())

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        label = (self.name or "unnamed",)
        yield Sample("retry_budget_balance", label, self._balance())
        yield Sample("retry_budget_refused_total", label, self.refused)

    def __repr__(self) -> str:
        return f"Budget(ratio={self.ratio!r}, per_second={self.per_second!r})"


class _Source:
    """A counter, and how far it was read."""

    __slots__ = ("count", "seen")

    def __init__(self, count: Count) -> None:
        self.count: Callable[[], Count | None]
        if inspect.ismethod(count):
            self.count = weakref.WeakMethod(count)
        else:
            self.count = lambda: count
        self.seen = count()

    def read(self) -> int | None:
        """What is new; None where the counter is gone."""
        count = self.count()
        if count is None:
            return None
        seen, self.seen = self.seen, count()
        return max(0, self.seen - seen)


def _check(ratio: float | None, per_second: float | None, window: float) -> None:
    checked("Budget", "ratio", ratio, "at least 0", ok=ratio is None or ratio >= 0)
    finite = per_second is None or 0 <= per_second < math.inf
    checked("Budget", "per_second", per_second, "at least 0, and finite", ok=finite)
    checked("Budget", "window", window, "a number of seconds above 0", ok=0 < window < math.inf)


_shared: Final[weakref.WeakValueDictionary[str, Budget]] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared(name: str) -> Budget:
    """The one budget of that name, with the settings of that service; it lives as long as somebody holds it."""
    with _shared_lock:
        budget = _shared.get(name)
        if budget is None:
            budget = _shared[name] = Budget(name=name)
        return budget


def forget() -> None:
    """Forget the budgets made by name (for tests)."""
    _shared.clear()
