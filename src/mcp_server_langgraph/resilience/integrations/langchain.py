"""A chat model that keeps answering: LangChain models behind pipelines, as one LangChain model.

    model = resilient(ChatOpenAI(model="gpt-5.4-mini", max_retries=0), ChatAnthropic(model_name=..., max_retries=0))
    agent = create_agent(model, tools)

It takes the place of ``ModelRetryMiddleware``, ``ModelFallbackMiddleware`` and ``with_retry``/``with_fallbacks``: each
model has a breaker, a retry with a budget, a cooldown that a 429's Retry-After starts, and a share of the total time;
the next model is asked where one is unavailable, and not where the question is at fault. Streams have clocks for the
first piece and between pieces, and one that ends without its provider's reason is an error. What an error of a provider
means: `ModelClassifier`.

Errors: the original one, with a note for each other model that was asked; `TimedOut` after the total time;
`StreamInterrupted` where a stream broke after its first piece. Events: those of the policies, and ``fallback``.
Metrics: those of the policies, and ``fallback_used_total``, ``fallback_failed_total``, ``llm_tokens_total`` and
``llm_cost_total``.
"""

# pyright: reportPrivateUsage=false
# Of the models in the chain it tells what they tell their own traces.

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from ..bulkhead import Bulkhead
from ..circuit_breaker import CircuitBreaker
from ..cooldown import Cooldown
from ..errors import ConfigurationError
from ..pipeline import Pipeline
from ..policy import Policy
from ..quota import Quota
from ..retry import Retry
from ..timeout import Timeout
from ._langchain.asking import TRACED, Binding, Question, SchemaBinding, ToolBinding
from ._langchain.chain import NextModel, Nobody, first_error
from ._langchain.errors import GarbledAnswer, ModelClassifier, ModelFailure, TruncatedAnswer, facts_of, reason
from ._langchain.guard import IDLE_TIMEOUT, LONGEST_COOLDOWN, Clocks, ModelPolicies, shared_policies
from ._langchain.link import ModelLink
from ._langchain.names import common_profile, name_of, tells_why_it_ends
from ._langchain.quota import ModelQuota, observe_headers
from ._langchain.spending import Price, Spending
from ._langchain.structured import ParserOfWhoAnswered, parsed
from ._langchain.usage import TYPICAL_OUTPUT, Tokens, tokens_of

__all__ = [
    "IDLE_TIMEOUT",
    "LONGEST_COOLDOWN",
    "TYPICAL_OUTPUT",
    "Clocks",
    "GarbledAnswer",
    "GuardedModel",
    "ModelClassifier",
    "ModelFailure",
    "ModelLink",
    "ModelPolicies",
    "ModelQuota",
    "Price",
    "Question",
    "ResilientChatModel",
    "Spending",
    "Tokens",
    "TruncatedAnswer",
    "facts_of",
    "observe_headers",
    "question_of",
    "reason",
    "resilient",
    "tokens_of",
]


@dataclass(frozen=True, slots=True)
class GuardedModel:
    """A model for `resilient` with something of its own.

    ``name``: what answers and metrics call it (default: "provider:model", with the host where that is not the
    provider's own). The policies replace those that all models of that name share; ``bulkhead`` and ``quota`` (a
    `ModelQuota`) have no standard. ``price``: None where it is not known.
    ``finishes``: whether its streams tell why they end, so that one which does not is cut short; None: for providers
    that are known to, and for others once one has told.
    """

    model: BaseChatModel
    name: str | None = None
    retry: Retry | None = None
    cooldown: Cooldown | None = None
    breaker: CircuitBreaker | None = None
    bulkhead: Bulkhead | None = None
    quota: Quota | None = None
    price: Price | None = None
    finishes: bool | None = None


def resilient(
    model: BaseChatModel | GuardedModel,
    *fallbacks: BaseChatModel | GuardedModel,
    name: str = "llm",
    timeout: float | None = None,
    attempt_timeout: float | None = None,
    first_token: float | None = None,
    idle: float = IDLE_TIMEOUT,
) -> ResilientChatModel:
    """The model, with ``fallbacks`` that are asked in turn where the one before is unavailable, as one chat model.

    ``name``: the chain's in metrics and settings; a model's is ``name.provider.model``. ``timeout``: seconds for a
    question in all (None: from the settings, ``LLM_TIMEOUT``, 60). ``attempt_timeout``: seconds for an attempt at one
    model (None: from the settings, else an equal share for each model that is left). ``first_token``: seconds to the
    first piece of a stream (None: as an attempt), ``idle``: between two pieces.

    Switch the retries of the models themselves off (``max_retries=0``; Google's: 1), or attempts multiply.

    Raises `ConfigurationError` for what is no chat model, and for values out of range.
    """
    given = [each if isinstance(each, GuardedModel) else GuardedModel(each) for each in (model, *fallbacks)]
    for label, value in (("attempt_timeout", attempt_timeout), ("first_token", first_token)):
        if value is not None and not value > 0:
            raise ConfigurationError(f"resilient: {label}={value!r} must be above 0 seconds")
    links: list[ModelLink] = []
    for index, each in enumerate(given):
        clocks = Clocks(len(given) - index - 1, idle, timeout, attempt_timeout, first_token)
        links.append(_link(each, name, clocks, {link.name for link in links}))
    models = [each.model for each in given]
    first = models[0]
    return ResilientChatModel(
        links,
        name=name,
        timeout=timeout,
        profile=common_profile(models),
        output_version=first.output_version,
        callbacks=first.callbacks,
        tags=first.tags,
        metadata=first.metadata,
    )


