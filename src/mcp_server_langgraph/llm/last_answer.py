"""The last answer to the very same question of the same caller, for the time when no model answers.

The caller is part of the question: whoever is given another one's answer learns that it was asked, and when.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from mcp_server_langgraph.resilience import LastGood
from mcp_server_langgraph.resilience.fallback import NOTHING
from mcp_server_langgraph.resilience.integrations.langchain import Question

__all__ = ["LastAnswer", "LastAnswerAsChunk", "asked_by", "asker"]

# What differs each time the same thing is asked.
_UNASKED: Final = {"id", "response_metadata", "usage_metadata"}


_asker: ContextVar[str] = ContextVar("mcp_server_langgraph_model_asker", default="")


@contextmanager
def asked_by(owner: str) -> Generator[None]:
    """What is asked within is asked by ``owner``: no one else is given its answers again."""
    token = _asker.set(owner)
    try:
        yield
    finally:
        _asker.reset(token)


def asker() -> str:
    """Who is asking; empty where nobody said."""
    return _asker.get()


class LastAnswer(LastGood):
    """Remembers answers by all that was asked (messages, tools, options) and by whom, for ``max_age`` seconds.

    An answer that calls tools is not remembered: giving it again would run them again.
    """

    MAX_AGE: Final = 3600.0

    def __init__(self, max_age: float = MAX_AGE, *, max_size: int = 256) -> None:
        super().__init__(max_age, key=_fingerprint, max_size=max_size)

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: ChatResult, now: float) -> None:
        """Keep the answer, if it is one in words."""
        message = result.generations[0].message
        if isinstance(message, AIMessage) and message.content and not message.tool_calls:
            super().remember(args, kwargs, result, now)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = self.recall(args, kwargs, asyncio.get_running_loop().time())
        if known is None:
            return NOTHING
        age, result = known
        message = result.generations[0].message
        told = {**message.response_metadata, "answered_by": "earlier answer", "age_seconds": round(age, 3)}
        again = AIMessage(content=message.content, response_metadata=told)
        return ChatResult(generations=[ChatGeneration(message=again)])


class LastAnswerAsChunk(LastGood):
    """The same memory for streams: the earlier answer as the only piece."""

    def __init__(self, memory: LastAnswer) -> None:
        super().__init__(memory.max_age)
        self._memory = memory

    def recall(self, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> tuple[float, Any] | None:
        """What the memory knows."""
        return self._memory.recall(args, kwargs, now)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._memory(*args, **kwargs)
        if answer is NOTHING:
            return NOTHING
        message = answer.generations[0].message
        told = message.response_metadata
        piece = AIMessageChunk(content=message.content, response_metadata=told, chunk_position="last")
        return ChatGenerationChunk(message=piece)


def _fingerprint(question: Question) -> str:
    asked = {
        "asker": asker(),
        "messages": [_asked(message) for message in question.messages],
        "stop": question.stop,
        "binding": question.binding,
        "options": question.options,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).hexdigest()


def _asked(message: BaseMessage) -> dict[str, Any]:
    return message.model_dump(exclude=_UNASKED)
