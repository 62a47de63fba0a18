"""One model of a chain, asked through the pipelines that guard it."""

# pyright: reportPrivateUsage=false
# A model is asked below its callbacks and traces: those are the chain's, and would tell of each question twice.

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import cached_property
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from ...errors import StreamInterrupted
from ...pipeline import Pipeline
from .asking import Question
from .errors import ModelClassifier
from .guard import Clocks, ModelPolicies, pipeline
from .quota import hearing, hearing_stream
from .reading import Ending, as_stream, pieces, readable

__all__ = ["ModelLink"]


class ModelLink:
    """A model behind its pipelines. ``name`` is what answers and reasons call it, ``service`` its name in metrics and
    settings.

    ``finishes``: whether its streams tell why they end, so that one which does not is cut short; None: once one has.
    """

    def __init__(
        self,
        name: str,
        service: str,
        model: BaseChatModel | None,
        policies: ModelPolicies,
        clocks: Clocks,
        *,
        finishes: bool | None = None,
    ) -> None:
        self.name = name
        self.service = service
        self.model = model
        self.ending = Ending(finishes)
        self._policies = policies
        self._classifier = ModelClassifier(last=not clocks.followers)
        self.calls = pipeline(service, "answer", policies, self._classifier, clocks.of_answer())
        self.streams = pipeline(service, "stream", policies, self._classifier, clocks.of_stream())

    @cached_property
    def plain_calls(self) -> Pipeline:
        """For plain functions, which nothing can cut: the same without clocks."""
        return pipeline(self.service, "answer", self._policies, self._classifier, None)

    async def ready(self) -> BaseChatModel:
        """The model."""
        return self.ready_now()

    def ready_now(self) -> BaseChatModel:
        """The model, which may block the thread to be made."""
        assert self.model is not None
        return self.model

    async def answer(self, question: Question) -> ChatResult:
        """The model's answer. Raises what the pipeline raises, and notes it in ``question.failures``."""
        model = self.model or await self.ready()
        try:
            result = await self.calls.call(self._ask, model, question)
        except Exception as exc:
            question.failures[self.name] = exc
            raise
        return self._signed(result)

    def answer_now(self, question: Question) -> ChatResult:
        """The same in a plain function."""
        model = self.ready_now()
        try:
            result = self.plain_calls.call_sync(self._ask_now, model, question)
        except Exception as exc:
            question.failures[self.name] = exc
            raise
        return self._signed(result)

    def _signed(self, result: ChatResult) -> ChatResult:
        for generation in result.generations:
            generation.message.response_metadata["answered_by"] = self.name
        return result

    async def stream(self, question: Question) -> AsyncGenerator[ChatGenerationChunk, None]:
        """The model's answer in pieces, the first of which has content. Raises as `answer` does."""
        model = self.model or await self.ready()
        try:
            async with aclosing(self.streams.stream(self._ask_stream, model, question)) as chunks:
                marked = False
                async for chunk in chunks:
                    if not marked:
                        chunk.message.response_metadata["answered_by"] = self.name
                        marked = True
                    yield chunk
        except StreamInterrupted as exc:
            # The chain's own interruption tells what the caller has received, and needs only the reason.
            why = exc.__cause__ if isinstance(exc.__cause__, Exception) else exc
            question.failures[self.name] = why
            raise why from why.__cause__
        except Exception as exc:
            question.failures[self.name] = exc
            raise

    async def _ask(self, model: BaseChatModel, question: Question) -> ChatResult:
        if model.rate_limiter is not None:
            await model.rate_limiter.aacquire(blocking=True)
        with readable(self.name), hearing(question.attempt.hear):
            return await model._agenerate(question.messages, stop=question.stop, **question.for_model(model))

    def _ask_now(self, model: BaseChatModel, question: Question) -> ChatResult:
        if model.rate_limiter is not None:
            model.rate_limiter.acquire(blocking=True)
        with readable(self.name), hearing(question.attempt.hear):
            return model._generate(question.messages, stop=question.stop, **question.for_model(model))

    async def _ask_stream(
        self, model: BaseChatModel, question: Question
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        if model.rate_limiter is not None:
            await model.rate_limiter.aacquire(blocking=True)
        chunks: AsyncIterator[ChatGenerationChunk]
        asked: dict[str, Any] = question.for_model(model)
        options: dict[str, Any] = {**asked, "stream": True, "run_manager": None}
        if model._should_stream(async_api=True, **options):
            chunks = model._astream(question.messages, stop=question.stop, **asked)
        else:
            chunks = as_stream(model._agenerate(question.messages, stop=question.stop, **asked))
        answer = hearing_stream(pieces(chunks, self.name, self.ending), question.attempt.hear)
        async with aclosing(answer):
            async for piece in answer:
                yield piece
