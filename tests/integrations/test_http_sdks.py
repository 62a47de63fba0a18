"""SDKs that are given a guarded client: what they make of each fault, and what it costs on the wire."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai.types import HttpOptions, HttpRetryOptions

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, Outcome, Pipeline, Retry, classify
from mcp_server_langgraph.resilience.integrations.hosts import Hosts
from mcp_server_langgraph.resilience.integrations.httpx2 import AsyncResilientTransport
from tests.llm.provider_server import Answer, ProviderServer, Stream

KEY = "no-key"
MODEL = "gemini-3"


@pytest.fixture
def providers() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


class Sdk:
    """One SDK. ``ask`` gives the words of an answer, ``stream`` those of a streamed one."""

    provider: ClassVar[str]
    status_error: ClassVar[type[Exception]]
    connection_error: ClassVar[type[Exception]]
    timeout_error: ClassVar[type[Exception]]

    def __init__(self, server: ProviderServer, client: httpx2.AsyncClient, retries: int) -> None:
        raise NotImplementedError

    async def ask(self) -> str:
        raise NotImplementedError

    async def stream(self) -> str:
        raise NotImplementedError


class OpenAI(Sdk):
    provider = "openai"
    status_error = openai.APIStatusError
    connection_error, timeout_error = openai.APIConnectionError, openai.APITimeoutError

    def __init__(self, server: ProviderServer, client: httpx2.AsyncClient, retries: int) -> None:
        url = server.base_url("openai")
        self.client = openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=retries, http_client=client)

    async def ask(self) -> str:
        answer = await self.client.chat.completions.create(model="m", messages=_said())
        return answer.choices[0].message.content or ""

    async def stream(self) -> str:
        chunks = await self.client.chat.completions.create(model="m", messages=_said(), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


class Anthropic(Sdk):
    provider = "anthropic"
    status_error = anthropic.APIStatusError
    connection_error, timeout_error = anthropic.APIConnectionError, anthropic.APITimeoutError

    def __init__(self, server: ProviderServer, client: httpx2.AsyncClient, retries: int) -> None:
        url = server.base_url("anthropic")
        self.client = anthropic.AsyncAnthropic(
            api_key=KEY, base_url=url, max_retries=retries, http_client=client
        )

    async def ask(self) -> str:
        answer = await self.client.messages.create(model="m", messages=_said(), max_tokens=9)
        return "".join(block.text for block in answer.content if block.type == "text")

    async def stream(self) -> str:
        async with self.client.messages.stream(model="m", messages=_said(), max_tokens=9) as answer:
            return "".join([text async for text in answer.text_stream])


class Google(Sdk):
    provider = "google"
    status_error = genai_errors.APIError
    connection_error, timeout_error = httpx2.TransportError, httpx2.TimeoutException

    def __init__(self, server: ProviderServer, client: httpx2.AsyncClient, retries: int) -> None:
        retrying = HttpRetryOptions(attempts=1 + retries)
        options = HttpOptions(
            base_url=server.base_url("google"), httpx_async_client=client, retry_options=retrying
        )
        self.client = genai.Client(api_key=KEY, http_options=options)

    async def ask(self) -> str:
        answer = await self.client.aio.models.generate_content(model=MODEL, contents="hello")
        return answer.text or ""

    async def stream(self) -> str:
        chunks = await self.client.aio.models.generate_content_stream(model=MODEL, contents="hello")
        return "".join([chunk.text or "" async for chunk in chunks])


def _said() -> Any:
    return [{"role": "user", "content": "hello"}]


SDKS = (OpenAI, Anthropic, Google)
pytestmark = [pytest.mark.real_time, pytest.mark.parametrize("kind", SDKS, ids=lambda kind: kind.provider)]


@asynccontextmanager
async def guarded(server: ProviderServer, kind: type[Sdk], *, retries: int = 0, **options: Any) -> Any:
    hosts = Hosts("models", breaker=lambda _: CircuitBreaker(fail_max=2), **options)
    inner = httpx2.AsyncHTTPTransport(verify=False)
    async with httpx2.AsyncClient(transport=AsyncResilientTransport(inner, hosts=hosts)) as client:
        yield kind(server, client, retries), hosts


def counted(hosts: Hosts) -> Any:
    """What the breaker of the only host has counted."""
    keyed: Any = hosts.once.policies[1].snapshot()
    [breaker] = keyed.states.values()
    return breaker


async def test_whole_and_streamed_answers_come_through_as_successes(
    providers: ProviderServer, kind: type[Sdk]
) -> None:
    async with guarded(providers, kind) as (sdk, hosts):
        assert await sdk.ask() == "fine"
        assert (await sdk.stream()).strip() == "one two three"
        assert counted(hosts).successes == 2
    assert providers.count() == 2


@pytest.mark.parametrize("way", ["ask", "stream"])
async def test_an_upstream_that_cuts_connections_opens_the_circuit_which_the_sdk_understands(
    providers: ProviderServer, kind: type[Sdk], way: str
) -> None:
    providers.always(kind.provider, Answer(0))
    async with guarded(providers, kind) as (sdk, _):
        for _ in range(2):
            with pytest.raises(kind.connection_error):
                await getattr(sdk, way)()
        with pytest.raises(kind.connection_error) as caught:
            await getattr(sdk, way)()
        assert isinstance(caught.value, CircuitOpen) or isinstance(caught.value.__cause__, CircuitOpen)
        verdict = classify(caught.value)
        assert (verdict.outcome, verdict.retryable, verdict.unavailable) == (Outcome.NEUTRAL, False, True)
    assert providers.count() == 2


async def test_a_hanging_upstream_is_a_timeout_of_the_sdk(providers: ProviderServer, kind: type[Sdk]) -> None:
    async with guarded(providers, kind, attempt_timeout=1.0) as (sdk, _):
        await sdk.ask()
        providers.always(kind.provider, Answer(delay=60))
        for _ in range(2):
            with pytest.raises(kind.timeout_error):
                await sdk.ask()
        with pytest.raises(kind.connection_error):
            await sdk.ask()
    assert providers.count() == 3


async def test_a_slow_upstream_is_waited_for(providers: ProviderServer, kind: type[Sdk]) -> None:
    providers.script(kind.provider, Answer(delay=0.2))
    async with guarded(providers, kind, attempt_timeout=10) as (sdk, _):
        assert await sdk.ask() == "fine"


async def test_a_429_is_the_sdks_error_and_no_failure(providers: ProviderServer, kind: type[Sdk]) -> None:
    providers.always(kind.provider, Answer(429, headers={"retry-after": "7"}))
    async with guarded(providers, kind) as (sdk, hosts):
        for _ in range(3):
            with pytest.raises(kind.status_error, match="429") as caught:
                await sdk.ask()
            assert classify(caught.value).retry_after == 7
        assert (counted(hosts).state, counted(hosts).neutral) == ("closed", 3)
    assert providers.count() == 3


async def test_a_stream_that_is_cut_is_a_failure(providers: ProviderServer, kind: type[Sdk]) -> None:
    providers.always(kind.provider, Stream(end="reset"))
    async with guarded(providers, kind) as (sdk, hosts):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (each SDK has its own)
            await sdk.stream()
        assert not isinstance(caught.value, AssertionError)
        assert sum(counted(hosts).failures.values()) == 1


async def test_a_stream_is_cut_after_the_idle_time_where_it_is_silent_and_not_where_it_pings(
    providers: ProviderServer, kind: type[Sdk]
) -> None:
    providers.script(kind.provider, Stream(end="pings"))
    silent = kind is Google  # whose API has no signs of life
    async with guarded(providers, kind, idle_timeout=0.5) as (sdk, hosts):
        reading = asyncio.create_task(sdk.stream())
        done, _ = await asyncio.wait([reading], timeout=5 if silent else 1.5)
        assert bool(done) is silent
        reading.cancel()
        [ended] = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(ended, httpx2.TimeoutException if silent else asyncio.CancelledError)
        assert sum(counted(hosts).failures.values()) == (1 if silent else 0)


async def test_our_retries_are_not_multiplied_by_those_of_the_sdk(
    providers: ProviderServer, kind: type[Sdk]
) -> None:
    """openai's and anthropic's are told; Google's understands nothing of the kind, and is set not to retry."""
    providers.always(kind.provider, Answer(529))
    retry = Retry(max_attempts=2, multiplier=0.01)
    retries = 0 if kind is Google else 2
    async with guarded(providers, kind, retries=retries, retry=retry, idempotent=always) as (sdk, _):
        with pytest.raises(kind.status_error):
            await sdk.ask()
    assert providers.count() == 2


def always(request: object) -> bool:
    return True


async def test_a_retry_of_ours_around_the_sdk_does_not_multiply_those_below(
    providers: ProviderServer, kind: type[Sdk]
) -> None:
    providers.always(kind.provider, Answer(503))
    above = Pipeline("above", Retry(max_attempts=3, multiplier=0.01))
    retry = Retry(max_attempts=2, multiplier=0.01)
    async with guarded(providers, kind, retry=retry, idempotent=always) as (sdk, _):
        with pytest.raises(kind.status_error):
            await above.call(sdk.ask)
    assert providers.count() == 2
