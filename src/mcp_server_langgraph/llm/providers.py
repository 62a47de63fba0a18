"""Chat models of the providers, tamed: one attempt for each call, and every wait bounded.

Their packages retry on their own (2 to 6 attempts for one call) and wait without limit, or ten minutes. Retries and
time limits are the business of the pipeline around the model, so both are switched off or bounded here, and a test
counts the requests on the wire. A provider's package takes seconds to import, and is imported when a model is built.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx2
    from langchain_core.language_models import BaseChatModel
    from pydantic import SecretStr

__all__ = ["CONNECT_TIMEOUT", "DEFAULT_MODELS", "build_model", "require_package"]

# Connecting takes two round trips; a host that swallows packets must not eat the time of a whole answer.
CONNECT_TIMEOUT: Final = 5.0

DEFAULT_MODELS: Final = {
    "anthropic": "claude-sonnet-5-5",
    "google": "gemini-3.5-flash",
    "offline": "offline",
    "openai": "gpt-5.4-mini",
}

_PACKAGES: Final = {
    "anthropic": "langchain_anthropic",
    "google": "langchain_google_genai",
    "openai": "langchain_openai",
}


def require_package(provider: str) -> None:
    """Raise ImportError, naming what to install, where the provider's package is missing. Imports nothing."""
    package = _PACKAGES.get(provider)
    if package is not None and find_spec(package) is None:
        name = package.replace("_", "-")
        raise ImportError(f"{provider} needs the package {name}: install mcp-server-langgraph[server]")


def build_model(
    provider: str, model: str, *, api_key: SecretStr, base_url: str | None = None, timeout: float
) -> tuple[BaseChatModel, httpx2.AsyncClient]:
    """The provider's chat model and the HTTP client that it alone uses, to be closed with it.

    ``timeout`` bounds each wait on the socket, in seconds; connecting has at most `CONNECT_TIMEOUT`.
    """
    client = _http_client(timeout)
    return _BUILDERS[provider](model, api_key, base_url, timeout, client), client


def _http_client(timeout: float) -> httpx2.AsyncClient:
    import httpx2

    async def bound_connect(request: httpx2.Request) -> None:
        # The SDKs pass one number for all the waits with each request, which overrules the client's own.
        limits = dict(request.extensions.get("timeout") or {})
        limits["connect"] = min(limits.get("connect") or CONNECT_TIMEOUT, CONNECT_TIMEOUT)
        request.extensions = {**request.extensions, "timeout": limits}

    async def refuse_pages(response: httpx2.Response) -> None:
        # A proxy's or captive portal's page, which the SDKs would take for a strange answer of the provider.
        if response.headers.get("content-type", "").startswith("text/html"):
            raise httpx2.RemoteProtocolError(f"a web page instead of an answer ({response.status_code})")

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
        event_hooks={"request": [bound_connect], "response": [refuse_pages]},
        follow_redirects=True,
    )


def _anthropic(
    model: str, api_key: SecretStr, base_url: str | None, timeout: float, client: httpx2.AsyncClient
) -> BaseChatModel:
    import anthropic
    from langchain_anthropic import ChatAnthropic

    chat = ChatAnthropic(
        model_name=model, api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0, stop=None
    )
    # The package has no field for an HTTP client. It keeps its SDK client in a cached property; fill that.
    vars(chat)["_async_client"] = anthropic.AsyncAnthropic(
        api_key=api_key.get_secret_value(),
        base_url=chat.anthropic_api_url,
        timeout=timeout,
        max_retries=0,
        http_client=client,
    )
    return chat


def _openai(
    model: str, api_key: SecretStr, base_url: str | None, timeout: float, client: httpx2.AsyncClient
) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=model,
        api_key=api_key,
        base_url=base_url,
        timeout=timeout,
        max_retries=0,
        stream_chunk_timeout=None,
        http_async_client=client,
    )


def _google(
    model: str, api_key: SecretStr, base_url: str | None, timeout: float, client: httpx2.AsyncClient
) -> BaseChatModel:
    from google.genai import Client
    from google.genai.types import HttpOptions
    from langchain_google_genai import ChatGoogleGenerativeAI

    # One attempt is written 1 here: 0 stands for the SDK's default, which is five.
    chat = ChatGoogleGenerativeAI(
        model=model, api_key=api_key, base_url=base_url, timeout=timeout, max_retries=1, vertexai=False
    )
    # With a client of our own it leaves aiohttp aside, which would resend once after a lost connection.
    chat.client = Client(
        vertexai=False,
        api_key=api_key.get_secret_value(),
        http_options=HttpOptions(base_url=base_url, api_version="v1beta", httpx_async_client=client),
    )
    return chat


_BUILDERS: Final[dict[str, Callable[..., Any]]] = {
    "anthropic": _anthropic,
    "google": _google,
    "openai": _openai,
}
