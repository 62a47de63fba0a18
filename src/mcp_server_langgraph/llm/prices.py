"""What models cost, as the settings tell. What they do not tell is not known, and never guessed."""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration

from mcp_server_langgraph.resilience.integrations.langchain import Price, tokens_of
from mcp_server_langgraph.settings import Settings

__all__ = ["Prices"]


class Prices:
    """The prices of the settings, by ``provider:model``; an account that has none of its own pays the provider's."""

    def __init__(self, settings: Settings) -> None:
        self._known = {name: _price(text) for name, text in settings.llm_prices.items()}

    def of(self, model: str) -> Price | None:
        """The price of a model, as the chain calls it; None where nobody told."""
        source, _, name = model.lower().partition(":")
        return self._known.get(f"{source}:{name}") or self._known.get(f"{source.partition('/')[0]}:{name}")

    def cost(self, messages: Iterable[BaseMessage]) -> float | None:
        """What the answers among the messages cost; None where one of them has a price that is not known, or none of
        them tells what it used.
        """
        costs: list[float] = []
        for message in messages:
            tokens = tokens_of(ChatGeneration(message=message)) if isinstance(message, AIMessage) else None
            if tokens:
                price = self.of(str(message.response_metadata.get("answered_by")))
                if price is None:
                    return None
                costs.append(price.of(tokens))
        return sum(costs) if costs else None


def _price(text: str) -> Price:
    return Price(*(float(part) for part in text.split("/")))
