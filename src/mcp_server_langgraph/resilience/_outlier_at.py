"""An `Outlier` at work in one pipeline: each attempt is sent to an endpoint that its call has not tried, if it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ._machines.endpoint import Turn
from ._past import REMEMBERED
from ._source import END, Source
from .metrics import Sample
from .outcome import Outcome
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync, Site

if TYPE_CHECKING:
    from .outlier import Outlier

# The name of the endpoint that the code running now was sent to.
CURRENT: Final[ContextVar[str | None]] = ContextVar("resilience_endpoint", default=None)


class _Sent:
    """Where the attempts of one call went, in order. Its ``kwargs`` tell the call apart, as each has its own; None when
    it is over.
    """

    __slots__ = ("at", "kwargs", "names", "running")

    def __init__(self, at: OutlierAt, kwargs: dict[str, Any]) -> None:
        self.at = at
        self.kwargs: dict[str, Any] | None = kwargs
        self.names: list[str] = []
        self.running = 0


class OutlierAt(Policy):
    """The endpoints at one pipeline."""

    kind = "outlier"

    def __init__(self, policy: Outlier, site: Site) -> None:
        self.policy = policy
        self.endpoints = policy.endpoints
        self.site = site
        self.meter = policy.counts
        self._retried = site.inside_retry
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
        failed = REMEMBERED.get()
        if isinstance(failed, _Sent) and failed.kwargs is call.kwargs and failed.at is self:
            return failed
        return _Sent(self, call.kwargs)

    def _ended(self, call: Call) -> _Sent:
        sent = self._running[id(call.kwargs)]
        sent.running -= 1
        if not sent.running:
            del self._running[id(call.kwargs)]
        return sent

    def _succeeded(self, call: Call, turn: Turn, now: float) -> None:
        self._ended(call).kwargs = None  # where a hedge saved the call, nobody forgets what failed before it
        self.endpoints.succeeded(turn, now)
        if self.endpoints.changes:
            self.policy.tell()

    def _failed(self, call: Call, turn: Turn, now: float, exc: BaseException, *, begun: bool = False) -> None:
        sent = self._ended(call)
        if self._retried and not begun and isinstance(exc, Exception):
            REMEMBERED.set(sent)  # the next attempt may be its retry
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
        begun = False
        try:
            source = Source(proceed(told))
            with _named(name):
                item = await source.next()
            begun = True
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
                self._failed(call, turn, clock(), exc, begun=begun)
            raise
        self._succeeded(call, turn, clock())


@contextmanager
def _named(endpoint: str | None) -> Generator[None]:
    """Name the endpoint to what runs inside; None: it is told by an argument."""
    if endpoint is None:
        yield
        return
    token = CURRENT.set(endpoint)
    try:
        yield
    finally:
        with suppress(
            ValueError
        ):  # an abandoned call is closed in a foreign context: nothing to set back there
            CURRENT.reset(token)


class OutlierMeter:
    """The numbers of an `Outlier`."""

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
