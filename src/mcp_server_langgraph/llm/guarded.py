"""A chat model that keeps answering: a chain of models, each behind a pipeline of its own, as one LangChain model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from mcp_server_langgraph.resilience import Fallback, LastGood, Pipeline, Rung, Timeout

from .chain import NextModel
from .last_answer import LastAnswer, LastAnswerAsChunk
from .links import ModelLink, Question
from .outcomes import ModelClassifier

__all__ = ["GuardedChatModel"]

# What LangChain itself takes out of the keyword arguments of a call, for its traces.
_TRACED: Final = ("ls_structured_output_format", "structured_output_format")


class GuardedChatModel(BaseChatModel):
    """Asks the first of ``links``, the next where that one is unavailable, and at last its memory of earlier answers.

    An answer's ``response_metadata["answered_by"]`` names the model that gave it. What is degraded is noted with the
    layer's degradations. Asynchronous only: ``invoke`` and ``stream`` raise NotImplementedError.

    Raises ModelsUnavailable where nobody could answer; TimedOut after the total time; and as they are the errors for
    which another model is no help (context too long, refused content, bad request, wrong key, our own limits).
    """

    _links: tuple[ModelLink, ...] = PrivateAttr()
    _answers: Pipeline = PrivateAttr()
    _streams: Pipeline = PrivateAttr()
    _last: LastAnswer = PrivateAttr()

    def __init__(self, links: Sequence[ModelLink], *, name: str = "llm") -> None:
        super().__init__()
        last = LastAnswer()
        self._links = tuple(links)
        self._last = last
        self._answers = _chained(name, "answer", self._links, last)
        self._streams = _chained(name, "stream", self._links, LastAnswerAsChunk(last))

    @property
    def _llm_type(self) -> str:
        return "guarded"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"models": [link.name for link in self._links]}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        first = self._links[0]
        return LangSmithParams(ls_provider=first.provider, ls_model_name=first.model, ls_model_type="chat")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools in a form that each provider's model can take over when it is asked; ``kwargs`` are what its own
        ``bind_tools`` takes.
        """
        traced = {name: kwargs.pop(name) for name in _TRACED if name in kwargs}
        binding = kwargs if tool_choice is None else {"tool_choice": tool_choice, **kwargs}
        return self.bind(
            tools=[convert_to_openai_tool(tool) for tool in tools], tool_binding=binding, **traced
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("a guarded model is asynchronous: use ainvoke, astream or abatch")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await self._answers.call(self._links[0].answer, _question(messages, stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        question = _question(messages, stop, kwargs)
        whole: ChatGenerationChunk | None = None
        async with aclosing(self._streams.stream(self._links[0].stream, question)) as chunks:
            async for chunk in chunks:
                whole = chunk if whole is None else whole + chunk
                if run_manager is not None:
                    await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                yield chunk
        if whole is not None and "age_seconds" not in whole.message.response_metadata:
            said = ChatResult(generations=[ChatGeneration(message=AIMessage(**_said(whole)))])
            self._last.remember((question,), {}, said, asyncio.get_running_loop().time())

    async def prepare(self) -> None:
        """Build every model of the chain now (their packages take seconds to import), not when it is first asked."""
        for link in self._links:
            await link.ready()

    async def aclose(self) -> None:
        """Close the connections of all models."""
        for link in self._links:
            await link.aclose()


def _chained(name: str, operation: str, links: Sequence[ModelLink], last: LastGood) -> Pipeline:
    rung = Rung(last, source="earlier answer")
    policies = (Fallback(rung), Timeout(), NextModel(links[1:]))
    return Pipeline(name, *policies, operation=operation, classifier=ModelClassifier(last=True))


def _question(messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> Question:
    options = dict(kwargs)
    return Question(messages, stop, options.pop("tools", None), options.pop("tool_binding", {}), options)


def _said(chunk: ChatGenerationChunk) -> dict[str, Any]:
    message = chunk.message
    calls = message.tool_calls if isinstance(message, AIMessageChunk) else []
    return {"content": message.content, "tool_calls": calls, "response_metadata": message.response_metadata}
