"""What the providers' APIs say, each in its own way: answers, errors and the events of streams."""

import json
from typing import Any

__all__ = ["ERRORS", "GOOD", "STREAMS", "spoken"]


def spoken(provider: str) -> str:
    """Whose API a provider speaks."""
    return provider if provider in GOOD else "openai"


def _event(data: dict[str, Any], name: str | None = None) -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def _anthropic(model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "fine"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _openai(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "fine"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _google(model: str) -> dict[str, Any]:
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        "modelVersion": model,
    }


def _anthropic_error(status: int, message: str) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _openai_error(status: int, message: str) -> dict[str, Any]:
    kinds = {401: "authentication_error", 429: "rate_limit_exceeded"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _google_error(status: int, message: str) -> dict[str, Any]:
    kinds = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    kind = kinds.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": kind}}


def _anthropic_begin(model: str) -> list[str]:
    message = _anthropic(model) | {"content": [], "stop_reason": None}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    start = {"type": "message_start", "message": message}
    return [_event(start, "message_start"), _event(block, "content_block_start")]


def _anthropic_word(text: str) -> str:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return _event(delta, "content_block_delta")


def _anthropic_finish() -> list[str]:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    last = {"type": "message_delta", "delta": delta, "usage": {"input_tokens": 1, "output_tokens": 3}}
    return [
        _event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        _event(last, "message_delta"),
        _event({"type": "message_stop"}, "message_stop"),
    ]


def _openai_chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(
        {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    )


def _google_chunk(text: str, finish: str | None = None) -> str:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    chunk: dict[str, Any] = {"candidates": [candidate], "modelVersion": "m"}
    if finish:
        candidate["finishReason"] = finish
        chunk["usageMetadata"] = _google("m")["usageMetadata"]
    return _event(chunk)


_OPENAI_USAGE = _event(_openai("m") | {"id": "c1", "object": "chat.completion.chunk", "choices": []})

GOOD = {"anthropic": _anthropic, "google": _google, "openai": _openai}
ERRORS = {"anthropic": _anthropic_error, "google": _google_error, "openai": _openai_error}
STREAMS: dict[str, tuple[Any, Any, Any, str]] = {
    "anthropic": (
        _anthropic_begin,
        _anthropic_word,
        _anthropic_finish,
        'event: ping\ndata: {"type": "ping"}\n\n',
    ),
    "google": (lambda model: [], _google_chunk, lambda: [_google_chunk("", "STOP")], ""),
    "openai": (
        lambda model: [_openai_chunk({"role": "assistant", "content": ""})],
        lambda text: _openai_chunk({"content": text}),
        lambda: [_openai_chunk({}, "stop"), _OPENAI_USAGE, "data: [DONE]\n\n"],
        ": ping\n\n",
    ),
}
