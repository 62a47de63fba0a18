"""The spans that end while a test looks.

One provider for the process: a tracer keeps the first that it met, and the MCP SDK has one tracer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest import mock

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

__all__ = ["collected_spans"]

_PROVIDER: Final = TracerProvider()


@contextmanager
def collected_spans() -> Iterator[InMemorySpanExporter]:
    """Collect them."""
    exporter = InMemorySpanExporter()
    _PROVIDER.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        with mock.patch.object(trace, "_TRACER_PROVIDER", _PROVIDER):
            yield exporter
    finally:
        exporter.shutdown()
