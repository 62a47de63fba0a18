"""Clients that retry by themselves are found, as they are by default and when they are told not to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import botocore.config
import botocore.session
import httpx
import httpx2
import openai
import pytest
import redis
import redis.asyncio
import requests
import tenacity
import urllib3
from google import genai
from google.genai import types
from langchain_anthropic import ChatAnthropic
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from openfga_sdk import ClientConfiguration, OpenFgaClient
from openfga_sdk.configuration import RetryParams
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry

from mcp_server_langgraph.resilience import Pipeline, Retry, stacking

KEY = "none"


def genai_client(attempts: Any = None, *, given: bool = True) -> genai.Client:
    options = types.HttpRetryOptions(attempts=attempts) if given else None
    return genai.Client(api_key=KEY, http_options=types.HttpOptions(retry_options=options))


def botocore_client(retries: dict[str, object] | None) -> object:
    config = botocore.config.Config(retries=retries)
    session = botocore.session.Session()
    session.set_credentials("key", "secret")
    return session.create_client("sts", region_name="eu-west-1", config=config)


@tenacity.retry(stop=tenacity.stop_after_attempt(4))
def fetch() -> None: ...


@tenacity.retry
def fetch_for_ever() -> None: ...


FOUND: list[tuple[Callable[[], object], int]] = [
    (lambda: openai.AsyncOpenAI(api_key=KEY), 3),
    (lambda: openai.OpenAI(api_key=KEY, max_retries=5), 6),
    (lambda: openai.OpenAI(api_key=KEY, max_retries=0), 1),
    (lambda: anthropic.AsyncAnthropic(api_key=KEY), 3),
    (lambda: anthropic.Anthropic(api_key=KEY, max_retries=0), 1),
    (lambda: genai_client(given=False), 2),
    (lambda: genai_client(), 5),
    (lambda: genai_client(1), 1),
    (lambda: ChatOpenAI(api_key=KEY), 3),
    (lambda: ChatOpenAI(api_key=KEY, max_retries=0), 1),
    (lambda: ChatAnthropic(model="m", api_key=KEY), 3),
    (lambda: ChatAnthropic(model="m", api_key=KEY, max_retries=0), 1),
    (lambda: ChatGoogleGenerativeAI(model="m", api_key=KEY), 6),
    (lambda: ChatGoogleGenerativeAI(model="m", api_key=KEY, max_retries=1), 1),
    (lambda: ClientConfiguration(api_url="http://127.0.0.1"), 4),
    (lambda: ClientConfiguration(api_url="http://127.0.0.1", retry_params=RetryParams(max_retry=0)), 1),
    (lambda: redis.Redis(), 11),
    (lambda: redis.asyncio.Redis(), 11),
    (lambda: redis.asyncio.Redis.from_url("redis://127.0.0.1"), 1),
    (lambda: redis.Redis(retry=RedisRetry(NoBackoff(), 0)), 1),
    (lambda: requests.Session(), 1),
    (lambda: urllib3.PoolManager(), 4),
    (lambda: urllib3.PoolManager(retries=False), 1),
    (lambda: urllib3.PoolManager(retries=urllib3.Retry(2)), 3),
    (lambda: httpx.AsyncClient(), 1),
    (lambda: httpx.Client(transport=httpx.HTTPTransport(retries=2)), 3),
    (lambda: httpx2.AsyncHTTPTransport(retries=1), 2),
    (lambda: botocore_client(None), 3),
    (lambda: botocore_client({"mode": "standard"}), 3),
    (lambda: botocore_client({"max_attempts": 1}), 2),
    (lambda: botocore_client({"total_max_attempts": 1, "mode": "standard"}), 1),
    (lambda: fetch, 4),
    (lambda: fetch_for_ever, 2),
]


@pytest.mark.parametrize(("make", "attempts"), FOUND, ids=[str(number) for number in range(len(FOUND))])
def test_how_many_attempts_a_client_makes_by_itself(make: Callable[[], object], attempts: int) -> None:
    found = stacking.check(make())
    assert [each.attempts for each in found] == ([attempts] if attempts > 1 else [])
    assert all(each.advice and "." in each.client for each in found)


def test_adapters_of_a_session_are_looked_at() -> None:
    session = requests.Session()
    session.mount("https://api.test", requests.adapters.HTTPAdapter(max_retries=3))
    assert [each.attempts for each in stacking.check(session)] == [4]


async def test_the_client_of_openfga_is_known_by_its_configuration() -> None:
    client = OpenFgaClient(ClientConfiguration(api_url="http://127.0.0.1"))
    found = stacking.check(client)
    await client.close()
    assert [each.attempts for each in found] == [4]


def test_what_a_wrapper_of_langchain_holds_is_found_too_and_all_multiply() -> None:
    model = ChatOpenAI(api_key=KEY).with_retry()
    found = stacking.audit(Pipeline("llm", Retry(3)), model)
    assert [each.attempts for each in found] == [3, 3]


def test_nothing_is_imported_for_it() -> None:
    code = (
        "import sys; from mcp_server_langgraph.resilience import stacking; stacking.check(object());"
        "print([name for name in ('openai', 'redis', 'tenacity', 'httpx') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"
