"""A small language model on this machine, for the time when no other can be reached: SmolLM2, 135 million parameters.

llama.cpp's own server runs it in a child process, which takes 250 MB and is started when it is first asked, and anew
when it has died, or is found to hang after a caller has waited in vain. It answers in words only: it calls no tools,
and is given none. What it says is noted as a degradation, also where it is the only model that was asked for, because
the agent then does without its tools.

Errors: `LocalServerDown` while its process is dead, and what an OpenAI-compatible server's client raises.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr, SecretStr

from mcp_server_langgraph.resilience.degradation import note_degradation
from mcp_server_langgraph.resilience.integrations.langchain import TruncatedAnswer
from mcp_server_langgraph.settings import LOCAL_MODEL

from ._local.history import plain_chat
from ._local.server import Endpoint, LocalServer, LocalServerDown
from .links import Closable
from .local_weights import weights
from .providers import COMPATIBLE, Access, build_model, load_package

__all__ = ["LocalChatModel", "LocalServerDown"]

WHY: Final = "a small model on this machine, without tools"

CONTEXT: Final = 2048
"""Tokens; what `plain_chat` gives, and an answer, always fit. Each costs 23 kB of memory."""
ANSWER: Final = 256
"""Tokens of an answer, which take 5 to 10 s."""


class LocalChatModel(BaseChatModel):
    """The local model. Asynchronous only. ``timeout`` bounds each wait for a piece of its answer, in seconds."""

    timeout: float = 60.0

    _server: LocalServer = PrivateAttr()
    _asked_at: Endpoint | None = PrivateAttr(None)
    _model: BaseChatModel = PrivateAttr()
    _client: Closable | None = PrivateAttr(None)

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        load_package(COMPATIBLE)
        told = {"weights": str(weights()), "alias": LOCAL_MODEL, "context": CONTEXT, "answer": ANSWER}
        self._server = LocalServer(told)

    @property
    def _llm_type(self) -> str:
        return "local"

    @property
    def server(self) -> LocalServer:
        """The child process."""
        return self._server

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Leave the tools out: a model of this size makes no calls that could be trusted."""
        return self.bind()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("the local model is asynchronous: use ainvoke or astream")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # As a stream, because an answer in one piece is written to its end when nobody waits for it any more.
        async with aclosing(self._astream(messages, stop, run_manager, **kwargs)) as chunks:
            result = await agenerate_from_stream(chunks)
        if not (result.generations[0].generation_info or {}).get("finish_reason"):
            raise TruncatedAnswer(f"local:{LOCAL_MODEL}")
        return result

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        model = await self._reached()
        note_degradation("llm", WHY, f"local:{LOCAL_MODEL}")
        watch = self._server.watch()
        async with aclosing(_generator(model._astream(plain_chat(messages), stop=stop))) as chunks:
            try:
                async for chunk in chunks:
                    watch.heard()
                    yield chunk
                    watch.waits()
            except (
                BaseException
            ):  # of a reader who only reads no further it tells nothing: the wait was answered
                watch.given_up()
                raise

    async def _reached(self) -> BaseChatModel:
        """The client of the child that runs now; each child has an address and a key of its own."""
        endpoint = await self._server.endpoint()
        if endpoint != self._asked_at:
            old = self._client
            # A proxy does not reach this machine's own loopback, and is not to hear the question.
            access = Access(self.timeout, SecretStr(endpoint.key), f"{endpoint.url}/v1", proxies=False)
            self._model, self._client = build_model(COMPATIBLE, LOCAL_MODEL, access)
            self._asked_at = endpoint
            if old is not None:
                await old.aclose()
        return self._model

    async def aclose(self) -> None:
        """End the child process and close the connections to it."""
        await self._server.aclose()
        if self._client is not None:
            await self._client.aclose()


def _generator(chunks: AsyncIterator[ChatGenerationChunk]) -> AsyncGenerator[ChatGenerationChunk, None]:
    """What LangChain's models give is a generator, which must be closed for the connection to be."""
    return cast("AsyncGenerator[ChatGenerationChunk, None]", chunks)
