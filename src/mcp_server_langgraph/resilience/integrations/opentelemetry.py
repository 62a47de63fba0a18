"""The layer's numbers, spans and events for OpenTelemetry.

    observe_metrics(metrics.get_meter("resilience"))
    events_on_spans()
    pipeline = Pipeline("search", Traced(), Retry(), CircuitBreaker("search"), Timeout(2))

- Numbers are read when the SDK collects; on the way of a call nothing happens but the layer's own additions (a direct
  ``counter.add`` costs 10 microseconds). The names are those of ADR-0030 without the endings ``_total`` and
  ``_seconds``, which exporters to Prometheus put back. The API has no histogram that can be observed, so here are their
  counts and sums; `opentelemetry_sdk.WithHistograms` adds the buckets.
- `Traced` makes one span of each call, with all its attempts in it. A step of a stream runs inside the span; what its
  consumer does between the steps does not.
- `events_on_spans` notes on whatever span is current what the layer does there: retries, refusals, transitions of
  breakers, fallbacks, timeouts.

What OpenTelemetry defines is used: ``error.type``, ``http.request.resend_count``. For breakers, bulkheads, fallbacks
and the like it defines nothing yet (open-telemetry/semantic-conventions#2355); their attributes begin with
``resilience.``.
Texts of errors, arguments and results never become attributes: they may hold prompts and secrets.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from typing import Any, ClassVar, Final

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from .. import events, registry
from .._families import FAMILIES, Family
from .._source import END, Source
from ..errors import Rejected
from ..metrics import HistogramValue, Metric
from ..policy import Call, Policy, Proceed, ProceedStream, ProceedSync

__all__ = ["Traced", "events_on_spans", "name_and_unit", "observe_metrics"]

# All instruments of one collection are read within that time, and share one look at the numbers.
_ONE_COLLECTION: Final = 0.05
_RESENT: Final = "http.request.resend_count"


def name_and_unit(family: str) -> tuple[str, str]:
    """What a metric of the layer is called in OpenTelemetry, and its unit: ``hedge_wasted_seconds_total`` is
    ``hedge_wasted`` in "s".
    """
    name = family.removesuffix("_total")
    short = name.removesuffix("_seconds")
    return short, "" if short == name else "s"


def observe_metrics(
    meter: Meter, *, histograms: bool = True, source: Callable[[], Iterable[Metric]] = registry.metrics
) -> None:
    """Let ``meter`` read the numbers of every pipeline and breaker when it collects.

    ``histograms``: whether the counts and sums of histograms are observed too (``..._count``, ``..._sum``); False where
    `opentelemetry_sdk.WithHistograms` exports them whole. ``source``: where the numbers come from.
    """
    look = _Look(source)
    for name, family in FAMILIES.items():
        short, unit = name_and_unit(name)
        if family.kind == "gauge":
            meter.create_observable_gauge(short, [look.at(name)], unit, family.help)
        elif family.kind == "counter":
            meter.create_observable_counter(short, [look.at(name)], unit, family.help)
        elif histograms:
            meter.create_observable_counter(f"{short}_count", [look.at(name, _count)], "", family.help)
            meter.create_observable_counter(f"{short}_sum", [look.at(name, _sum)], unit, family.help)


class _Look:
    """One look at all numbers, for all instruments that are read together."""

    def __init__(self, source: Callable[[], Iterable[Metric]]) -> None:
        self._source = source
        self._when = -math.inf
        self._metrics: dict[str, Metric] = {}

    def at(
        self, name: str, number: Callable[[Any], float] = float
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        """What observes the metric of that name."""

        def observe(options: CallbackOptions) -> Iterator[Observation]:
            metric = self._now()[name]
            for labels, value in metric.samples.items():
                yield Observation(number(value), attributes_of(metric.family, labels))

        return observe

    def _now(self) -> dict[str, Metric]:
        now = time.monotonic()
        if now - self._when > _ONE_COLLECTION:
            self._metrics = {metric.name: metric for metric in self._source()}
            self._when = now
        return self._metrics


def _count(value: HistogramValue) -> float:
    return sum(value.counts)


def _sum(value: HistogramValue) -> float:
    return value.sum


def attributes_of(family: Family, labels: tuple[str, ...]) -> dict[str, str]:
    """The labels of a sample as attributes; ``error_type`` is OpenTelemetry's ``error.type``."""
    names = ("error.type" if name == "error_type" else name for name in family.labels)
    return dict(zip(names, labels, strict=True))


class Traced(Policy):
    """Makes one span of each call: outermost, it holds all attempts, waits and fallbacks.

    ``tracer``: default the global provider's. ``kind``: INTERNAL, or CLIENT where nothing further in makes a span of
    its own. The span is called "{pipeline} {operation}". An error sets its status and ``error.type``, a cancellation
    only ``resilience.cancelled``.
    """

    kind: ClassVar[str] = "traced"

    def __init__(self, tracer: Tracer | None = None, *, kind: SpanKind = SpanKind.INTERNAL) -> None:
        self._tracer = tracer or trace.get_tracer("mcp_server_langgraph.resilience")
        self._kind = kind

    async def run(self, call: Call, proceed: Proceed) -> Any:
        span = self._begin(call)
        try:
            with _current(span):
                return await proceed(call)
        except BaseException as exc:
            _failed(span, exc)
            raise
        finally:
            span.end()

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        span = self._begin(call)
        try:
            with _current(span):
                return proceed(call)
        except BaseException as exc:
            _failed(span, exc)
            raise
        finally:
            span.end()

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        span = self._begin(call)
        source = Source(proceed(call))
        step = source.next()
        items = 0
        try:
            while (item := await _inside(span, step)) is not END:
                items += 1
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    step = source.throw(thrown)
                else:
                    step = source.next(sent)
        except BaseException as exc:
            _failed(span, exc)
            raise
        finally:
            await source.close()
            span.set_attribute("resilience.stream.items", items)
            span.end()

    def _begin(self, call: Call) -> Span:
        name, operation = call.site.name, call.site.operation
        attributes = {"resilience.pipeline": name, "resilience.operation": operation}
        return self._tracer.start_span(f"{name} {operation}", kind=self._kind, attributes=attributes)


def _current(span: Span) -> Any:
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


async def _inside(span: Span, step: Coroutine[Any, Any, Any]) -> Any:
    with _current(span):
        return await step


def _failed(span: Span, exc: BaseException) -> None:
    if isinstance(exc, Exception):
        span.set_attribute("error.type", _error_type(exc))
        span.set_status(Status(StatusCode.ERROR))
    else:
        span.set_attribute("resilience.cancelled", True)


def _error_type(exc: Exception) -> str:
    """Of a rejection what refused, such as "circuit_breaker"; of others the class."""
    if isinstance(exc, Rejected):
        return exc.policy
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def events_on_spans() -> Callable[[], None]:
    """From now on note every event of the layer on the span that is current where it happens, as "resilience.{kind}".
    Returns a function that ends it.
    """
    return events.subscribe(_note)


def _note(event: events.Event) -> None:
    span = trace.get_current_span()
    if not span.is_recording():
        return
    details = {
        f"resilience.{name}": value
        for name, value in event.details.items()
        if isinstance(value, (str, int, float))
    }
    span.add_event(f"resilience.{event.kind}", {"resilience.pipeline": event.pipeline, **details})
    if event.kind == "retry":
        span.set_attribute(_RESENT, event.details["attempt"])
