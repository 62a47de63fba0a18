"""Chat models of the providers, tamed: one attempt for each call, and every wait bounded.

Their packages retry on their own (2 to 6 attempts for one call) and wait without limit, or ten minutes. Retries and
time limits are the business of the pipeline around the model, so both are switched off or bounded here, and a test
counts the requests on the wire. A provider's package takes seconds to import, and is imported when a model is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mcp_server_langgraph.settings import LOCAL_MODEL

from .http_client import CONNECT_TIMEOUT, http_client
from .packages import COMPATIBLE, PACKAGES, missing_package

if TYPE_CHECKING:
    import httpx2
    from langchain_core.language_models import BaseChatModel
    from pydantic import SecretStr

__all__ = ["COMPATIBLE", "DEFAULT_MODELS", "Access", "build_model", "load_package", "require_package"]

DEFAULT_MODELS: Final = {
    "anthropic": "claude-sonnet-5-5",
    "google": "gemini-3.5-flash",
    "local": LOCAL_MODEL,
    "offline": "offline",
    "openai": "gpt-5.4-mini",
}

# What OpenAI's SDK takes from variables that are meant for OpenAI, and would tell any host.
_OPENAIS_OWN: Final = ("openai-organization", "openai-project")


@dataclass(frozen=True, slots=True)
class Access:
    """Where a provider's API is, with which key, and how long a wait on its socket may be, and one for a connection
    (seconds; > 0).

    ``base_url`` None: the provider's own. ``api_key`` None: none is sent. ``max_output``: tokens of an answer at most;
    None: as the provider wants. ``proxies``: whether the proxies of the environment stand in between.
    """

    timeout: float
    api_key: SecretStr | None = None
    base_url: str | None = None
    max_output: int | None = None
    connect: float = CONNECT_TIMEOUT
    proxies: bool = True


def require_package(kind: str) -> None:
    """Raise ImportError, naming what to install, where the package for that kind of provider is missing. Imports
    nothing.
    """
    missing = missing_package(kind)
    if missing is not None:
        raise ImportError(missing)


def load_package(kind: str) -> None:
    """Import the package for that kind of provider now, which takes seconds, for a model that is built later."""
    import_module(PACKAGES[kind])


def build_model(kind: str, model: str, access: Access) -> tuple[BaseChatModel, httpx2.AsyncClient]:
    """The chat model of that kind of provider, and the HTTP client that it alone uses, to be closed with it."""
    withheld = _OPENAIS_OWN if kind == COMPATIBLE else ()
    if access.api_key is None:
        withheld = (*withheld, "authorization")
    client = http_client(access.timeout, connect=access.connect, without=withheld, proxies=access.proxies)
    return _BUILDERS[kind](model, access, client), client


def _anthropic(model: str, access: Access, client: httpx2.AsyncClient) -> BaseChatModel:
    import anthropic
    from langchain_anthropic import ChatAnthropic

    chat = ChatAnthropic(
        model_name=model,
        api_key=_key(access),
        base_url=access.base_url,
        timeout=access.timeout,
        max_retries=0,
        stop=None,
        **_bounded(access, "max_tokens"),
    )
    # The package has no field for an HTTP client. It keeps its SDK client in a cached property; fill that.
    vars(chat)["_async_client"] = anthropic.AsyncAnthropic(
        api_key=_secret(access),
        base_url=chat.anthropic_api_url,
        timeout=access.timeout,
        max_retries=0,
        http_client=client,
    )
    return chat


def _openai(model: str, access: Access, client: httpx2.AsyncClient) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=model,
        api_key=_key(access),
        base_url=access.base_url,
        timeout=access.timeout,
        max_retries=0,
        stream_chunk_timeout=None,
        stream_usage=True,
        http_async_client=client,
        **_bounded(access, "max_tokens"),
    )


def _compatible(model: str, access: Access, client: httpx2.AsyncClient) -> BaseChatModel:
    from langchain_openai.chat_models.base import BaseChatOpenAI

    # Not ChatOpenAI: that one knows OpenAI's models by name, and asks some of them through another API.
    return BaseChatOpenAI(
        model=model,
        api_key=_key(access),
        base_url=access.base_url,
        timeout=access.timeout,
        max_retries=0,
        stream_chunk_timeout=None,
        stream_usage=True,
        use_responses_api=False,
        http_async_client=client,
        **_bounded(access, "max_tokens"),
    )


def _google(model: str, access: Access, client: httpx2.AsyncClient) -> BaseChatModel:
    from google.genai import Client
    from google.genai.types import HttpOptions
    from langchain_google_genai import ChatGoogleGenerativeAI

    # One attempt is written 1 here: 0 stands for the SDK's default, which is five.
    chat = ChatGoogleGenerativeAI(
        model=model,
        api_key=_key(access),
        base_url=access.base_url,
        timeout=access.timeout,
        max_retries=1,
        vertexai=False,
        **_bounded(access, "max_output_tokens"),
    )
    # With a client of our own it leaves aiohttp aside, which would resend once after a lost connection.
    chat.client = Client(
        vertexai=False,
        api_key=_secret(access),
        http_options=HttpOptions(base_url=access.base_url, api_version="v1beta", httpx_async_client=client),
    )
    return chat


def _bounded(access: Access, name: str) -> dict[str, Any]:
    """The argument of that name, where answers are bounded: where it is given, some models take None for a bound."""
    return {} if access.max_output is None else {name: access.max_output}


def _key(access: Access) -> SecretStr:
    """The SDKs want one in any case, and would look for it in the environment. What stands in for it is not sent."""
    from pydantic import SecretStr

    return access.api_key or SecretStr("none")


def _secret(access: Access) -> str:
    return _key(access).get_secret_value()


_BUILDERS: Final[dict[str, Callable[[str, Access, Any], Any]]] = {
    "anthropic": _anthropic,
    COMPATIBLE: _compatible,
    "google": _google,
    "openai": _openai,
}
