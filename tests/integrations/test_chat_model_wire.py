"""The providers' own chat models, wrapped, over real sockets: what a question costs on the wire, and who answers."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from pydantic import BaseModel, SecretStr

from mcp_server_langgraph.llm.providers import Access, build_model
from mcp_server_langgraph.resilience import (
    CircuitOpen,
    Retry,
    StreamInterrupted,
    TimedOut,
    collect_degradations,
)
from mcp_server_langgraph.resilience.integrations.langchain import (
    GuardedModel,
    ResilientChatModel,
    TruncatedAnswer,
    resilient,
)
from tests.llm.dialects import GOOD
from tests.llm.provider_server import Answer, ProviderServer, Stream
from tests.support.ports import HOST, free_port

PROVIDERS = ("anthropic", "google", "openai")
NEXT = {"anthropic": "openai", "google": "anthropic", "openai": "google"}
KEY = SecretStr("sk-not-a-real-key")

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.parametrize("provider", PROVIDERS),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # What Google's SDK leaves behind when it reads an error over aiohttp.
    pytest.mark.filterwarnings("ignore:coroutine 'ClientResponse.json' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Nobody closes the clients inside chat models; what they leave to the collector is no matter of later tests."""
    yield
    gc.collect()


def chat_model(provider: str, base_url: str) -> BaseChatModel:
    """The provider's class with its own retries off: Google's as its users make it, over aiohttp; the others with a
    client of their own, as OpenAI's share one between event loops.
    """
    if provider == "google":
        return ChatGoogleGenerativeAI(
            model="m", api_key=KEY, base_url=base_url, max_retries=1, vertexai=False
        )
    model, _ = build_model(provider, "m", Access(30, KEY, base_url))
    return model


def guarded(provider: str, base_url: str) -> GuardedModel:
    """With a name that does not change with the port, and short waits between attempts."""
    retry = Retry(multiplier=0.01)
    return GuardedModel(chat_model(provider, base_url), f"{provider}:m", retry=retry)


def alone(server: ProviderServer, provider: str, **options: Any) -> ResilientChatModel:
    return resilient(guarded(provider, server.base_url(provider)), **options)


def pair(server: ProviderServer, provider: str, **options: Any) -> ResilientChatModel:
    """The provider's model and, behind it, one of another provider."""
    models = [guarded(name, server.base_url(name)) for name in (provider, NEXT[provider])]
    return resilient(*models, **options)


async def collect(model: Runnable[Any, Any], pieces: list[str]) -> None:
    async with aclosing(model.astream("hello")) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            pieces.append(str(chunk.text))  # noqa: PERF401 (what came before an error must be kept)


async def test_a_model_that_is_well_costs_one_request(providers: ProviderServer, provider: str) -> None:
    answer = await pair(providers, provider).ainvoke("hello")
    assert (answer.text, answer.response_metadata["answered_by"]) == ("fine", f"{provider}:m")
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata["total_tokens"], providers.count()) == (2, 1)


async def test_a_dead_host_costs_the_attempts_of_our_retry_and_another_model_answers(
    providers: ProviderServer, provider: str
) -> None:
    dead = guarded(provider, f"http://{HOST}:{free_port()}")
    model = resilient(dead, guarded(NEXT[provider], providers.base_url(NEXT[provider])))
    answer = await model.ainvoke("hello")
    assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:m"
    assert providers.count() == 1


async def test_a_sick_model_is_retried_three_times_and_then_known(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(500))
    model = alone(providers, provider)
    for _ in range(2):
        with pytest.raises(Exception, match="500"):
            await model.ainvoke("hello")
    assert providers.count() == 5, "the breaker opened in the middle of the second question"
    with pytest.raises(CircuitOpen):
        await model.ainvoke("hello")
    assert providers.count() == 5


async def test_a_hanging_model_is_left_for_another_after_one_request(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(delay=30))
    model = pair(providers, provider, attempt_timeout=1)
    with collect_degradations() as notes:
        answer = await model.ainvoke("hello")
    assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:m"
    assert (providers.count(provider), providers.count(NEXT[provider])) == (1, 1)
    assert "no answer within 1 s" in notes[0].reason


async def test_a_slow_model_is_waited_for_and_the_total_time_holds(
    providers: ProviderServer, provider: str
) -> None:
    providers.script(provider, Answer(delay=0.3))
    model = pair(providers, provider, timeout=4)
    assert (await model.ainvoke("hello")).response_metadata["answered_by"] == f"{provider}:m"
    providers.always(provider, Answer(delay=30))
    providers.always(NEXT[provider], Answer(delay=30))
    with pytest.raises(TimedOut) as caught:
        await asyncio.wait_for(model.ainvoke("hello"), 30)
    assert (caught.value.pipeline, caught.value.seconds) == ("llm", 4)
    assert providers.count() == 3


