"""Outlier ejection: a call goes to one of several equal endpoints; those that stand out as sick get none for a time.

A breaker answers "may I call it at all"; where several hosts, models or replicas can answer, the better question is
"whom". An endpoint is ejected after failures in a row, or where it is an outlier among its fellows; never more than a
share of them, and where too many are out all are used (see `_machines.outlier`, which has the rules). Inside a retry
or a hedge a call is not sent again to an endpoint that it has tried, where another is left.

Outcomes are those of the shared classifier; neutral ones count for nothing. A stream's is recorded at its end.

Source: Envoy's outlier detection and panic threshold, gRPC A50, Finagle's failure accrual; M. Mitzenmacher, "The Power
of Two Choices in Randomized Load Balancing" (2001), for how an endpoint is picked.

Events: ``ejected``, ``returned``, ``panic``, ``calm``. Metrics: ``outlier_*``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final

from . import config, events
from ._machines.outlier import Choice, Endpoint, Endpoints, OutlierRules, Turn, choice_of
from ._source import END, Source
from .errors import ConfigurationError
from .metrics import Sample
from .outcome import Outcome
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync, Site

__all__ = [
    "Choice",
    "EndpointSnapshot",
    "Endpoints",
    "Outlier",
    "OutlierRules",
    "OutlierSnapshot",
    "current_endpoint",
]

# Which rules an operator may change.
_VARIABLES: Final = {
    "consecutive_failures": "OUTLIER_CONSECUTIVE_FAILURES",
    "interval": "OUTLIER_INTERVAL",
    "base_ejection": "OUTLIER_BASE_EJECTION",
    "max_ejection": "OUTLIER_MAX_EJECTION",
    "max_share": "OUTLIER_MAX_SHARE",
    "panic_share": "OUTLIER_PANIC_SHARE",
}

_current: Final[ContextVar[str | None]] = ContextVar("resilience_endpoint", default=None)


def current_endpoint() -> str | None:
    """The endpoint that an `Outlier` picked for the call running now; None outside of one."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class EndpointSnapshot:
    """One endpoint at one moment. ``ejected_until``: on the clock of the loop, None where it is not ejected."""

    healthy: bool
    ejected_until: float | None
    ejections: dict[str, int]
    multiplier: int
    consecutive_failures: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class OutlierSnapshot:
    """The endpoints at one moment. ``rotation``: the names that calls go to now."""

    endpoints: Mapping[str, EndpointSnapshot]
    rotation: tuple[str, ...]
    panic: bool


class _Sent:
    """Where the attempts of one call went, in order. Its ``kwargs`` tell the call apart: each has its own."""

    __slots__ = ("at", "kwargs", "names", "running")

    def __init__(self, at: _OutlierAt, kwargs: dict[str, Any]) -> None:
        self.at = at
        self.kwargs = kwargs
        self.names: list[str] = []
        self.running = 0


# The call that failed last in this context: the next attempt may be its retry.
_failed_last: Final[ContextVar[_Sent | None]] = ContextVar("resilience_outlier_failed", default=None)


