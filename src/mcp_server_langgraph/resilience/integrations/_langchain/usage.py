"""Tokens: those that a question is thought to use, and those that an answer says it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from ...quota import Usage
from .asking import Question

__all__ = ["TYPICAL_OUTPUT", "Tokens", "estimated", "tokens_of"]

TYPICAL_OUTPUT: Final = 1024
"""Tokens of an answer that nobody bounded: a long one, as most are shorter."""

# English prose and code have about four signs for a token. Other scripts have fewer, which the answer then tells.
_SIGNS_PER_TOKEN: Final = 4
# What a message costs beside its text, and what an image or a file does where it is not text.
_MESSAGE: Final = 4
_ATTACHMENT: Final = 1000
_BOUNDS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class Tokens:
    """Tokens that were used. ``cached``: those of the input that came out of the provider's cache."""

    __slots__ = ("cached", "input", "output")

    def __init__(self, input: int = 0, output: int = 0, cached: int = 0) -> None:  # noqa: A002 (the providers' word)
        self.input = input
        self.output = output
        self.cached = cached

    def __bool__(self) -> bool:
        return bool(self.input or self.output)

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output, self.cached + other.cached)


def estimated(question: Question, *, output: int = TYPICAL_OUTPUT) -> Usage:
    """What a question is thought to use. ``output``: tokens of an answer that the question does not bound."""
    signs = sum(_MESSAGE * _SIGNS_PER_TOKEN + _signs(message) for message in question.messages)
    if question.binding is not None:
        signs += question.binding.signs
    bounds = [bound for name in _BOUNDS if isinstance(bound := question.options.get(name), int) and bound > 0]
    return Usage(signs / _SIGNS_PER_TOKEN, min(bounds, default=output))


def _signs(message: BaseMessage) -> int:
    calls = len(repr(message.tool_calls)) if isinstance(message, AIMessage) and message.tool_calls else 0
    if isinstance(message.content, str):
        return calls + len(message.content)
    return calls + sum(map(_signs_of_block, message.content))


def _signs_of_block(block: str | dict[Any, Any]) -> int:
    if isinstance(block, str):
        return len(block)
    text = block.get("text")
    return len(text) if isinstance(text, str) else _ATTACHMENT * _SIGNS_PER_TOKEN


def tokens_of(answer: object) -> Tokens:
    """What an answer, or a piece of a stream, says it used; nothing where it says nothing. The pieces of a stream say
    what each of them adds.
    """
    generation = answer.generations[0] if isinstance(answer, ChatResult) else answer
    message = generation.message if isinstance(generation, ChatGeneration) else None
    told = message.usage_metadata if isinstance(message, AIMessage) else None
    if told is None:
        return Tokens()
    details: Mapping[str, Any] = told.get("input_token_details") or {}
    return Tokens(told["input_tokens"], told["output_tokens"], details.get("cache_read") or 0)
