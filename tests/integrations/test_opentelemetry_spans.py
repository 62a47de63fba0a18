"""One span for each call, and what the layer does noted on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Retry,
    events,
)
from mcp_server_langgraph.resilience.integrations.opentelemetry import Traced, events_on_spans


class Spans:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def one(self) -> ReadableSpan:
        (span,) = self.ended
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def noted() -> Iterator[None]:
    end = events_on_spans()
    yield
    end()


def failing(times: int, error: Exception) -> object:
    left = iter([error] * times)

    async def call() -> str:
        for each in left:
            raise each
        return "fine"

    return call


async def test_a_call_is_one_span_around_the_function(spans: Spans) -> None:
    inside: list[trace.SpanContext] = []

    async def fine() -> str:
        inside.append(trace.get_current_span().get_span_context())
        return "fine"

    pipeline = Pipeline("search", Traced(spans.tracer), Bulkhead(1), operation="find")
    assert await pipeline.call(fine) == "fine"
    span = spans.one
    assert (span.name, span.kind, span.status.status_code) == (
        "search find",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {"resilience.pipeline": "search", "resilience.operation": "find"}
    assert inside == [span.context]
    assert not trace.get_current_span().get_span_context().is_valid


async def test_all_attempts_are_one_span_with_an_event_for_each_retry(spans: Spans, noted: None) -> None:
    pipeline = Pipeline("search", Traced(spans.tracer), Retry(4, multiplier=1, jitter="none"))
    await pipeline.call(failing(2, ConnectionResetError("host 10.0.0.7 says: secret")))  # type: ignore[arg-type]
    span = spans.one
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        (
            "resilience.retry",
            {
                "resilience.pipeline": "search",
                "resilience.attempt": attempt,
                "resilience.took": 0.0,
                "resilience.wait": float(attempt),
                "resilience.error": "ConnectionResetError",
            },
        )
        for attempt in (1, 2)
    ]
    assert (span.attributes or {})["http.request.resend_count"] == 2
    assert "secret" not in span.to_json()


async def test_an_error_sets_status_and_type_and_nothing_of_its_text(spans: Spans) -> None:
    pipeline = Pipeline("search", Traced(spans.tracer, kind=SpanKind.CLIENT))
    with pytest.raises(asyncio.IncompleteReadError):
        await pipeline.call(failing(1, asyncio.IncompleteReadError(b"secret", 9)))  # type: ignore[arg-type]
    span = spans.one
    assert (span.kind, span.status.status_code, span.status.description) == (
        SpanKind.CLIENT,
        StatusCode.ERROR,
        None,
    )
    assert (span.attributes or {})["error.type"] == "asyncio.exceptions.IncompleteReadError"
    assert not span.events
    assert "secret" not in span.to_json()


async def test_a_refusals_type_is_the_policy_that_refused(spans: Spans, noted: None) -> None:
    breaker = CircuitBreaker("search")
    breaker.force_open()
    pipeline = Pipeline("search", Traced(spans.tracer), breaker)
    with pytest.raises(CircuitOpen):
        await pipeline.call(failing(0, OSError()))  # type: ignore[arg-type]
    assert (spans.one.attributes or {})["error.type"] == "circuit_breaker"


async def test_a_cancelled_call_is_no_error(spans: Spans) -> None:
    pipeline = Pipeline("search", Traced(spans.tracer))
    task = asyncio.create_task(pipeline.call(asyncio.sleep, 10))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spans.one.status.status_code is StatusCode.UNSET
    assert (spans.one.attributes or {})["resilience.cancelled"] is True


def test_a_plain_function_has_its_span_too(spans: Spans) -> None:
    pipeline = Pipeline("search", Traced(spans.tracer), Bulkhead(1))

    @pipeline
    def double(number: int) -> int:
        assert trace.get_current_span().is_recording()
        return 2 * (number or 1 // number)

    assert double(4) == 8
    with pytest.raises(ZeroDivisionError):
        double(0)
    fine, failed = spans.ended
    assert (fine.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert (failed.attributes or {})["error.type"] == "ZeroDivisionError"


async def numbers() -> AsyncGenerator[int, str | None]:
    for number in range(3):
        assert trace.get_current_span().is_recording()
        try:
            sent = yield number
        except LookupError:
            sent = "thrown"
        if sent is not None:
            assert (yield sent) is None  # type: ignore[misc]


async def test_the_steps_of_a_stream_run_in_the_span_and_its_consumer_does_not(spans: Spans) -> None:
    stream = Pipeline("search", Traced(spans.tracer)).stream(numbers)
    items = []
    async for item in stream:
        assert not trace.get_current_span().is_recording()
        assert not spans.ended
        items.append(item)
    assert items == [0, 1, 2]
    assert (spans.one.attributes or {})["resilience.stream.items"] == 3


async def test_what_the_consumer_sends_and_throws_reaches_the_stream(spans: Spans) -> None:
    stream = Pipeline("search", Traced(spans.tracer)).stream(numbers)
    assert await anext(stream) == 0
    assert await stream.asend("heard") == "heard"  # type: ignore[comparison-overlap]
    assert await anext(stream) == 1
    assert await stream.athrow(LookupError()) == "thrown"  # type: ignore[comparison-overlap]
    await stream.aclose()
    assert spans.one.status.status_code is StatusCode.UNSET
    assert (spans.one.attributes or {})["resilience.cancelled"] is True


async def test_a_stream_that_breaks_is_an_error(spans: Spans) -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise ConnectionResetError

    with pytest.raises(Exception, match=r"ConnectionResetError|interrupted|broke"):
        async for _ in Pipeline("search", Traced(spans.tracer)).stream(broken):
            pass
    assert spans.one.status.status_code is StatusCode.ERROR


async def test_events_go_to_whatever_span_is_current_and_to_none_where_none_is(
    spans: Spans, noted: None
) -> None:
    places = Bulkhead(1, max_wait=0)
    pipeline = Pipeline("search", places)
    held = asyncio.create_task(pipeline.call(asyncio.sleep, 10))
    await asyncio.sleep(1)
    for _ in range(2):
        with pytest.raises(BulkheadFull):
            await pipeline.call(asyncio.sleep, 1)
    with spans.tracer.start_as_current_span("request"), pytest.raises(BulkheadFull):
        await pipeline.call(asyncio.sleep, 1)
    await held
    assert [event.name for event in spans.one.events] == ["resilience.rejected"]


async def test_nothing_is_noted_after_it_was_ended(spans: Spans) -> None:
    events_on_spans()()
    with spans.tracer.start_as_current_span("request"):
        await Pipeline("search", Retry(2, multiplier=0)).call(failing(1, OSError()))  # type: ignore[arg-type]
    assert not spans.one.events


async def test_a_detail_that_no_attribute_can_hold_is_left_out_in_silence(
    spans: Spans, noted: None, caplog: pytest.LogCaptureFixture
) -> None:
    with spans.tracer.start_as_current_span("request"):
        events.emit("rejected", "search", policy=None, keys=["a"], left=2)
    (event,) = spans.one.events
    assert dict(event.attributes or {}) == {"resilience.pipeline": "search", "resilience.left": 2}
    assert not caplog.records
