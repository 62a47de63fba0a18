"""Reading what a model sends: what cannot be read, and streams that end though nobody said so."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from contextlib import aclosing, contextmanager
from typing import Any, Final

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from .errors import GarbledAnswer, TruncatedAnswer

__all__ = ["Ending", "as_stream", "pieces", "readable"]

_UNREADABLE: Final = frozenset({"APIResponseValidationError", "UnknownApiResponseError"})
_FINISHED: Final = ("done_reason", "finish_reason", "prompt_feedback", "stopReason", "stop_reason")


class Ending:
    """Whether a model's streams tell why they end. ``expected`` None: it is expected once one of them has told."""

    def __init__(self, expected: bool | None) -> None:
        self.expected = bool(expected)
        self._learns = expected is None

    def told(self) -> None:
        """One has told."""
        if self._learns:
            self.expected = True


@contextmanager
def readable(model: str) -> Generator[None]:
    """Raise `GarbledAnswer` for an answer that cannot be read."""
    try:
        yield
    except Exception as exc:
        if isinstance(exc, (json.JSONDecodeError, UnicodeDecodeError)) or type(exc).__name__ in _UNREADABLE:
            raise GarbledAnswer(model) from None
        raise


async def pieces(
    chunks: AsyncIterator[ChatGenerationChunk], model: str, ending: Ending
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The pieces of a stream. Those without content are held back until one has some, so that until then all may begin
    anew. Raises `TruncatedAnswer` where it ends without a reason.
    """
    held: list[ChatGenerationChunk] = []
    begun = finished = False
    with readable(model):
        async with aclosing(_generator(chunks)) as source:
            async for chunk in source:
                finished = finished or _finishes(chunk)
                begun = begun or _has_content(chunk)
                held.append(chunk)
                if begun:
                    for piece in held:
                        yield piece
                    held.clear()
    if finished:
        ending.told()
    elif ending.expected:
        raise TruncatedAnswer(model)
    for piece in held:
        yield piece


async def as_stream(answer: Awaitable[ChatResult]) -> AsyncGenerator[ChatGenerationChunk, None]:
    """A whole answer as the only piece of a stream."""
    (generation, *_) = (await answer).generations
    said = generation.message
    told: dict[str, Any] = {**said.model_dump(exclude={"type"}), "chunk_position": "last"}
    piece = AIMessageChunk(**told)
    yield ChatGenerationChunk(message=piece, generation_info=generation.generation_info)


async def _generator(chunks: Any) -> AsyncGenerator[ChatGenerationChunk, None]:
    """``chunks`` as a generator that can be closed, whatever iterator the model gives."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _has_content(chunk: ChatGenerationChunk) -> bool:
    message = chunk.message
    return bool(message.content) or (isinstance(message, AIMessageChunk) and bool(message.tool_call_chunks))


def _finishes(chunk: ChatGenerationChunk) -> bool:
    """Whether the provider said in this chunk why the answer ends."""
    told = {**(chunk.generation_info or {}), **chunk.message.response_metadata}
    return any(told.get(key) for key in _FINISHED) or getattr(chunk.message, "chunk_position", None) == "last"
