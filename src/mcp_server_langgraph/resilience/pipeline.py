"""The heart: a `Pipeline` is a chain of policies around a function.

What a policy is stands in `policy`; how neighbouring policies become one frame in `_link` and `_fuse`.

    pipeline = Pipeline("search", Retry(max_attempts=3), CircuitBreaker("search"), Timeout(2))
    result = await pipeline.call(fetch, "python")

    @pipeline
    async def search(query: str) -> list[str]: ...
"""

from __future__ import annotations

import math
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from . import _functions, _fuse, _order, _wrapper, config, events
from ._link import Bound, CallMeter, Linker, segments_of
from .ended import Ended
from .errors import ConfigurationError
from .metrics import Meter
from .outcome import Classifier, classify
from .policy import Cost, Policy, Repeat, Site

__all__ = ["Pipeline"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_live: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def live_pipelines() -> list[Pipeline]:
    """Every pipeline that still exists and was not taken over by a decorator above it."""
    return sorted(_live, key=lambda pipeline: pipeline.name)


def forget_pipelines() -> None:
    """List none of those that exist now."""
    _live.clear()


class Pipeline:
    """Policies around functions, outermost first.

    ``name`` is the service that is guarded. ``operation`` is the metrics' label for what is done there (default: the
    decorated function's qualified name, else ``name``). ``classifier`` says what an exception means (default:
    `outcome.classify`); ``is_failure`` judges results (True: the result counts as a retryable failure, and is given
    back when nothing better came).

    Raises `ConfigurationError` where the order of the policies cannot be right.
    """

    def __init__(
        self,
        name: str,
        *policies: Policy,
        operation: str | None = None,
        classifier: Classifier | None = None,
        is_failure: Callable[[Any], bool] | None = None,
    ) -> None:
        _check_parts(name, policies)
        _order.refuse(name, policies)
        self._doubts: list[str] = []
        self.name = name
        self.policies = policies
        self.site = Site(name, operation or name, classifier or classify, is_failure)
        self._meter = CallMeter(self.site)
        self._bound = [self._bind(policy) for policy in policies]
        self.apply(config.current())
        self._linker = Linker(self, self.site, self._bound, self._meter)
        self.call = self._linker.frame("call", sync=False)  # type: ignore[method-assign]
        self._sync_call: Callable[..., Any] | None = None
        _live.add(self)

    def _bind(self, policy: Policy) -> Bound:
        bound = policy.bind(self.site)
        if isinstance(bound, Repeat):
            self.site.inside_retry = True
        return bound

    @classmethod
    def standard(cls, name: str, preset: str = "read", **options: Any) -> Pipeline:
        """The standard order with the service's settings: see `presets.standard`, whose options these are."""
        from .presets import standard

        return standard(name, preset, **options)

    async def call(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn`` through the policies. Raises what ``fn`` raises, or a `ResilienceError`."""
        raise NotImplementedError  # replaced by a compiled frame when the pipeline is built

    def call_sync(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function through the policies; a wait blocks the thread.

        Raises TypeError where a policy cannot guard a plain function (a timeout cannot cut one).
        """
        if self._sync_call is None:
            _wrapper.refuse_sync(fn, self)
            self._sync_call = self._linker.frame("call", sync=True)
        return cast(T, self._sync_call(fn, *args, **kwargs))

    def try_call(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[Ended[T]]:
        """Call ``fn`` through the policies, and give the end as a value: see `Ended`.

        Raises no Exception; cancellation and its like (BaseException) pass. An open circuit's refusal is not even
        raised inside, unless a policy that must act before stands around the breaker.
        """
        self.try_call = self._linker.frame("try", sync=False)  # type: ignore[method-assign]
        ended: Awaitable[Ended[T]] = self.try_call(fn, *args, **kwargs)
        return ended

    def try_call_sync(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Ended[T]:
        """The same for a plain function. Raises TypeError where a policy cannot guard one."""
        _wrapper.refuse_sync(fn, self)
        self.try_call_sync = self._linker.frame("try", sync=True)  # type: ignore[method-assign]
        ended: Ended[T] = self.try_call_sync(fn, *args, **kwargs)
        return ended

    def stream(
        self, fn: Callable[P, AsyncGenerator[T, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[T, Any]:
        """Iterate over ``fn(...)`` through the policies (see `streaming`). Close it, or run it to its end."""
        from .streaming import stream

        return stream(self, fn, args, kwargs)

    def __call__(self, fn: F) -> F:
        """Decorate ``fn``: an ``async def``, an async generator, or a ``def``."""
        if self.site.operation == self.name:
            self.site.operation = _functions.qualified_name(fn)
        return cast(F, _wrapper.wrap(fn, self))

    def frame_for(self, fn: Callable[..., Any], *, sync: bool) -> Callable[..., Any]:
        """A function that takes ``fn``'s arguments and runs it through the policies."""
        return self._linker.frame("bound", sync=sync, fn=fn)

    def apply(self, settings: config.Settings) -> None:
        """Take over changed settings; state and calls in flight stay as they are."""
        self.site.bypassed = not settings.enabled(self.name)
        for policy in self.policies:
            policy.apply(settings, policy.name or self.name)
        doubts = _order.doubts(self.policies)
        for problem in doubts:
            if problem not in self._doubts:  # told once, not at each reload
                events.emit("warning", self.name, problem=problem)
        self._doubts = doubts

    def retire(self) -> None:
        """Stop being listed: a decorator above has taken the policies over."""
        _live.discard(self)

    def meters(self) -> Iterator[Meter]:
        """Everything here that has numbers."""
        yield self._meter
        for bound in self._bound:
            found = (getattr(bound, "meter", None), getattr(bound, "budget", None))
            yield from (meter for meter in found if meter is not None)

    @property
    def bound(self) -> tuple[Bound, ...]:
        """The policies at work here, outermost first."""
        return tuple(self._bound)

    def snapshot(self) -> dict[str, Any]:
        """State of each policy that has one, by kind."""
        states = {policy.kind: policy.snapshot() for policy in self.policies}
        known = {kind: state for kind, state in states.items() if state is not None}
        return {"name": self.name, "bypassed": self.site.bypassed, **known}

    def describe(self) -> dict[str, Any]:
        """The order and the settings, and the most that one call can cost: ``requests``, and ``seconds`` (None where
        nothing bounds it). ``doubts``: what is probably not meant, where there is such.
        """
        policies = [{"policy": policy.kind, **policy.settings()} for policy in self.policies]
        doubts = {"doubts": list(self._doubts)} if self._doubts else {}
        return {"name": self.name, "policies": policies, **self._worst_case(), **doubts}

    def _worst_case(self) -> dict[str, float | None]:
        cost = Cost(1, math.inf)
        for policy in reversed(self.policies):
            cost = policy.worst_case(cost)
        return {"requests": cost.requests, "seconds": None if math.isinf(cost.seconds) else cost.seconds}

    def source(self) -> str:
        """The source of the compiled frame, for the curious and the debugger."""
        segments = segments_of(self._bound)
        last = segments[0][1] is None
        return _fuse.write(self._linker.shape(segments[0][0], "call", last=last, sync=False))

    def __repr__(self) -> str:
        return f"Pipeline({', '.join([repr(self.name), *map(repr, self.policies)])})"


def _check_parts(name: object, policies: tuple[object, ...]) -> None:
    """Refuse what is no name and what is no policy."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"Pipeline: the first argument is its name, not {name!r}")
    for policy in policies:
        if not isinstance(policy, Policy):
            hint = "; make one: call it" if isinstance(policy, type) else ""
            raise ConfigurationError(f"pipeline {name!r}: {policy!r} is no policy{hint}")
