"""Tokens and costs: counted for every attempt as it tells them, and never guessed."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.llm.prices import Prices
from mcp_server_langgraph.resilience import ConfigurationError, Pipeline, StreamInterrupted, registry
from mcp_server_langgraph.resilience.integrations.langchain import Price, Spending, Tokens
from mcp_server_langgraph.settings import Settings
from tests.llm.models import ALL, ENDPOINT, settings_for
from tests.llm.provider_server import Answer, ProviderServer

CACHED = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "prompt_tokens_details": {"cached_tokens": 60},
}


def counted(name: str) -> dict[Any, Any]:
    (metric,) = [metric for metric in registry.metrics() if metric.name == name]
    return metric.samples


def prices(**given: str) -> Prices:
    return Prices(Settings(llm_prices={name.replace("_", ":"): price for name, price in given.items()}))


def answer(model: str, **usage: Any) -> AIMessage:
    told = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0} | usage
    return AIMessage("fine", usage_metadata=told, response_metadata={"answered_by": model})  # type: ignore[arg-type]


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("streamed", [False, True])
async def test_tokens_are_counted_by_model_and_kind(
    providers: ProviderServer, provider: str, streamed: bool
) -> None:
    settings = settings_for(providers, f"{provider}:m", llm_prices={f"{provider}:m": "1000000/10"})
    async with aclosing(create_chat_model(settings)) as model:
        if streamed:
            _ = [chunk async for chunk in model.astream("hello")]
        else:
            await model.ainvoke("hello")
        name = f"{provider}:m"
        sent, got = USED[provider] if streamed else (1, 1)
        assert counted("llm_tokens_total") == {(name, "input"): sent, (name, "output"): got}
        assert counted("llm_cost_total") == {(name,): pytest.approx(sent + got * 1e-5)}


USED = {"anthropic": (1, 3), "google": (1, 1), "openai": (1, 1), ENDPOINT: (1, 1)}
"""What the streams of the server tell."""


@pytest.mark.real_time
async def test_input_out_of_the_providers_cache_is_counted_apart(providers: ProviderServer) -> None:
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": CACHED}
    message = {"role": "assistant", "content": "fine"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    providers.script(ENDPOINT, Answer(body=body))
    async with aclosing(create_chat_model(settings_for(providers, f"{ENDPOINT}:m"))) as model:
        await model.ainvoke("hello")
        name = f"{ENDPOINT}:m"
        kinds = {(name, "input"): 40, (name, "cached_input"): 60, (name, "output"): 10}
        assert counted("llm_tokens_total") == kinds
        assert counted("llm_cost_total") == {}, "its price is not known"


async def test_a_stream_that_came_to_nothing_counts_what_it_told() -> None:
    spending = Spending("a:m", Price(1, 1))
    pipeline = Pipeline("llm", spending)

    @pipeline
    async def stream() -> AsyncIterator[ChatGenerationChunk]:
        told: Any = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
        yield ChatGenerationChunk(message=AIMessageChunk("one", usage_metadata=told))
        raise ConnectionResetError

    with pytest.raises(StreamInterrupted):
        _ = [item async for item in stream()]
    assert counted("llm_tokens_total") == {("a:m", "input"): 5, ("a:m", "output"): 2}


@pytest.mark.parametrize(
    ("price", "cost"),
    [(Price(2, 10), 3.0), (Price(2, 10, 0.5), 2.1), (Price(0, 0), 0.0)],
)
def test_a_price_is_for_a_million_tokens_and_may_be_lower_for_cached_input(price: Price, cost: float) -> None:
    assert price.of(Tokens(1_000_000, 100_000, 600_000)) == pytest.approx(cost)


def test_a_price_is_not_below_nothing() -> None:
    with pytest.raises(ConfigurationError, match="Price: output"):
        Price(1, -1)


def test_an_account_pays_the_price_of_its_provider_unless_it_has_its_own() -> None:
    settings = Settings(llm_prices={"openai:m": "1/2", "openai/b:m": "3/4"})
    known = Prices(settings)
    assert known.of("openai/a:M") == Price(1, 2)
    assert known.of("openai/b:m") == Price(3, 4)
    assert known.of("openai:other") is None
    assert known.of("google:m") is None


def test_a_turn_costs_what_its_answers_cost() -> None:
    known = prices(openai_m="1000000/2000000")
    said = [HumanMessage("hi"), answer("openai:m", input_tokens=1), answer("openai:m", output_tokens=2)]
    assert known.cost(said) == 5
    assert known.cost([*said, answer("google:m", input_tokens=1)]) is None
    assert known.cost([*said, AIMessage("fine")]) == 5, "what told nothing of tokens"
    assert known.cost([HumanMessage("hi")]) is None