class Outlier(Policy):
    """Sends each call to one of ``endpoints`` (an `Endpoints`, or names) that is in rotation.

    ``pick``: round_robin, least_in_flight or power_of_two (default). ``argument``: the keyword argument in which the
    function is given the endpoint's name; None: it asks `current_endpoint`. ``rules``: when an endpoint is ejected
    (default: from the settings). ``chance``: random numbers from 0 up to 1. ``name``: the metrics' ``service`` label
    (default: the first pipeline's name).

    ``pick`` and ``rules`` are for names; an `Endpoints` of yours has its own, which the settings overrule all the same
    where an operator set a service's own. Raises `ConfigurationError` for names or rules that cannot be right.
    """

    kind: ClassVar[str] = "outlier"

    def __init__(
        self,
        endpoints: Endpoints | Iterable[str],
        *,
        pick: Choice | str | None = None,
        argument: str | None = None,
        rules: OutlierRules | None = None,
        chance: Callable[[], float] = random.random,
        name: str | None = None,
    ) -> None:
        ours = isinstance(endpoints, Endpoints)
        if ours and rules is not None:
            raise ConfigurationError("Outlier: rules= is for names; an Endpoints has rules of its own")
        self.endpoints = endpoints if isinstance(endpoints, Endpoints) else Endpoints(endpoints, rules)
        if pick is not None:
            self.endpoints.choice = choice_of(pick)
        self.name = name
        self.argument = argument
        self.chance = chance
        self._explicit = self.endpoints.rules if ours else rules
        self.counts = _OutlierMeter(self)
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; who is ejected stays so, as far as the share allows."""
        explicit = self._explicit
        chosen = {
            rule: settings.choose(service, variable, None if explicit is None else getattr(explicit, rule))
            for rule, variable in _VARIABLES.items()
        }
        self.endpoints.change(replace(explicit or OutlierRules(), **chosen))

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        rules = self.endpoints.rules
        shown = {rule.name: getattr(rules, rule.name) for rule in fields(rules) if rule.name in _VARIABLES}
        names = [endpoint.name for endpoint in self.endpoints.all]
        return {"endpoints": names, "pick": self.endpoints.choice.value, **shown}

    def snapshot(self) -> OutlierSnapshot:
        """The endpoints now, as the last call left them."""
        known = {endpoint.name: _shown(endpoint) for endpoint in self.endpoints.all}
        rotation = tuple(endpoint.name for endpoint in self.endpoints.rotation)
        return OutlierSnapshot(known, rotation, self.endpoints.panic)

    def bind(self, site: Site) -> Policy:
        """The endpoints at one pipeline; their state is shared by all pipelines."""
        if self.name is None:
            self.name = site.name
            self.apply(config.current(), self.name)
        return _OutlierAt(self, site)

    def tell(self) -> None:
        """Tell listeners and log of what happened."""
        while self.endpoints.changes:
            change = self.endpoints.changes.popleft()
            if change.endpoint:
                details = {"cause": change.cause, "seconds": change.seconds} if change.cause else {}
                events.emit(change.kind, self.label, endpoint=change.endpoint, **details)
            else:
                events.emit(change.kind, self.label, cause=change.cause)


class _OutlierAt(Policy):
    kind = Outlier.kind

    def __init__(self, policy: Outlier, site: Site) -> None:
        self.policy = policy
        self.endpoints = policy.endpoints
        self.site = site
        self.meter = policy.counts
        self._running: dict[int, _Sent] = {}  # calls that have an attempt under way, for hedges

    def _begin(self, call: Call, now: float) -> tuple[Turn, Call]:
        policy, endpoints = self.policy, self.endpoints
        sent = self._running.get(id(call.kwargs)) or self._sent_before(call)
        turn = endpoints.pick(now, policy.chance(), sent.names)
        sent.names.append(turn.name)
        sent.running += 1
        self._running[id(call.kwargs)] = sent
        if endpoints.changes:
            policy.tell()
        if policy.argument is None:
            return turn, call
        kwargs = {**call.kwargs, policy.argument: turn.name}
        return turn, Call(call.fn, call.args, kwargs, call.site, call.attempt)

    def _sent_before(self, call: Call) -> _Sent:
        failed = _failed_last.get()
        if failed is not None and failed.kwargs is call.kwargs and failed.at is self:
            return failed
        return _Sent(self, call.kwargs)

    def _ended(self, call: Call) -> _Sent:
        sent = self._running[id(call.kwargs)]
        sent.running -= 1
        if not sent.running:
            del self._running[id(call.kwargs)]
        return sent

    def _succeeded(self, call: Call, turn: Turn, now: float) -> None:
        self._ended(call)
        self.endpoints.succeeded(turn, now)
        if self.endpoints.changes:
            self.policy.tell()

    def _failed(self, call: Call, turn: Turn, now: float, exc: BaseException) -> None:
        sent = self._ended(call)
        if isinstance(exc, Exception):
            _failed_last.set(sent)
        if self.site.verdict(exc).outcome is Outcome.FAILURE:
            self.endpoints.failed(turn, now)
        else:
            self.endpoints.abandoned(turn)
        if self.endpoints.changes:
            self.policy.tell()

    async def run(self, call: Call, proceed: Proceed) -> Any:
        clock = asyncio.get_running_loop().time
        turn, told = self._begin(call, clock())
        try:
            with _named(None if self.policy.argument else turn.name):
                result = await proceed(told)
        except BaseException as exc:
            self._failed(call, turn, clock(), exc)
            raise
        self._succeeded(call, turn, clock())
        return result

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        turn, told = self._begin(call, time.monotonic())
        try:
            with _named(None if self.policy.argument else turn.name):
                result = proceed(told)
        except BaseException as exc:
            self._failed(call, turn, time.monotonic(), exc)
            raise
        self._succeeded(call, turn, time.monotonic())
        return result

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        """The endpoint is named to the function step by step, and never to the consumer."""
        clock = asyncio.get_running_loop().time
        turn, told = self._begin(call, clock())
        name = None if self.policy.argument else turn.name
        source = Source()
        try:
            source = Source(proceed(told))
            with _named(name):
                item = await source.next()
            while item is not END:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    with _named(name):
                        item = await source.throw(thrown)
                else:
                    with _named(name):
                        item = await source.next(sent)
            await source.close()
        except BaseException as exc:
            try:
                with _named(name):
                    await source.close()
            finally:
                self._failed(call, turn, clock(), exc)
            raise
        self._succeeded(call, turn, clock())


@contextmanager
def _named(endpoint: str | None) -> Generator[None]:
    """Name the endpoint to what runs inside; None: it is told by an argument."""
    if endpoint is None:
        yield
        return
    token = _current.set(endpoint)
    try:
        yield
    finally:
        with suppress(
            ValueError
        ):  # an abandoned call is closed in a foreign context: nothing to set back there
            _current.reset(token)


class _OutlierMeter:
    def __init__(self, policy: Outlier) -> None:
        self.policy = policy

    def samples(self) -> Iterator[Sample]:
        service = self.policy.label
        for endpoint in self.policy.endpoints.all:
            out = endpoint.ejected_until is not None
            yield Sample("outlier_ejected", (service, endpoint.name), float(out))
            for cause, count in list(endpoint.ejections.items()):
                yield Sample("outlier_ejections_total", (service, endpoint.name, cause), count)
        yield Sample("outlier_panic", (service,), float(self.policy.endpoints.panic))


def _shown(endpoint: Endpoint) -> EndpointSnapshot:
    return EndpointSnapshot(
        healthy=endpoint.healthy,
        ejected_until=endpoint.ejected_until,
        ejections=dict(endpoint.ejections),
        multiplier=endpoint.multiplier,
        consecutive_failures=endpoint.failures,
        in_flight=len(endpoint.calls),
    )
