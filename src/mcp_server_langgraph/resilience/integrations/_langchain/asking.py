"""What a chain of models is asked, and how tools and schemas are bound to whichever model is asked at last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence
from langchain_core.utils.function_calling import convert_to_openai_tool

from ...errors import ConfigurationError

__all__ = ["TRACED", "Attempt", "Binding", "Question", "SchemaBinding", "ToolBinding"]

# What LangChain itself takes out of the keyword arguments of a call, for its traces.
TRACED: Final = ("ls_structured_output_format", "structured_output_format")


class Binding(ABC):
    """Something bound to a chain, in a form that each provider's model takes over when it is asked.

    Its ``repr`` tells what is bound, for whoever compares questions by it (LangChain's caches do).
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[BaseChatModel, dict[str, Any]]] = {}

    def arguments(self, model: BaseChatModel) -> dict[str, Any]:
        """The keyword arguments of a call of that model."""
        known = self._known.get(id(model))
        if known is None:
            given = self._bind(model)
            known = self._known[id(model)] = (model, given)
        return known[1]

    @cached_property
    def signs(self) -> int:
        """How long it is, about, as a provider is sent it."""
        return len(repr(self))

    @abstractmethod
    def _bind(self, model: BaseChatModel) -> dict[str, Any]: ...


class ToolBinding(Binding):
    """Tools; ``options`` are what ``bind_tools`` takes beside them."""

    def __init__(self, tools: Sequence[Any], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.tools = list(tools)
        self.options = options

    def _bind(self, model: BaseChatModel) -> dict[str, Any]:
        return _arguments_of(model.bind_tools(self.tools, **self.options), model)

    def __repr__(self) -> str:
        tools: list[Any] = [
            tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in self.tools
        ]
        return f"ToolBinding({tools!r}, {dict(self.options)!r})"


class SchemaBinding(Binding):
    """The schema of the answer; ``options`` are what ``with_structured_output`` takes beside it."""

    def __init__(self, schema: Any, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.schema = schema
        self.options = options
        self._parsers: dict[int, Runnable[Any, Any]] = {}

    def parser(self, model: BaseChatModel) -> Runnable[Any, Any]:
        """What makes the structure of that model's answer."""
        self.arguments(model)
        return self._parsers[id(model)]

    def _bind(self, model: BaseChatModel) -> dict[str, Any]:
        # All models give "the bound model | a parser"; one that is made otherwise is asked by way of its tools.
        made = model.with_structured_output(self.schema, **self.options)
        if not _begins_with(made, model):
            made = BaseChatModel.with_structured_output(model, self.schema, **self.options)
        assert isinstance(made, RunnableSequence)
        first, *rest = made.steps
        self._parsers[id(model)] = rest[0] if len(rest) == 1 else RunnableSequence(*rest)
        return _arguments_of(first, model)

    def __repr__(self) -> str:
        return f"SchemaBinding({convert_to_openai_tool(self.schema)!r}, {dict(self.options)!r})"


@dataclass(slots=True)
class Attempt:
    """What is known of the attempt that is under way. ``hear``: who wants to know the headers of its answer."""

    hear: Callable[[Mapping[str, str]], None] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked. ``failures`` fills with what went wrong, by model, while the chain is walked; of the
    models one is asked at a time, in the ``attempt``.
    """

    messages: list[BaseMessage]
    stop: list[str] | None
    binding: Binding | None
    options: Mapping[str, Any]
    failures: dict[str, Exception] = field(default_factory=dict[str, Exception])
    attempt: Attempt = field(default_factory=Attempt)

    def for_model(self, model: BaseChatModel) -> dict[str, Any]:
        """The keyword arguments for that model, whose provider has its own form for tools."""
        if self.binding is None:
            return dict(self.options)
        return {**self.binding.arguments(model), **self.options}


def _begins_with(made: Runnable[Any, Any], model: BaseChatModel) -> bool:
    return isinstance(made, RunnableSequence) and _bound(made.steps[0])[0] is model


def _bound(made: Any) -> tuple[Any, dict[str, Any]]:
    """What is at the bottom of the bindings, and all that is bound to it."""
    arguments: dict[str, Any] = {}
    at_bottom: Runnable[Any, Any] = made
    while isinstance(at_bottom, RunnableBinding):
        arguments = {**at_bottom.kwargs, **arguments}
        at_bottom = at_bottom.bound
    return at_bottom, arguments


def _arguments_of(made: Any, model: BaseChatModel) -> dict[str, Any]:
    at_bottom, arguments = _bound(made)
    if at_bottom is not model:
        raise ConfigurationError(
            f"resilient: what {type(model).__name__} makes of tools is no binding of itself but {type(made).__name__}"
        )
    return {name: value for name, value in arguments.items() if name not in TRACED}
