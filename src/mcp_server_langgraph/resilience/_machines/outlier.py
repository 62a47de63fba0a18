"""Who of a set of endpoints is in rotation: outlier ejection as a machine; ``now`` and chance are arguments.

            consecutive failures, or an outlier of its interval, and the share allows it
    ┌─────────────┐ ──────────────────────────────────────────────▶ ┌─────────┐
    │ IN ROTATION │                                                 │ EJECTED │
    └─────────────┘ ◀────────────────────────────────────────────── └─────────┘
            base_ejection times the number of ejections has passed

Two kinds of look. At every failure: that many in a row eject at once. At the end of every interval the endpoints are
compared: by the rate of successes (those below the mean by ``stdev_factor`` standard deviations) and by the share of
failures. Only those that were asked often enough take part, and only where enough of them take part. The success rate
must also be ``success_rate_gap`` below the mean, which Envoy lacks: where nine never failed, one failure in a hundred
is three standard deviations away.

Never more than ``max_share`` are ejected, rounded down, but at least one (none where it is 0), and never all. *Panic*:
where more than ``panic_share`` are out (ejected or known to be unhealthy), or all of them, every endpoint is used:
judging has failed, and what is left would be crushed.

A call's right is its `Turn`, one object for each period of an endpoint; every ejection, return or word of a health
check begins a new one, and results of an earlier period change nothing. Intervals are looked at when something
happens, not by a timer; those in which nothing happened only shorten the next ejection.

Sources: Envoy's outlier detection and panic threshold, gRPC A50; Finagle's "all dead: use anyway".
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from ..errors import ConfigurationError
from .endpoint import Endpoint, Turn
from .endpoint_choice import Choice, choice_of, chosen, without
from .outlier_rules import OutlierRules

TRANSITIONS: Final = (
    ("in_rotation", "ejected", "consecutive_failures in a row"),
    ("in_rotation", "ejected", "an outlier of its interval"),
    ("ejected", "in_rotation", "base_ejection times the number of ejections has passed"),
)

_LONGEST_STORY: Final = 64


class Change(NamedTuple):
    """Something that callers may want to hear of: ``ejected`` (with its cause), ``returned``, ``panic``, ``calm``."""

    kind: str
    endpoint: str
    cause: str
    seconds: float


class Endpoints:
    """A set of endpoints by name, and who of them is in rotation.

    ``pick`` gives a `Turn`, which exactly one of ``succeeded``, ``failed`` and ``abandoned`` ends. Safe from several
    threads; picking and succeeding take no lock until an interval or an ejection ends. Raises `ConfigurationError`
    without a name, for one that is given twice, and by `OutlierRules`.
    """

    def __init__(
        self,
        names: Iterable[str],
        rules: OutlierRules | None = None,
        *,
        pick: Choice | str = Choice.POWER_OF_TWO,
    ) -> None:
        self.rules = rules or OutlierRules()
        self.choice = choice_of(pick)
        self.panic = False
        # What has happened and nobody took notice of yet; an `Outlier` tells its listeners.
        self.changes: deque[Change] = deque(maxlen=_LONGEST_STORY)
        self.rotation: tuple[Endpoint, ...] = ()
        self._all: dict[str, Endpoint] = {name: Endpoint(name) for name in _checked(names)}
        self._since = math.inf  # when the present interval began: with the first call
        self._due = -math.inf
        self._turns = itertools.count()
        self._lock = threading.RLock()
        self._turn_rotation()

    @property
    def all(self) -> tuple[Endpoint, ...]:
        """Every endpoint, in rotation or not, in the order given."""
        return tuple(self._all.values())

    def pick(self, now: float, chance: float = 0.5, avoid: Collection[str] = ()) -> Turn:
        """Choose an endpoint for a call that begins now. ``chance`` is a random number from 0 up to 1, for the power
        of two choices. ``avoid``: names not to choose, the last of them least of all, where others are in rotation.
        """
        if now >= self._due:
            self._look(now)
        candidates = self.rotation
        if avoid:
            candidates = without(candidates, avoid)
        turn = chosen(self.choice, candidates, chance, self._turns).turn
        turn.endpoint.calls.append(None)
        return turn

    def succeeded(self, turn: Turn, now: float) -> None:
        """The call had an answer."""
        endpoint = turn.endpoint
        endpoint.calls.pop()
        if now >= self._due:
            self._look(now)
        if turn is endpoint.turn:
            endpoint.failures = 0
            endpoint.good += 1

    def failed(self, turn: Turn, now: float) -> None:
        """The endpoint failed."""
        endpoint = turn.endpoint
        endpoint.calls.pop()
        with self._lock:
            if now >= self._due:
                self._look(now)
            if turn is not endpoint.turn or endpoint.out:
                return
            endpoint.failures += 1
            endpoint.bad += 1
            if endpoint.failures >= self.rules.consecutive_failures:
                self._eject(endpoint, "consecutive_failures", now)

    def abandoned(self, turn: Turn) -> None:
        """The call ended without saying anything about the endpoint."""
        turn.endpoint.calls.pop()

    def set_healthy(self, name: str, healthy: bool) -> None:
        """What a health check of your own says. Unhealthy ones are out of rotation without regard to ``max_share``, and
        count for the panic. Raises KeyError for an unknown name.
        """
        with self._lock:
            endpoint = self._all[name]
            if endpoint.healthy is not healthy:
                endpoint.healthy = healthy
                endpoint.new_period()
                self._turn_rotation()

    def update(self, names: Iterable[str]) -> None:
        """Replace the set. Those that stay keep their state; where more are ejected than may be, those whose time ends
        first return. Raises `ConfigurationError` as the constructor does.
        """
        with self._lock:
            self._all = {name: self._all.get(name) or Endpoint(name) for name in _checked(names)}
            self._return_surplus()

    def change(self, rules: OutlierRules) -> None:
        """Use other rules from now on."""
        with self._lock:
            self.rules = rules
            self._return_surplus()

    def allowed(self) -> int:
        """How many may be ejected at once."""
        count = len(self._all)
        if not self.rules.max_share:
            return 0
        return min(max(1, math.floor(count * self.rules.max_share + 1e-9)), count - 1)

    def ejected(self) -> list[Endpoint]:
        """Those that are ejected, the first to return first."""
        found = [(each.ejected_until, each) for each in self._all.values()]
        ejected = [(until, each) for until, each in found if until is not None]
        return [each for _, each in sorted(ejected, key=lambda item: item[0])]

    # What time brings

    def _look(self, now: float) -> None:
        """End the ejections and the interval that are over."""
        with self._lock:
            if now < self._due:
                return
            for endpoint in self.ejected():
                if endpoint.ejected_until is not None and endpoint.ejected_until <= now:
                    self._return(endpoint)
            passed = (now - self._since) / self.rules.interval
            if passed >= 1:
                self._compare(now)
                self._end_interval(now)
            if passed >= 1 or self._since == math.inf:
                self._since = now
            self._turn_rotation()

    def _end_interval(self, now: float) -> None:
        """Count from zero; who stayed in rotation is ejected for a shorter time if it must be again."""
        for endpoint in self._all.values():
            endpoint.new_interval()
            if endpoint.ejected_until is None:
                stayed = (now - max(self._since, endpoint.returned_at)) / self.rules.interval
                endpoint.multiplier = max(0, endpoint.multiplier - int(stayed))

    def _compare(self, now: float) -> None:
        """Eject the outliers of the interval that ends, those that stand out most first."""
        rules = self.rules
        if rules.stdev_factor is not None:
            rates = self._rates(rules.min_requests)
            if len(rates) >= rules.min_endpoints:
                mean = math.fsum(rates.values()) / len(rates)
                spread = math.sqrt(math.fsum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
                least = mean - max(rules.stdev_factor * spread, rules.success_rate_gap)
                self._eject_worst(
                    {each: rate for each, rate in rates.items() if rate < least}, "success_rate", now
                )
        if rules.failure_share is not None:
            rates = self._rates(rules.failure_min_requests)
            if len(rates) >= rules.min_endpoints:
                most = 1 - rules.failure_share
                self._eject_worst(
                    {each: rate for each, rate in rates.items() if rate <= most}, "failure_share", now
                )

    def _rates(self, least: int) -> dict[Endpoint, float]:
        """The share of successes of those in rotation that were asked often enough."""
        asked = [each for each in self._all.values() if not each.out and each.good + each.bad >= least]
        return {each: each.good / (each.good + each.bad) for each in asked}

    def _eject_worst(self, rates: dict[Endpoint, float], cause: str, now: float) -> None:
        for endpoint in sorted(rates, key=rates.__getitem__):
            self._eject(endpoint, cause, now)

    # Transitions

    def _eject(self, endpoint: Endpoint, cause: str, now: float) -> None:
        if self._all.get(endpoint.name) is not endpoint or len(self.ejected()) >= self.allowed():
            return
        endpoint.multiplier += 1
        seconds = min(self.rules.base_ejection * endpoint.multiplier, self.rules.max_ejection)
        endpoint.ejected_until = now + seconds
        endpoint.ejections[cause] = endpoint.ejections.get(cause, 0) + 1
        endpoint.new_period()
        self.changes.append(Change("ejected", endpoint.name, cause, seconds))
        self._turn_rotation()

    def _return(self, endpoint: Endpoint) -> None:
        endpoint.returned_at = endpoint.ejected_until or 0.0
        endpoint.ejected_until = None
        endpoint.new_period()
        self.changes.append(Change("returned", endpoint.name, "", 0.0))

    def _return_surplus(self) -> None:
        for endpoint in self.ejected()[: max(0, len(self.ejected()) - self.allowed())]:
            self._return(endpoint)
        self._turn_rotation()

    def _turn_rotation(self) -> None:
        """Who is in rotation from now on, and when to look again."""
        every = self.all
        left = tuple(each for each in every if not each.out)
        panic = not left or (len(every) - len(left)) / len(every) > self.rules.panic_share
        if panic is not self.panic:
            self.panic = panic
            self.changes.append(
                Change("panic" if panic else "calm", "", f"{len(left)} of {len(every)} left", 0.0)
            )
        self.rotation = every if panic else left
        ends = (each.ejected_until for each in self.ejected() if each.ejected_until is not None)
        began = -math.inf if self._since == math.inf else self._since
        self._due = min(began + self.rules.interval, *ends, math.inf)


def _checked(names: Iterable[str]) -> list[str]:
    known = list(names)
    if not known or len(set(known)) < len(known):
        raise ConfigurationError(f"Endpoints: {known!r}: at least one name, and none twice, is needed")
    return known
