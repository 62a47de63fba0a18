"""What the layer does for a request is noted on the request's span."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcp_server_langgraph.resilience import events
from mcp_server_langgraph.server import main
from mcp_server_langgraph.settings import load


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "listeners", ())


def test_a_server_notes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def serve(*given: Any) -> None:
        with provider.get_tracer("mcp").start_as_current_span("tools/call agent_chat"):
            events.emit("fallback", "llm", source="cache")

    monkeypatch.setattr(main, "_serve", serve)
    monkeypatch.setattr(main, "configure_logging", lambda *given: None)
    assert main.run(load({})[0], "stdio", dict) == 0
    (span,) = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["resilience.fallback"]