def _check(model: object) -> None:
    if not isinstance(model, BaseChatModel):
        raise ConfigurationError(
            f"resilient: {type(model).__name__} is no chat model; bind tools and options to what it gives"
        )


def _link(given: GuardedModel, chain: str, clocks: Clocks, taken: set[str]) -> ModelLink:
    _check(given.model)
    provider, model = name_of(given.model)
    name = given.name or f"{provider}:{model}"
    if name in taken:
        name = next(each for number in range(2, 99) if (each := f"{name}#{number}") not in taken)
    service = f"{chain}.{name.replace(':', '.', 1)}"
    shared = shared_policies(service, followers=clocks.followers)
    policies = ModelPolicies(
        given.retry or shared.retry,
        given.cooldown or shared.cooldown,
        given.breaker or shared.breaker,
        given.bulkhead,
        given.quota,
        Spending(name, given.price),
    )
    finishes = tells_why_it_ends(provider) if given.finishes is None else given.finishes
    return ModelLink(name, service, given.model, policies, clocks, finishes=finishes)


class ResilientChatModel(BaseChatModel):
    """A chain of models as one; made by `resilient`.

    ``response_metadata["answered_by"]`` of an answer names the model that gave it, ``["degraded"]`` why it was not the
    first one (absent where it was); the layer's degradations are noted too.

    ``invoke`` and ``stream`` guard plain calls with everything but the clocks, as nothing can cut a thread: give the
    models a timeout of their own. ``stream`` gives the whole answer as one piece.
    """

    refuses_plain: ClassVar[str | None] = None

    _links: tuple[ModelLink, ...] = PrivateAttr()
    _answers: Pipeline = PrivateAttr()
    _streams: Pipeline = PrivateAttr()
    _plain: Pipeline = PrivateAttr()

    def __init__(
        self,
        links: Sequence[ModelLink],
        *,
        name: str = "llm",
        timeout: float | None = None,
        answers: Sequence[Policy] = (),
        streams: Sequence[Policy] = (),
        nobody: Nobody = first_error,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        self._links = tuple(links)
        others, classifier = self._links[1:], ModelClassifier(last=True)

        def pipeline(operation: str, *outside: Policy) -> Pipeline:
            policies = (*outside, NextModel(others, nobody))
            return Pipeline(name, *policies, operation=operation, classifier=classifier)

        self._answers = pipeline("answer", *answers, Timeout(timeout))
        self._streams = pipeline("stream", *streams, Timeout(timeout))
        self._plain = pipeline("answer", *answers)

    @property
    def _llm_type(self) -> str:
        return "resilient"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        known = {link.name: dict(link.model._identifying_params) for link in self._links if link.model}
        return {"models": [link.name for link in self._links], "parameters": known}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        first = self._links[0]
        if first.model is not None:
            return first.model._get_ls_params(stop=stop, **kwargs)
        provider, _, model = first.name.partition(":")
        return LangSmithParams(ls_provider=provider, ls_model_name=model, ls_model_type="chat")

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """What traces show: the binding in the form of the first model."""
        binding, first = kwargs.pop("binding", None), self._links[0].model
        shown = binding.arguments(first) if isinstance(binding, Binding) and first is not None else {}
        return super()._get_invocation_params(stop=stop, **shown, **kwargs)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return self._links[0].ready_now()._combine_llm_outputs(llm_outputs)

    def get_token_ids(self, text: str) -> list[int]:
        """The first model's."""
        return self._links[0].ready_now().get_token_ids(text)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; each model takes them over in its own form when it is asked. ``kwargs`` are what its own
        ``bind_tools`` takes.
        """
        for link in self._links:
            if link.model is not None and type(link.model).bind_tools is BaseChatModel.bind_tools:
                raise NotImplementedError(f"{link.name} cannot be given tools")
        traced = {name: kwargs.pop(name) for name in TRACED if name in kwargs}
        options = kwargs if tool_choice is None else {"tool_choice": tool_choice, **kwargs}
        return self.bind(binding=ToolBinding(tools, options), **traced)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Ask for an answer with the structure of ``schema``, each model in the way of its provider. ``kwargs`` are
        what its own ``with_structured_output`` takes.
        """
        binding = SchemaBinding(schema, kwargs)
        models = {link.name: link for link in self._links}
        parser = ParserOfWhoAnswered(lambda name: binding.parser(models[name].ready_now()))
        traced = {"kwargs": kwargs, "schema": schema}
        return parsed(
            self.bind(binding=binding, ls_structured_output_format=traced), parser, include_raw=include_raw
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.refuses_plain is not None:
            raise NotImplementedError(self.refuses_plain)
        return self._plain.call_sync(self._links[0].answer_now, question_of(messages, stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await self._answers.call(self._links[0].answer, question_of(messages, stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        question = question_of(messages, stop, kwargs)
        async with aclosing(self._streams.stream(self._links[0].stream, question)) as chunks:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                yield chunk


def question_of(messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> Question:
    options = dict(kwargs)
    return Question(messages, stop, cast("Binding | None", options.pop("binding", None)), options)
