"""The heart: a `Pipeline` is a chain of policies around a function.

A policy knows no neighbour: ``run(call, proceed)`` is told what comes next. Most policies are simpler than that: they
act before and after a call and never in between. Such a `Guard` has ``enter``, ``succeeded`` and ``failed``, all
plain functions, and the pipeline compiles neighbouring guards and the retry loop into one frame (`_fuse`). One policy
object, a breaker for example, may stand in many pipelines: `Policy.bind` gives each pipeline its own guard.

    pipeline = Pipeline("search", Retry(max_attempts=3), CircuitBreaker("search"), Timeout(2))
    result = await pipeline.call(fetch, "python")

    @pipeline
    async def search(query: str) -> list[str]: ...
"""

from __future__ import annotations

import asyncio
import bisect
import time
import weakref
from abc import ABC
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, TypeVar, cast, overload

from . import _fuse, _functions, config
from .deadline import INHERITED
from .errors import ConfigurationError
from .metrics import Histogram, Meter, Sample
from .outcome import NEUTRAL, Classifier, Outcome, Verdict, classify

if TYPE_CHECKING:
    from .timeout import TotalGuard

__all__ = ["Call", "Guard", "Pipeline", "Policy", "Repeat", "Site"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Proceed = Callable[["Call"], Awaitable[Any]]
ProceedSync = Callable[["Call"], Any]
ProceedStream = Callable[["Call"], AsyncGenerator[Any, Any]]

# Given back by `Guard.enter` where the call has to wait for its place.
WAIT: Final = object()


class BadResult(Exception):
    """A result that was judged a failure, on its way through the policies. Never leaves the pipeline."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result


class Call:
    """One call on its way through a pipeline. ``attempt`` counts from 1."""

    __slots__ = ("args", "attempt", "fn", "kwargs", "site")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], site: Site, attempt: int = 1
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.site = site
        self.attempt = attempt


class Site:
    """Where policies work: what all of one pipeline's guards have in common.

    ``name`` is the pipeline's name and the metrics' ``service`` label, ``operation`` the function guarded.
    ``bypassed`` is True while the switch is off: calls then go straight to the function.
    """

    def __init__(self, name: str, operation: str, classifier: Classifier, judge: Callable[[Any], bool] | None) -> None:
        self.name = name
        self.operation = operation
        self.classifier = classifier
        self.judge_result = judge
        self.bypassed = False
        self.total: TotalGuard | None = None
        self.inside_retry = False

    def verdict(self, exc: BaseException) -> Verdict:
        """What ``exc`` means here. A cancellation is a failure where it is this pipeline's own total timeout that cut
        the call in mid-flight, and neutral otherwise.
        """
        if isinstance(exc, BadResult):
            return Verdict(Outcome.FAILURE, retryable=True)
        if isinstance(exc, Exception):
            return self.classifier(exc)
        if self.total is not None and isinstance(exc, asyncio.CancelledError):
            return self.total.verdict(INHERITED.get())
        return NEUTRAL


class Policy(ABC):
    """One capability. Subclasses either bind to a `Guard` or implement ``run`` (and ``run_sync``, ``stream``)."""

    kind: ClassVar[str] = "policy"
    name: str | None = None

    def bind(self, site: Site) -> Guard | Repeat | Policy:
        """What does the work at that site. The default is the policy itself, through ``run``."""
        return self

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, keeping state and calls in flight."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """Carry the call out; ``await proceed(call)`` is what comes next."""
        return await proceed(call)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        """The same for a plain function."""
        raise TypeError(f"{self.kind} cannot guard a plain def; make it async def")

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        """The same around an async generator."""
        async for item in proceed(call):
            yield item

    def settings(self) -> Mapping[str, Any]:
        """The settings in force, for ``describe`` and ``repr``."""
        return {}

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
        return f"{type(self).__name__}({inside})"


class Guard:
    """A policy at a site that acts before and after, never in between."""

    waits: ClassVar[bool] = False
    meter: Meter | None = None

    def enter(self, now: float) -> Any:
        """Let the call in and give a token for its end, or `WAIT`; raise `Rejected` where it may not begin."""

    async def wait(self) -> Any:
        """Wait for a place after `WAIT`; gives the token."""

    def wait_sync(self) -> Any:
        """The same, blocking the thread."""

    def succeeded(self, token: Any, now: float) -> None:
        """The call that was let in with ``token`` gave a result."""

    def failed(self, token: Any, now: float, exc: BaseException) -> BaseException | None:
        """It raised. Gives what to raise from it instead; None for ``exc`` itself."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """What the fused frame does for this guard, spelled out (the general form, and the reference in the tests)."""
        clock = asyncio.get_running_loop().time
        token = self.enter(clock())
        if token is WAIT:
            token = await self.wait()
        try:
            result = await proceed(call)
        except BaseException as exc:
            raised = self.failed(token, clock(), exc)
            if raised is None:
                raise
            raise raised from exc
        self.succeeded(token, clock())
        return result

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        """The same for a plain function."""
        token = self.enter(time.monotonic())
        if token is WAIT:
            token = self.wait_sync()
        try:
            result = proceed(call)
        except BaseException as exc:
            raised = self.failed(token, time.monotonic(), exc)
            if raised is None:
                raise
            raise raised from exc
        self.succeeded(token, time.monotonic())
        return result


class Repeat:
    """The retry loop at a site."""

    meter: Meter | None = None
    keyed: bool = False

    def first_attempt(self) -> None:
        """A first attempt begins."""

    def again(
        self,
        attempt: int,
        began: float,
        now: float,
        exc: Exception,
        last: Exception | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float | BaseException | None:
        """What follows a failed attempt: seconds to wait, an exception to raise instead, or None to raise ``exc``."""

    def recovered(self, attempt: int) -> None:
        """A later attempt succeeded."""

    def with_key(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with an idempotency key that all attempts share."""
        return kwargs

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """What the fused frame does for the loop, spelled out."""
        clock = asyncio.get_running_loop().time
        began = clock()
        last: Exception | None = None
        if self.keyed:
            call.kwargs = self.with_key(call.kwargs)
        self.first_attempt()
        while True:
            try:
                result = await proceed(call)
            except Exception as exc:
                step = self.again(call.attempt, began, clock(), exc, last, call.fn, call.args, call.kwargs)
                if step is None:
                    raise
                if isinstance(step, BaseException):
                    raise step
                last = exc
            else:
                if call.attempt > 1:
                    self.recovered(call.attempt)
                return result
            await asyncio.sleep(step)
            call.attempt += 1


class _CallMeter:
    """How the calls of one pipeline ended, and how long the successful ones took."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.histogram = Histogram()
        self.failures = 0
        self.neutral = 0

    def ended(self, exc: BaseException) -> None:
        if self.site.verdict(exc).outcome is Outcome.FAILURE:
            self.failures += 1
        else:
            self.neutral += 1

    def samples(self) -> Iterator[Sample]:
        labels = (self.site.name, self.site.operation)
        value = self.histogram.value()
        yield Sample("resilience_call_duration_seconds", labels, value)
        yield Sample("resilience_calls_total", (*labels, "success"), sum(value.counts))
        yield Sample("resilience_calls_total", (*labels, "failure"), self.failures)
        yield Sample("resilience_calls_total", (*labels, "neutral"), self.neutral)


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
        check_order(name, policies)
        self.name = name
        self.policies = policies
        self.site = Site(name, operation or name, classifier or classify, is_failure)
        self._meter = _CallMeter(self.site)
        self._bound = [self._bind(policy) for policy in policies]
        self.apply(config.current())
        self.call = self._frame("call", sync=False)  # type: ignore[method-assign]
        _live.add(self)

    def _bind(self, policy: Policy) -> Guard | Repeat | Policy:
        bound = policy.bind(self.site)
        if isinstance(bound, Repeat):
            self.site.inside_retry = True
        return bound

    @classmethod
    def standard(cls, name: str, **options: Any) -> Pipeline:
        """The standard order with the service's settings: see `presets.standard`, whose options these are."""
        from .presets import standard

        return standard(name, **options)

    async def call(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn`` through the policies. Raises what ``fn`` raises, or a `ResilienceError`."""
        raise NotImplementedError  # replaced by a compiled frame when the pipeline is built

    def call_sync(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function through the policies; a wait blocks the thread.

        Raises TypeError where a policy cannot guard a plain function (a timeout cannot cut one).
        """
        return cast(T, self._sync_call(fn, *args, **kwargs))

    @property
    def _sync_call(self) -> Callable[..., Any]:
        frame: Callable[..., Any] | None = self.__dict__.get("_sync_frame")
        if frame is None:
            frame = self.__dict__["_sync_frame"] = self._frame("call", sync=True)
        return frame

    def stream(
        self, fn: Callable[P, AsyncGenerator[T, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[T, Any]:
        """Iterate over ``fn(...)`` through the policies (see `streaming`). Close it, or run it to its end."""
        from .streaming import stream

        return stream(self, fn, args, kwargs)

    @overload
    def __call__(self, fn: F) -> F: ...
    @overload
    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]: ...
    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate ``fn``: an ``async def``, an async generator, or a ``def``."""
        if self.site.operation == self.name:
            self.site.operation = _functions.qualified_name(fn)
        return _functions.wrap(fn, self)

    def frame_for(self, fn: Callable[..., Any], *, sync: bool) -> Callable[..., Any]:
        """A function that takes ``fn``'s arguments and runs it through the policies."""
        return self._frame("bound", sync=sync, fn=fn)

    def apply(self, settings: config.Settings) -> None:
        """Take over changed settings; state and calls in flight stay as they are."""
        self.site.bypassed = not settings.enabled(self.name)
        for policy in self.policies:
            policy.apply(settings, policy.name or self.name)

    def retire(self) -> None:
        """Stop being listed: a decorator above has taken the policies over."""
        _live.discard(self)

    def meters(self) -> Iterator[Meter]:
        """Everything here that has numbers."""
        yield self._meter
        for bound in self._bound:
            meter = getattr(bound, "meter", None)
            if meter is not None:
                yield meter

    @property
    def bound(self) -> tuple[Guard | Repeat | Policy, ...]:
        """The policies at work here, outermost first."""
        return tuple(self._bound)

    def snapshot(self) -> dict[str, Any]:
        """State of each policy that has one, by kind."""
        states = {policy.kind: policy.snapshot() for policy in self.policies if hasattr(policy, "snapshot")}
        return {"name": self.name, "bypassed": self.site.bypassed, **states}

    def describe(self) -> dict[str, Any]:
        """The order and the settings, and the most that one call can cost: ``requests``, and ``seconds`` (None where
        nothing bounds it).
        """
        from .presets import worst_case

        policies = [{"policy": policy.kind, **policy.settings()} for policy in self.policies]
        return {"name": self.name, "policies": policies, **worst_case(self.policies)}

    def source(self) -> str:
        """The source of the compiled frame, for the curious and the debugger."""
        return _fuse.write(self._shape(_segments(self._bound)[0][0], "call", last=True, sync=False))

    def __repr__(self) -> str:
        return f"Pipeline({', '.join([repr(self.name), *map(repr, self.policies)])})"

    # Linking: neighbouring guards and the retry loop become one frame; other policies get `run(call, proceed)`.

    def _frame(self, face: _fuse.Face, *, sync: bool, fn: Callable[..., Any] | None = None) -> Callable[..., Any]:
        segments = _segments(self._bound)
        proceed: Callable[..., Any] | None = None
        for index in range(len(segments) - 1, -1, -1):
            nodes, around = segments[index]
            if around is not None:
                proceed = _link(around, proceed, sync=sync)
            proceed = self._fused(nodes, face if index == 0 else "step", proceed, sync=sync, fn=fn)
        assert proceed is not None
        return proceed

    def _shape(self, nodes: list[Guard | Repeat], face: _fuse.Face, *, last: bool, sync: bool) -> _fuse.Shape:
        kinds = tuple[_fuse.Node, ...](
            "repeat" if isinstance(node, Repeat) else "waiting" if node.waits else "guard" for node in nodes
        )
        keyed = any(isinstance(node, Repeat) and node.keyed for node in nodes)
        judged = self.site.judge_result is not None
        return _fuse.Shape(kinds, face, last=last, sync=sync, judged=judged, keyed=keyed)

    def _fused(
        self,
        nodes: list[Guard | Repeat],
        face: _fuse.Face,
        proceed: Callable[..., Any] | None,
        *,
        sync: bool,
        fn: Callable[..., Any] | None,
    ) -> Callable[..., Any]:
        names: dict[str, Any] = {
            **_COMMON,
            "bounds": self._meter.histogram.bounds,
            "counts": self._meter.histogram.counts,
            "ended": self._meter.ended,
            "fn": fn,
            "histogram": self._meter.histogram,
            "judge_result": self.site.judge_result,
            "proceed": proceed,
            "site": self.site,
            "sleep": time.sleep if sync else asyncio.sleep,
            "time": time.monotonic,
        }
        for index, node in enumerate(nodes):
            names.update(_methods_of(node, index, sync=sync))
        exec(_fuse.compiled(self._shape(nodes, face, last=proceed is None, sync=sync)), names)
        return cast(Callable[..., Any], names["frame"])


_COMMON: Final[dict[str, Any]] = {
    "__name__": __name__,
    "BadResult": BadResult,
    "Call": Call,
    "WAIT": WAIT,
    "bisect_left": bisect.bisect_left,
    "get_running_loop": asyncio.get_running_loop,
    "refuse_awaitable": _functions.refuse_awaitable,
}


def _methods_of(node: Guard | Repeat, index: int, *, sync: bool) -> dict[str, Any]:
    if isinstance(node, Repeat):
        return {
            "again": node.again,
            "first_attempt": node.first_attempt,
            "recovered": node.recovered,
            "with_key": node.with_key,
        }
    return {
        f"enter{index}": node.enter,
        f"failed{index}": node.failed,
        f"succeeded{index}": node.succeeded,
        f"wait{index}": node.wait_sync if sync else node.wait,
    }


def _segments(bound: list[Guard | Repeat | Policy]) -> list[tuple[list[Guard | Repeat], Policy | None]]:
    """Cut the chain after each policy that runs in the general form: (guards to fuse, the policy that follows)."""
    segments: list[tuple[list[Guard | Repeat], Policy | None]] = []
    nodes: list[Guard | Repeat] = []
    for item in bound:
        if isinstance(item, Policy):
            segments.append((nodes, item))
            nodes = []
        else:
            nodes.append(item)
    segments.append((nodes, None))
    return segments


def _link(policy: Policy, proceed: Callable[..., Any] | None, *, sync: bool) -> Callable[[Call], Any]:
    assert proceed is not None
    run: Callable[..., Any] = policy.run_sync if sync else policy.run
    return lambda call: run(call, proceed)


def check_order(name: str, policies: tuple[Policy, ...]) -> None:
    """Refuse orders that cannot be right, with the reason."""
    kinds = [policy.kind for policy in policies]
    if kinds.count("retry") > 1:
        raise ConfigurationError(f"pipeline {name!r} retries twice: attempts would multiply; keep one Retry")
    if len(set(map(id, policies))) < len(policies):
        raise ConfigurationError(f"pipeline {name!r} holds the same policy object twice")
    if "fallback" in kinds[1:]:
        above = kinds[kinds.index("fallback", 1) - 1]
        raise ConfigurationError(f"pipeline {name!r}: fallback inside {above}: its answers would count as successes there")
