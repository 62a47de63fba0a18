"""Chaos at work in one pipeline: what a struck call meets instead of, or before, the real thing."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, Final

from . import _functions
from ._source import END, Source
from .degradation import note_degradation
from .metrics import Sample
from .policy import BadResult, Call, Policy, Proceed, ProceedStream, ProceedSync, Site

if TYPE_CHECKING:
    from .chaos import Chaos

# What stands for no outcome: None is one.
NO_OUTCOME: Final = object()

KINDS: Final = ("behaviour", "latency", "fault", "outcome")


class ChaosAt(Policy):
    """Chaos at one pipeline."""

    kind = "chaos"

    def __init__(self, policy: Chaos, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.meter = policy.counts

    async def run(self, call: Call, proceed: Proceed) -> Any:
        if not self.policy.strikes():
            return await proceed(call)
        await self._before(call)
        if self.policy.fault is not None:
            raise self._fault()
        return await proceed(call) if self.policy.outcome is NO_OUTCOME else self._outcome()

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        policy = self.policy
        if not policy.strikes():
            return proceed(call)
        if policy.behaviour is not None:
            self._strike("behaviour")
            behaved = policy.behaviour(call)
            if inspect.isawaitable(behaved):
                _functions.refuse_awaitable(behaved)
        if policy.latency is not None:
            self._strike("latency")
            time.sleep(policy.delay())
        if policy.fault is not None:
            raise self._fault()
        return proceed(call) if policy.outcome is NO_OUTCOME else self._outcome()

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        struck = self.policy.strikes()
        if struck:
            await self._before(call)
            if self.policy.outcome is not NO_OUTCOME:
                yield self._outcome()
                return
        faulty = struck and self.policy.fault is not None
        source = Source() if faulty and self.policy.after_items == 0 else Source(proceed(call))
        given = 0
        sent = None
        try:
            while True:
                if faulty and given == self.policy.after_items:
                    raise self._fault()
                item = await source.next(sent)
                while item is not END:
                    given += 1
                    try:
                        sent = yield item
                        break
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        item = await source.throw(thrown)
                else:
                    return
        finally:
            await source.close()

    async def _before(self, call: Call) -> None:
        policy = self.policy
        if policy.behaviour is not None:
            self._strike("behaviour")
            behaved = policy.behaviour(call)
            if inspect.isawaitable(behaved):
                await behaved
        if policy.latency is not None:
            self._strike("latency")
            await asyncio.sleep(policy.delay())

    def _fault(self) -> BaseException:
        self._strike("fault")
        return self.policy.error()

    def _outcome(self) -> Any:
        """The substituted result, judged as one of the function's own would be."""
        self._strike("outcome")
        outcome = self.policy.outcome
        if self.site.judge_result is not None and self.site.judge_result(outcome):
            raise BadResult(outcome)
        return outcome

    def _strike(self, kind: str) -> None:
        self.policy.count(kind)
        note_degradation(self.site.name, "chaos", kind)


class ChaosMeter:
    """What it has done."""

    def __init__(self, policy: Chaos) -> None:
        self.policy = policy
        self.injected: dict[str, int] = dict.fromkeys(KINDS, 0)

    @property
    def total(self) -> int:
        return sum(self.injected.values())

    def samples(self) -> Iterator[Sample]:
        name = self.policy.label
        yield Sample("chaos_active", (name,), int(self.policy.is_on()))
        for kind, count in self.injected.items():
            yield Sample("chaos_injected_total", (name, kind), count)
