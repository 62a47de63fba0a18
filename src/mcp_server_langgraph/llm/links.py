"""One model of a chain: built when it is first asked, and asked through the pipelines that guard it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableBinding

from mcp_server_langgraph.resilience import Pipeline

from .outcomes import GarbledAnswer, TruncatedAnswer

__all__ = ["Closable", "ModelLink", "Question"]

_UNREADABLE: Final = frozenset({"APIResponseValidationError", "UnknownApiResponseError"})
_FINISHED: Final = ("finish_reason", "stop_reason", "prompt_feedback")


class Closable(Protocol):
    """What holds connections."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked. ``failures`` fills with what went wrong, by model, while the chain is walked."""

    messages: list[BaseMessage]
    stop: list[str] | None
    tools: list[dict[str, Any]] | None
    binding: Mapping[str, Any]
    options: Mapping[str, Any]
    failures: dict[str, Exception] = field(default_factory=dict)

    def for_model(self, model: BaseChatModel) -> dict[str, Any]:
        """The keyword arguments for that model, whose provider has its own form for tools."""
        if self.tools is None:
            return dict(self.options)
        bound = model.bind_tools(self.tools, **self.binding)
        assert isinstance(bound, RunnableBinding)
        return {**bound.kwargs, **self.options}


class ModelLink:
    """``provider``'s ``model``. ``build`` makes it, and gives the client to close with it (it may take seconds, and
    runs in a thread). ``calls`` and ``streams`` are the pipelines for whole answers and for streamed ones.
    """

    def __init__(
        self,
        provider: str,
        model: str,
        build: Callable[[], tuple[BaseChatModel, Closable | None]],
        *,
        calls: Pipeline,
        streams: Pipeline,
    ) -> None:
        self.provider = provider
        self.model = model
        self.name = f"{provider}:{model}"
        self.calls = calls
        self.streams = streams
        self._build = build
        self._lock = threading.Lock()
        self._built: tuple[BaseChatModel, Closable | None] | None = None

    async def ready(self) -> BaseChatModel:
        """The model, built if it is not yet."""
        if self._built is None:
            await asyncio.to_thread(self._build_once)
        assert self._built is not None
        return self._built[0]

    def _build_once(self) -> None:
        with self._lock:
            if self._built is None:
                self._built = self._build()

    async def aclose(self) -> None:
        """Close the connections of the model, if it was ever built."""
        if self._built is not None and self._built[1] is not None:
            await self._built[1].aclose()

    async def answer(self, question: Question) -> ChatResult:
        """The model's answer. Raises what the pipeline raises, and notes it in ``question.failures``."""
        model = await self.ready()
        try:
            result = await self.calls.call(self._ask, model, question)
        except Exception as exc:
            question.failures[self.name] = exc
            raise
        for generation in result.generations:
            generation.message.response_metadata["answered_by"] = self.name
        return result

    async def stream(self, question: Question) -> AsyncGenerator[ChatGenerationChunk, None]:
        """The model's answer in pieces, the first of which has content. Raises as `answer` does."""
        model = await self.ready()
        try:
            async with aclosing(self.streams.stream(self._ask_stream, model, question)) as chunks:
                marked = False
                async for chunk in chunks:
                    if not marked:
                        chunk.message.response_metadata["answered_by"] = self.name
                        marked = True
                    yield chunk
        except Exception as exc:
            question.failures[self.name] = exc
            raise

    async def _ask(self, model: BaseChatModel, question: Question) -> ChatResult:
        try:
            return await model._agenerate(question.messages, stop=question.stop, **question.for_model(model))
        except Exception as exc:
            if _is_unreadable(exc):
                raise GarbledAnswer(self.name) from None
            raise

    async def _ask_stream(
        self, model: BaseChatModel, question: Question
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Chunks without content are held back until one has some, so that until then all may begin anew."""
        held: list[ChatGenerationChunk] = []
        begun = finished = False
        try:
            chunks = model._astream(question.messages, stop=question.stop, **question.for_model(model))
            async with aclosing(_generator(chunks)) as pieces:
                async for chunk in pieces:
                    finished = finished or _finishes(chunk)
                    begun = begun or _has_content(chunk)
                    held.append(chunk)
                    if begun:
                        for piece in held:
                            yield piece
                        held.clear()
        except Exception as exc:
            if _is_unreadable(exc):
                raise GarbledAnswer(self.name) from None
            raise
        if not finished:
            raise TruncatedAnswer(self.name)
        for piece in held:
            yield piece


async def _generator(chunks: Any) -> AsyncGenerator[ChatGenerationChunk, None]:
    """``chunks`` as a generator that can be closed, whatever iterator the model gives."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _is_unreadable(exc: Exception) -> bool:
    return isinstance(exc, (json.JSONDecodeError, UnicodeDecodeError)) or type(exc).__name__ in _UNREADABLE


def _has_content(chunk: ChatGenerationChunk) -> bool:
    message = chunk.message
    return bool(message.content) or (isinstance(message, AIMessageChunk) and bool(message.tool_call_chunks))


def _finishes(chunk: ChatGenerationChunk) -> bool:
    """Whether the provider said in this chunk why the answer ends."""
    told = {**(chunk.generation_info or {}), **chunk.message.response_metadata}
    return any(told.get(key) for key in _FINISHED) or getattr(chunk.message, "chunk_position", None) == "last"
