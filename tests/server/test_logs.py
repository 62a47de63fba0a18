"""Log lines: JSON, with the facts, and without what is nobody's business."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import CircuitOpen
from mcp_server_langgraph.server.logs import _TALKATIVE, JsonFormatter, configure_logging


@pytest.fixture
def lines() -> Iterator[Any]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.logs")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


def test_a_line_holds_time_level_logger_event_and_fields(lines: Any) -> None:
    logging.getLogger("test.logs").info(
        "mcp request", extra={"fields": {"name": "agent_chat", "seconds": 0.5}}
    )
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "test.logs",
        "event": "mcp request",
        "name": "agent_chat",
        "seconds": 0.5,
    }


def test_of_an_unknown_exception_the_type_and_the_place_are_told_but_not_the_text(lines: Any) -> None:
    try:
        raise ValueError("the prompt was: swordfish")
    except ValueError:
        logging.getLogger("test.logs").exception("tool failed")
    (line,) = lines()
    assert line["error_type"] == "ValueError"
    assert "test_logs.py" in line["frames"][-1]
    assert "swordfish" not in json.dumps(line)


def test_what_the_layer_says_is_told_and_causes_too(lines: Any) -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "connection refused")
        except OSError as cause:
            raise CircuitOpen("redis", 3.0) from cause
    except CircuitOpen:
        logging.getLogger("test.logs").exception("unavailable")
    (line,) = lines()
    assert "'redis' is open" in line["error"]
    assert line["cause"]["error_type"] == "ConnectionRefusedError"


def test_a_line_within_a_span_names_the_trace(lines: Any) -> None:
    from opentelemetry import trace
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    context = SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        logging.getLogger("test.logs").info("inside")
    logging.getLogger("test.logs").info("outside")
    inside, outside = lines()
    assert inside["trace_id"] == f"{0xABC:032x}"
    assert inside["span_id"] == f"{0xDEF:016x}"
    assert "trace_id" not in outside


def test_all_logs_go_to_stderr_and_libraries_do_not_chat(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    levels = {logger: logger.level for name in _TALKATIVE for logger in [logging.getLogger(name)]}
    try:
        configure_logging("DEBUG", "text")
        logging.getLogger("mcp_server_langgraph.x").debug("ours", extra={"fields": {"a": 1}})
        logging.getLogger("other").debug("a detail")
        logging.getLogger("mcp.server").info("Terminating session: abc")
        logging.getLogger("httpx2").info("POST http://user:password@host")
    finally:
        root.setLevel(level)
        for logger, before in levels.items():
            logger.setLevel(before)
        logging.getLogger("mcp_server_langgraph").setLevel(logging.NOTSET)
        logging.captureWarnings(False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "DEBUG mcp_server_langgraph.x ours a=1" in printed.err
