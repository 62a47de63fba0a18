"""A stand-in for a language model: deterministic, without a network, and honest about it.

It follows a few rules on the last human message, calls the tools that are bound to it, and answers from their results
and from the messages it is given. It exists so that the whole path (tool loop, sessions, streaming) runs with no key.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

__all__ = ["LABEL", "OfflineChatModel"]

LABEL: Final = "[offline model, not a language model]"

_METADATA: Final = {"model_name": "offline", "model_provider": "offline", "offline": True}
_DATE: Final = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_EXPRESSION: Final = re.compile(r"[\d(][\d\s.()+\-*/%^]*[\d)]")
_OPERATION: Final = re.compile(r"[\d)]\s*(?:\*\*|//|[+\-*/%^])\s*[-+(]*\s*[\d(]")
_ZONE: Final = re.compile(r"\b([A-Z][A-Za-z]+/[A-Z][A-Za-z_]+)\b")
_QUOTED: Final = re.compile(r"[`\"]([^`\"]+)[`\"]")


def _rule(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_SIGNS: Final = (
    (_rule(r"\bplus\b"), "+"),
    (_rule(r"\bminus\b"), "-"),
    (_rule(r"\b(?:times|multiplied by)\b"), "*"),
    (_rule(r"\bdivided by\b"), "/"),
)
_TIME: Final = _rule(
    r"\b(?:what(?:'s| is)? (?:the )?(?:time|date|day)|current (?:time|date)|time is it|today)\b"
)
_SEARCH: Final = _rule(r"\b(?:search|look up|find|recall|earlier|remember)\b")
_METRICS: Final = _rule(r"\b(?:metrics?|promql|prometheus)\b|`up`|\bwhat is up\b")
_MY_NAME: Final = _rule(r"\bmy name is\s+([A-Za-z][\w'-]*)")
_ASK_NAME: Final = _rule(r"\b(?:what(?:'s| is) my name|who am i|do you know my name)\b")
_ASK_HISTORY: Final = _rule(r"\bwhat (?:did|have) I (?:just )?(?:ask|asked|say|said|tell|told)\b")
_TOLD: Final = _rule(r"^\W*(?:please )?(?:remember|note) (?:that|this)\b[\s:,]*((?:.|\n)+)")
_NOT_QUERY: Final = _rule(
    r"\b(?:please|can|could|you|do|did|i|we|me|my|search|look|up|find|recall|earlier|remember|for|the|in|our|about|"
    r"conversations?|messages?|said|what|that|have|from)\b|[^\w\s]"
)


class OfflineChatModel(BaseChatModel):
    """Answers by rules. ``delay`` is the seconds an answer takes, so that waiting can be tried out."""

    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(self.delay)
        return _result(messages, kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(self.delay)
        return _result(messages, kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.sleep(self.delay)
        for chunk in _chunks(reply(messages, _bound_names(kwargs))):
            if run_manager is not None:
                await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk


def reply(messages: Sequence[BaseMessage], tools: frozenset[str]) -> AIMessage:
    """The answer to these messages with these tools bound."""
    turn = max((i for i, message in enumerate(messages) if isinstance(message, HumanMessage)), default=-1)
    if turn < 0:
        return _says("I have been asked nothing yet.")
    results = [message for message in messages[turn + 1 :] if isinstance(message, ToolMessage)]
    if results:
        return _says(_from_results(results))
    asked = _text(messages[turn])
    earlier = [_text(message) for message in messages[:turn] if isinstance(message, HumanMessage)]
    remembered = _from_memory(asked, earlier)
    if remembered is not None:
        return _says(remembered)
    calls = [(name, args) for name, args in _wanted(asked) if name in tools]
    if calls:
        numbered = enumerate(calls)
        return AIMessage(
            content="",
            tool_calls=[
                ToolCall(name=name, args=args, id=f"offline-{turn}-{n}") for n, (name, args) in numbered
            ],
            response_metadata=dict(_METADATA),
        )
    return _says(f"You said: {asked!r}. I can {_abilities(tools)} what was said in this conversation.")


def _from_memory(asked: str, earlier: Sequence[str]) -> str | None:
    if _ASK_NAME.search(asked):
        named = [found[1] for text in earlier if (found := _MY_NAME.search(text))]
        return (
            f"Your name is {named[-1]}." if named else "You have not told me your name in this conversation."
        )
    if _ASK_HISTORY.search(asked):
        said = "; ".join(repr(text) for text in earlier)
        return f"Before this you said: {said}." if said else "This is the first message of our conversation."
    if (found := _MY_NAME.search(asked)) is not None and _arithmetic(asked) is None:
        return f"Hello {found[1]}, I will remember your name in this conversation."
    if (found := _TOLD.search(asked)) is not None:
        return f"I have noted: {found[1]}"
    return None


def _wanted(asked: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tool calls that the rules ask for, whether the tools are bound or not."""
    if (expression := _arithmetic(asked)) is not None:
        yield "calculator", {"expression": expression}
    if _TIME.search(asked):
        zone = _ZONE.search(asked)
        yield "current_time", {"timezone": zone[1]} if zone else {}
    if _METRICS.search(asked):
        quoted = _QUOTED.search(asked)
        yield "prometheus_query", {"query": quoted[1] if quoted else "up"}
    elif _SEARCH.search(asked):
        quoted = _QUOTED.search(asked)
        words = " ".join(_NOT_QUERY.sub(" ", asked).split())
        yield "conversation_search", {"query": quoted[1] if quoted else words or asked}


def _arithmetic(asked: str) -> str | None:
    text = _DATE.sub(" ", asked)
    for words, sign in _SIGNS:
        text = words.sub(sign, text)
    found = [match[0].strip() for match in _EXPRESSION.finditer(text) if _OPERATION.search(match[0])]
    return max(found, key=len) if found else None


def _from_results(results: Sequence[ToolMessage]) -> str:
    said: list[str] = []
    for message in results:
        name, text = message.name or "tool", _text(message)
        if message.status == "error":
            said.append(f"The tool {name} could not help: {text}")
        else:
            said.append(f"The tool {name} says: {text}")
    return "\n".join(said)


def _abilities(tools: frozenset[str]) -> str:
    known = {
        "calculator": "calculate",
        "conversation_search": "search your conversations",
        "current_time": "tell the time",
        "prometheus_query": "ask Prometheus",
    }
    able = [words for name, words in known.items() if name in tools]
    return ", ".join([*able, "and repeat"]) if able else "repeat"


def _text(message: BaseMessage) -> str:
    return str(message.text)


def _says(text: str) -> AIMessage:
    return AIMessage(content=f"{LABEL} {text}", response_metadata=dict(_METADATA))


def _bound_names(kwargs: dict[str, Any]) -> frozenset[str]:
    return frozenset(tool["function"]["name"] for tool in kwargs.get("tools") or ())


def _result(messages: Sequence[BaseMessage], kwargs: dict[str, Any]) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=reply(messages, _bound_names(kwargs)))])


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    for word in re.findall(r"\S+\s*", str(message.content)):
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    calls = [
        tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        for index, call in enumerate(message.tool_calls)
    ]
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="", tool_call_chunks=calls, response_metadata=dict(_METADATA), chunk_position="last"
        )
    )
