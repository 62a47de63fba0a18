"""The server's chat model: the layer's chain of models, with its memory of earlier answers behind them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from mcp_server_langgraph.resilience import Fallback, LastGood, Rejected, Rung
from mcp_server_langgraph.resilience.integrations.langchain import (
    ModelClassifier,
    ModelFailure,
    ResilientChatModel,
    question_of,
    reason,
)

from .last_answer import LastAnswer, LastAnswerAsChunk, asked_by, asker
from .links import LazyLink

__all__ = ["GuardedChatModel", "ModelsUnavailable"]


class ModelsUnavailable(ModelFailure):
    """No model of the chain could answer. ``retry_after`` is in seconds, None where nobody said."""

    def __init__(self, reasons: dict[str, str], retry_after: float | None = None) -> None:
        self.reasons = reasons
        self.retry_after = retry_after
        tried = "; ".join(f"{model}: {why}" for model, why in reasons.items())
        hint = "" if retry_after is None else f"; retry after {retry_after:.3g} s"
        super().__init__(f"no model could answer ({tried}){hint}")


class GuardedChatModel(ResilientChatModel):
    """Asks the first of ``links``, the next where that one is unavailable, and at last its memory of earlier answers.

    ``remembers``: seconds for which an answer is good for that (0: none is). Callers are told apart by `asked_by`.

    Asynchronous only: ``invoke`` raises NotImplementedError.

    Raises ModelsUnavailable where nobody could answer; TimedOut after the total time; and as they are the errors for
    which another model is no help (context too long, refused content, bad request, wrong key, our own limits).
    """

    refuses_plain: ClassVar[str | None] = "a guarded model is asynchronous: use ainvoke, astream or abatch"

    _lazy: tuple[LazyLink, ...] = PrivateAttr()
    _last: LastAnswer | None = PrivateAttr()

    def __init__(
        self, links: Sequence[LazyLink], *, name: str = "llm", remembers: float = LastAnswer.MAX_AGE
    ) -> None:
        last = LastAnswer(remembers) if remembers else None
        answers = () if last is None else (_rung(last),)
        streams = () if last is None else (_rung(LastAnswerAsChunk(last)),)
        super().__init__(links, name=name, answers=answers, streams=streams, nobody=_nobody)
        self._lazy = tuple(links)
        self._last = last

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        owner, whole = asker(), None
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            whole = chunk if whole is None else whole + chunk
            yield chunk
        if self._last and whole is not None and "age_seconds" not in whole.message.response_metadata:
            said = ChatResult(generations=[ChatGeneration(message=AIMessage(**_said(whole)))])
            question = question_of(messages, stop, kwargs)
            with asked_by(owner):
                self._last.remember((question,), {}, said, asyncio.get_running_loop().time())

    async def prepare(self) -> None:
        """Build every model of the chain now (their packages take seconds to import), not when it is first asked."""
        for link in self._lazy:
            await link.ready()

    async def aclose(self) -> None:
        """Close the connections of all models."""
        for link in self._lazy:
            await link.aclose()


def _rung(last: LastGood) -> Fallback:
    """Also for whom our own limits keep from asking: where all places are taken by calls that hang, for one."""
    return Fallback(Rung(last, source="earlier answer", also=(Rejected,)))


def _nobody(failures: Mapping[str, Exception], last: Exception) -> Exception:
    classify = ModelClassifier(last=True)
    told = [classify(exc).retry_after for exc in failures.values()]
    waits = [wait for wait in told if wait is not None]
    reasons = {model: reason(exc) for model, exc in failures.items()}
    unavailable = ModelsUnavailable(reasons, min(waits, default=None))
    unavailable.__cause__ = last
    return unavailable


def _said(chunk: ChatGenerationChunk) -> dict[str, Any]:
    message = chunk.message
    calls = message.tool_calls if isinstance(message, AIMessageChunk) else []
    return {"content": message.content, "tool_calls": calls, "response_metadata": message.response_metadata}