async def test_a_429_is_waited_out_where_there_is_no_other_model(
    providers: ProviderServer, provider: str
) -> None:
    providers.script(provider, Answer(429, headers={"retry-after": "1"}))
    answer = await alone(providers, provider).ainvoke("hello")
    first, second = providers.arrivals
    assert answer.text == "fine"
    assert second - first >= 1.0


async def test_a_429_lets_another_model_answer_and_is_remembered(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(429, headers={"retry-after": "60"}))
    model = pair(providers, provider)
    for _ in range(3):
        answer = await model.ainvoke("hello")
        assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:m"
    assert (providers.count(provider), providers.count(NEXT[provider])) == (1, 3)


async def test_a_stream_that_stalls_is_cut_whatever_pings_it_sends(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ", "two "), end="pings"))
    pieces: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        await collect(pair(providers, provider, idle=0.3), pieces)
    assert "".join(pieces) == "one two "
    assert isinstance(caught.value.__cause__, TimedOut)
    assert (caught.value.__cause__.clock, providers.count()) == ("idle", 1)


async def test_a_stream_that_never_begins_is_taken_over(providers: ProviderServer, provider: str) -> None:
    providers.always(provider, Stream((), end="pings"))
    pieces: list[str] = []
    await collect(pair(providers, provider, first_token=1), pieces)
    assert "".join(pieces) == "one two three"
    assert (providers.count(provider), providers.count(NEXT[provider])) == (1, 1)


async def test_a_stream_that_is_cut_is_an_error_with_what_was_received(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ", "two "), end="reset"))
    pieces: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        await collect(pair(providers, provider), pieces)
    assert "one" in "".join(chunk.text for chunk in caught.value.received)
    assert providers.count() == 1, "what was begun is not begun again, nor by another model"


async def test_a_stream_without_a_reason_to_end_is_an_error_though_the_sdk_raises_none(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ",), end="truncate"))
    bare: list[str] = []
    await collect(chat_model(provider, providers.base_url(provider)), bare)
    assert "".join(bare) == "one "
    pieces: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        await collect(pair(providers, provider), pieces)
    assert pieces == ["one "] or "".join(pieces) == "one "
    assert isinstance(caught.value.__cause__, TruncatedAnswer)


@pytest.mark.parametrize("end", ["truncate", "reset"])
async def test_a_stream_lost_before_its_first_word_is_begun_again(
    providers: ProviderServer, provider: str, end: str
) -> None:
    providers.script(provider, Stream((), end=end))
    pieces: list[str] = []
    await collect(alone(providers, provider), pieces)
    assert ("".join(pieces), providers.count()) == ("one two three", 2)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class City(BaseModel):
    """A city."""

    name: str


async def test_tools_reach_each_provider_in_its_own_form(providers: ProviderServer, provider: str) -> None:
    providers.script(provider, Answer(529))
    await pair(providers, provider).bind_tools([add], tool_choice="any").ainvoke("hello")
    for name in (provider, NEXT[provider]):
        bare = chat_model(name, providers.base_url(name)).bind_tools([add], tool_choice="any")
        await bare.ainvoke("hello")
    (first, next_), (bare_first, bare_next) = providers.seen[:2], providers.seen[2:]
    assert (first, next_) == (bare_first, bare_next)


async def test_a_structure_is_asked_for_and_read_in_the_way_of_whoever_answers(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Answer(529))
    providers.always(NEXT[provider], Answer(body=structured(NEXT[provider])))
    model = pair(providers, provider)
    assert await model.with_structured_output(City).ainvoke("hello") == City(name="Oslo")
    raw = await model.with_structured_output(City, include_raw=True).ainvoke("hello")
    assert raw["parsed"] == City(name="Oslo")
    assert raw["raw"].response_metadata["answered_by"] == f"{NEXT[provider]}:m"
    (body, *_) = [body for name, _, body in providers.seen if name == NEXT[provider]]
    bare = chat_model(NEXT[provider], providers.base_url(NEXT[provider]))
    await bare.with_structured_output(City).ainvoke("hello")
    assert providers.seen[-1][2] == body


def structured(provider: str) -> dict[str, Any]:
    """An answer with the structure, in the form that the provider's class asks for by itself."""
    words = '{"name": "Oslo"}'
    body = GOOD[provider]("m")
    if provider == "anthropic":
        body["content"] = [{"type": "tool_use", "id": "t1", "name": "City", "input": {"name": "Oslo"}}]
    elif provider == "google":
        body["candidates"][0]["content"]["parts"] = [{"text": words}]
    else:
        body["choices"][0]["message"]["content"] = words
    return body
