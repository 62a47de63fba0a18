"""A chat model that does what it is told, for tests in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from mcp_server_langgraph.llm.factory import guarded_link
from mcp_server_langgraph.llm.guarded import GuardedChatModel
from mcp_server_langgraph.resilience import Bulkhead
from mcp_server_langgraph.settings import ModelName

__all__ = ["ScriptedModel", "StatusError", "guarded", "waits"]


class StatusError(Exception):
    """The shape of an SDK's HTTP error."""

    def __init__(self, status_code: int, retry_after: float | None = None) -> None:
        super().__init__(f"Error code: {status_code}")
        self.status_code = status_code
        self.headers = {} if retry_after is None else {"retry-after": str(retry_after)}


class waits:  # noqa: N801
    """A step of the script: take so many seconds, then answer, or raise ``error``."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds = seconds
        self.error = error


Step = Exception | waits | str | AIMessage


class ScriptedModel(BaseChatModel):
    """Plays ``script`` one step a call, its last step for ever. A stream gives one piece a word, a ``pause`` apart."""

    _script: list[Step] = PrivateAttr()
    _seen: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    _pause: float = PrivateAttr()

    def __init__(self, *script: Step, pause: float = 1, **fields: Any) -> None:
        super().__init__(**fields)
        self._pause = pause
        self._script = list(script) or ["fine"]

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self._seen)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(
            tools=[{"bound": convert_to_openai_tool(tool)["function"]["name"]} for tool in tools], **kwargs
        )

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=await self._play(kwargs))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        message = await self._play(kwargs)
        for word in str(message.content).split():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
            await asyncio.sleep(self._pause)
        yield ChatGenerationChunk(
            message=AIMessageChunk(content=""), generation_info={"finish_reason": "stop"}
        )

    async def _play(self, kwargs: dict[str, Any]) -> AIMessage:
        self._seen.append({name: value for name, value in kwargs.items() if value is not None})
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, waits):
            await asyncio.sleep(step.seconds)
            if step.error is not None:
                raise step.error
        return step if isinstance(step, AIMessage) else AIMessage(step if isinstance(step, str) else "fine")


def guarded(**models: ScriptedModel) -> GuardedChatModel:
    """The models in order, each its own provider, as the factory guards them."""
    links = []
    for index, (name, model) in enumerate(models.items()):
        followers = len(models) - index - 1
        bulkhead = Bulkhead(name=f"llm.{name}")
        link = guarded_link(
            ModelName(name, "m"), lambda model=model: (model, None), bulkhead=bulkhead, followers=followers
        )
        link.ready_now()  # in virtual time no thread can be waited for
        links.append(link)
    return GuardedChatModel(links)
