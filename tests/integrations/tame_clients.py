"""Every known client, as it is by default and tamed, with one call of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anthropic
import botocore.session
import keycloak
import openai
import openfga_sdk.sync
import redis
import redis.asyncio
from google import genai
from google.genai.types import HttpOptions, HttpRetryOptions
from langchain_anthropic import ChatAnthropic
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from openfga_sdk import ClientConfiguration, OpenFgaClient
from openfga_sdk.client.models import ClientCheckRequest
from prometheus_api_client import PrometheusConnect

from mcp_server_langgraph.resilience.integrations import tame

__all__ = ["CLIENTS", "KEY", "REDIS", "Known"]

STORE = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
KEY: dict[str, Any] = {"api_key": "none"}


class Known(NamedTuple):
    """``attempts`` and ``timeout`` of the default. ``tame`` takes the URL and seconds."""

    name: str
    default: Callable[[str], Any]
    attempts: int
    timeout: float
    tame: Callable[[str, float], Any]
    call: Callable[[Any], Awaitable[object]]


def _model(url: str) -> dict[str, Any]:
    return {"model": "m", "base_url": url, **KEY}


def _google(url: str, **options: Any) -> genai.Client:
    return genai.Client(http_options=HttpOptions(base_url=url, **options), **KEY)


def _fga(url: str) -> dict[str, Any]:
    return {"api_url": url, "store_id": STORE}


def _realm(url: str) -> dict[str, Any]:
    return {"server_url": url, "realm_name": "r", "client_id": "c"}


def _s3(url: str, config: Any = None) -> Any:
    session = botocore.session.Session()
    session.set_credentials("key", "secret")
    return session.create_client("s3", region_name="eu-west-1", endpoint_url=url, config=config)


def _messages(client: Any) -> Any:
    return client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}])


def _content(client: genai.Client) -> Any:
    return client.aio.models.generate_content(model="m", contents="?")


async def _check(client: Any) -> object:
    question = ClientCheckRequest(user="user:a", relation="r", object="service:s")
    try:
        found = client.check(question)
        return await found if asyncio.iscoroutine(found) else found
    finally:
        closing = client.close()
        if asyncio.iscoroutine(closing):
            await closing


def _threaded(call: Callable[[Any], object]) -> Callable[[Any], Awaitable[object]]:
    return lambda client: asyncio.to_thread(call, client)


async def _get(client: Any) -> object:
    try:
        return await client.get("k")
    finally:
        await client.aclose()


def _sync_fga(url: str, seconds: float) -> Any:
    return tame.openfga(seconds, kind=openfga_sdk.sync.OpenFgaClient, **_fga(url))


CLIENTS = [
    Known("openai", lambda url: openai.AsyncOpenAI(base_url=url, **KEY), 3, 600,
          lambda url, s: tame.openai(s, base_url=url, **KEY), lambda it: it.models.list()),
    Known("openai, sync", lambda url: openai.OpenAI(base_url=url, **KEY), 3, 600,
          lambda url, s: tame.openai(s, kind=openai.OpenAI, base_url=url, **KEY),
          _threaded(lambda it: it.models.list())),
    Known("anthropic", lambda url: anthropic.AsyncAnthropic(base_url=url, **KEY), 3, 600,
          lambda url, s: tame.anthropic(s, base_url=url, **KEY), _messages),
    Known("google-genai", _google, 2, math.inf,
          lambda url, s: tame.google_genai(s, http_options=HttpOptions(base_url=url), **KEY), _content),
    Known("google-genai, retry options", lambda url: _google(url, retry_options=HttpRetryOptions()), 5, math.inf,
          lambda url, s: tame.google_genai(s, http_options=HttpOptions(base_url=url), **KEY), _content),
    Known("ChatOpenAI", lambda url: ChatOpenAI(**_model(url)), 3, math.inf,
          lambda url, s: tame.chat_openai(s, **_model(url)), lambda it: it.ainvoke("?")),
    Known("ChatAnthropic", lambda url: ChatAnthropic(**_model(url)), 3, math.inf,
          lambda url, s: tame.chat_anthropic(s, **_model(url)), lambda it: it.ainvoke("?")),
    Known("ChatGoogleGenerativeAI", lambda url: ChatGoogleGenerativeAI(**_model(url)), 6, math.inf,
          lambda url, s: tame.chat_google(s, **_model(url)), lambda it: it.ainvoke("?")),
    Known("openfga-sdk", lambda url: OpenFgaClient(ClientConfiguration(**_fga(url))), 4, 300,
          lambda url, s: tame.openfga(s, **_fga(url)), _check),
    Known("openfga-sdk, sync", lambda url: openfga_sdk.sync.OpenFgaClient(ClientConfiguration(**_fga(url))), 4, 300,
          _sync_fga, _threaded(lambda it: asyncio.run(_check(it)))),
    Known("python-keycloak", lambda url: keycloak.KeycloakOpenID(**_realm(url)), 2, 60,
          lambda url, s: tame.keycloak(s, **_realm(url)), _threaded(lambda it: it.well_known())),
    Known("prometheus-api-client", PrometheusConnect, 4, math.inf,
          lambda url, s: tame.prometheus(s, url=url), _threaded(lambda it: it.custom_query("up"))),
    Known("botocore", _s3, 3, 60,
          lambda url, s: _s3(url, tame.botocore_config(s)), _threaded(lambda it: it.list_buckets())),
]  # fmt: skip

REDIS = [
    Known("redis", lambda url: redis.asyncio.Redis(port=int(url.rpartition(":")[2])), 11, 5,
          lambda url, s: tame.redis(s, port=int(url.rpartition(":")[2])), _get),
    Known("redis, from a URL", lambda url: redis.asyncio.Redis.from_url(url.replace("http", "redis")), 1, 5,
          lambda url, s: tame.redis(s, url=url.replace("http", "redis")), _get),
    Known("redis, sync", lambda url: redis.Redis(port=int(url.rpartition(":")[2])), 11, 5,
          lambda url, s: tame.redis(s, kind=redis.Redis, port=int(url.rpartition(":")[2])),
          _threaded(lambda it: it.get("k"))),
]  # fmt: skip
