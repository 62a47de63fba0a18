"""Clients of language models, tamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ...errors import ConfigurationError
from .common import connect_within, imported, refused, tamed

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from google.genai import Client
    from google.genai.types import HttpOptions
    from langchain_anthropic import ChatAnthropic
    from langchain_google_genai import ChatGoogleGenerativeAI
    from langchain_openai import ChatOpenAI
    from openai import AsyncOpenAI

__all__ = ["anthropic", "chat_anthropic", "chat_google", "chat_openai", "google_genai", "openai"]

T = TypeVar("T")
_DECIDED = ("max_retries", "timeout")


@overload
def openai(timeout: float, *, kind: type[T], connect_timeout: float | None = None, **options: Any) -> T: ...
@overload
def openai(
    timeout: float, *, kind: None = None, connect_timeout: float | None = None, **options: Any
) -> AsyncOpenAI: ...
def openai(timeout: float, *, kind: Any = None, connect_timeout: float | None = None, **options: Any) -> Any:
    """OpenAI's client: one attempt, ``timeout`` seconds of silence at most.

    ``kind``: another of the package's clients than ``AsyncOpenAI`` (``OpenAI``, ``AsyncAzureOpenAI``).
    """
    sdk = imported("openai", "openai", "openai")
    return _of_sdk("openai", sdk, kind or sdk.AsyncOpenAI, timeout, connect_timeout, options)


@overload
def anthropic(
    timeout: float, *, kind: type[T], connect_timeout: float | None = None, **options: Any
) -> T: ...
@overload
def anthropic(
    timeout: float, *, kind: None = None, connect_timeout: float | None = None, **options: Any
) -> AsyncAnthropic: ...
def anthropic(
    timeout: float, *, kind: Any = None, connect_timeout: float | None = None, **options: Any
) -> Any:
    """Anthropic's client: one attempt, ``timeout`` seconds of silence at most.

    ``kind``: another of the package's clients than ``AsyncAnthropic`` (``Anthropic``, ``AsyncAnthropicBedrock``).
    """
    sdk = imported("anthropic", "anthropic", "anthropic")
    return _of_sdk("anthropic", sdk, kind or sdk.AsyncAnthropic, timeout, connect_timeout, options)


def _of_sdk(
    name: str, sdk: Any, kind: Any, timeout: float, connect: float | None, options: dict[str, Any]
) -> Any:
    refused(name, options, _DECIDED)
    limits = sdk.Timeout(timeout, connect=connect_within(name, timeout, connect))
    return tamed(name, kind(max_retries=0, timeout=limits, **options), timeout)


def google_genai(timeout: float, *, http_options: HttpOptions | None = None, **options: Any) -> Client:
    """Google's client (``client.aio`` is its asynchronous side): one attempt, ``timeout`` seconds at most.

    One attempt also where a connection is lost, which it else repeats with aiohttp. Connecting has no time of its own.
    """
    types = imported("google_genai", "google.genai.types", "google-genai")
    connect_within("google_genai", timeout, None)
    given = types.HttpOptions() if http_options is None else http_options
    if given.timeout is not None or given.retry_options is not None:
        raise ConfigurationError(
            "tame.google_genai: timeout and retry_options cannot be given, tame sets them"
        )
    decided = {"timeout": round(timeout * 1000), "retry_options": types.HttpRetryOptions(attempts=1)}
    client: Client = imported("google_genai", "google.genai", "google-genai").Client(
        http_options=given.model_copy(update=decided), **options
    )
    return tamed("google_genai", client, timeout)


def chat_openai(timeout: float, *, connect_timeout: float | None = None, **options: Any) -> ChatOpenAI:
    """LangChain's model of OpenAI: one attempt, ``timeout`` seconds of silence at most, also between two chunks.

    ``stream_chunk_timeout`` may be given, for another time between chunks or None for none.
    """
    package = imported("chat_openai", "langchain_openai", "langchain-openai")
    refused("chat_openai", options, (*_DECIDED, "request_timeout"))
    connect = connect_within("chat_openai", timeout, connect_timeout)
    limits = imported("chat_openai", "openai", "openai").Timeout(timeout, connect=connect)
    options = {"stream_chunk_timeout": timeout, **options}
    model: ChatOpenAI = package.ChatOpenAI(max_retries=0, timeout=limits, **options)
    return tamed("chat_openai", model, timeout)


def chat_anthropic(timeout: float, **options: Any) -> ChatAnthropic:
    """LangChain's model of Anthropic: one attempt, ``timeout`` seconds of silence at most.

    It takes no HTTP client and one number for all its waits, so connecting has no time of its own.
    """
    package = imported("chat_anthropic", "langchain_anthropic", "langchain-anthropic")
    refused("chat_anthropic", options, (*_DECIDED, "default_request_timeout"))
    connect_within("chat_anthropic", timeout, None)
    model: ChatAnthropic = package.ChatAnthropic(max_retries=0, timeout=timeout, **options)
    return tamed("chat_anthropic", model, timeout)


def chat_google(timeout: float, **options: Any) -> ChatGoogleGenerativeAI:
    """LangChain's model of Google: one attempt, ``timeout`` seconds at most."""
    package = imported("chat_google", "langchain_google_genai", "langchain-google-genai")
    refused("chat_google", options, (*_DECIDED, "request_timeout", "retries"))
    connect_within("chat_google", timeout, None)
    # It counts attempts, not retries.
    model: ChatGoogleGenerativeAI = package.ChatGoogleGenerativeAI(max_retries=1, timeout=timeout, **options)
    return tamed("chat_google", model, timeout)
