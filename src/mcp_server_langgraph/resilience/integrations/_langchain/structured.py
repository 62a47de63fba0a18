"""Answers with a structure: each model is input in the way of its provider, and its own parser reads what it says."""

# ruff: noqa: A002 (LangChain's name of the argument)

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableMap, RunnablePassthrough

__all__ = ["ParserOfWhoAnswered", "parsed"]


class ParserOfWhoAnswered(Runnable[BaseMessage, Any]):
    """Reads an answer with the parser that ``parser_for`` has for the model that gave it."""

    def __init__(self, parser_for: Callable[[str], Runnable[Any, Any]]) -> None:
        self._parser_for = parser_for

    def _parser(self, message: BaseMessage) -> Runnable[Any, Any]:
        return self._parser_for(str(message.response_metadata.get("answered_by")))

    def invoke(self, input: BaseMessage, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The structure of a whole answer."""
        return self._parser(input).invoke(input, config, **kwargs)

    async def ainvoke(self, input: BaseMessage, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The structure of a whole answer."""
        return await self._parser(input).ainvoke(input, config, **kwargs)

    def transform(
        self, input: Iterator[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """What is known of the structure so far; the first piece of an answer says who gives it."""
        for first in input:
            yield from self._parser(first).transform(chain([first], input), config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """What is known of the structure so far; the first piece of an answer says who gives it."""
        async for first in input:
            async for known in self._parser(first).atransform(_from(first, input), config, **kwargs):
                yield known


def parsed(model: Runnable[Any, Any], parser: Runnable[Any, Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """``model`` with ``parser`` behind it, in LangChain's two forms."""
    if not include_raw:
        return model | parser
    both = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    neither = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | both.with_fallbacks([neither], exception_key="parsing_error")


async def _from(first: BaseMessage, rest: AsyncIterator[BaseMessage]) -> AsyncIterator[BaseMessage]:
    yield first
    async for piece in rest:
        yield piece
