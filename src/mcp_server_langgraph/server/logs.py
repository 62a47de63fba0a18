"""Structured logs: one JSON object a line on stderr. No prompts, no arguments, no secrets.

Our own lines carry their facts in ``extra={"fields": {...}}``. Of an exception the type and the frames are kept; its
text only where it is known to hold nothing of the caller's.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from typing import Any, Final

from mcp_server_langgraph.resilience.errors import ResilienceError

__all__ = ["JsonFormatter", "configure_logging"]

_OWN: Final = "mcp_server_langgraph"
# At their DEBUG and INFO these tell whole messages, URLs or session ids.
_TALKATIVE: Final = (
    *("anthropic", "google_genai", "httpcore", "httpx", "httpx2", "langchain"),
    *("mcp", "openai", "sse_starlette"),
)
_FRAMES: Final = 12


def configure_logging(level: str, form: str) -> None:
    """Send all logs to stderr. ``level`` holds for this package; others are heard from INFO upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelNamesMapping()[level], logging.INFO))
    logging.getLogger(_OWN).setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """time, level, logger, event; then the fields of the line, the error and the trace it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_facts(record), ensure_ascii=False, default=str, separators=(",", ":"))


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(record)
        head = " ".join(str(facts.pop(key)) for key in ("time", "level", "logger", "event"))
        return " ".join([head, *(f"{key}={value}" for key, value in facts.items())])


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    facts: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "event": record.getMessage(),
    }
    facts.update(getattr(record, "fields", {}))
    if record.exc_info is not None and record.exc_info[1] is not None:
        facts.update(_error(record.exc_info[1]))
    facts.update(_trace())
    return facts


def _error(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    facts: dict[str, Any] = {
        "error_type": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, ResilienceError | OSError | ImportError):
        facts["error"] = str(error)
    if error.__cause__ is not None:
        facts["cause"] = _error(error.__cause__)
    return facts


def _trace() -> dict[str, str]:
    """The ids of the current span, if OpenTelemetry is there and one is recorded."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return {}
    span = opentelemetry.get_current_span().get_span_context()
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}
