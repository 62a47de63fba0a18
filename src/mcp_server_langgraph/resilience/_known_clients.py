"""Clients that retry by themselves, known by the names of their classes: nothing is imported.

What their defaults are was measured on the versions of autumn 2026 (one call, an upstream that always answers 500).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, NamedTuple, cast


class Finding(NamedTuple):
    """A client that retries: its name, how many attempts it makes at most, and what to set so that it does not."""

    client: str
    attempts: int
    advice: str


Attempts = Callable[[Any], int]


class _Known(NamedTuple):
    """``attempts``: what tells them, or where the number of *retries* stands."""

    package: str
    name: str
    attempts: Attempts | str
    advice: str


def known_client(client: Any) -> Finding | None:
    """How many attempts a client of the table below makes; None for what is not in it. Never raises."""
    known = _known(cast("Hashable", _type(client)))
    if known is None:
        return None
    return Finding(_name(client), max(1, _asked(known.attempts, client)), known.advice)


def findings(client: Any) -> Iterator[Finding]:
    """What of ``client`` retries. Looks inside wrappers of langchain too. Never raises."""
    kind = _type(client)
    known = known_client(client)
    if known is not None and known.attempts > 1:
        yield known
    retrying = _read(client, "retry")
    if is_a(_type(retrying), "tenacity", "BaseRetrying"):
        attempts = _asked(_of_tenacity, retrying)
        if attempts > 1:
            yield Finding(_name(client), attempts, "remove tenacity's decorator, or our Retry")
    attempts = _asked(_of_pipeline, client)
    if attempts > 1:
        yield Finding(_name(client), attempts, "remove one of the two Retry policies")
    if is_a(kind, "langchain_core", "RunnableBindingBase"):
        yield from findings(_read(client, "bound"))


@functools.lru_cache(maxsize=4096)
def _known(kind: Hashable) -> _Known | None:
    return next((known for known in _TABLE if is_a(kind, known.package, known.name)), None)


def is_a(kind: Any, package: str, name: str) -> bool:
    """Whether ``kind`` is, or is below, the class of that name in that package."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == package for base in kind.__mro__
    )


def _type(thing: object) -> type[Any]:
    return type(thing)


def _asked(attempts: Attempts | str, client: object) -> int:
    try:
        if isinstance(attempts, str):
            return 1 + int(operator.attrgetter(attempts)(client))
        return attempts(client)
    except Exception:  # another version keeps it elsewhere
        return 0


def _read(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def _name(client: Any) -> str:
    named: Any = client if hasattr(client, "__qualname__") else _type(client)
    return f"{named.__module__.partition('.')[0]}.{named.__qualname__}"


def _of_genai(client: Any) -> int:
    api = client._api_client
    options = api._http_options.retry_options
    if options is None:
        return 2 if api._use_aiohttp() else 1  # once more after a lost connection
    return 5 if options.attempts is None else int(options.attempts)


def _of_retries(retries: Any) -> int:
    """urllib3's ``Retry``, a number of retries, or None for its default of 3."""
    total = 3 if retries is None else getattr(retries, "total", retries)
    return 1 + int(total or 0)


def _of_openai_model(model: Any) -> int:
    return 1 + (2 if model.max_retries is None else int(model.max_retries))


def _of_gemini_model(model: Any) -> int:
    return int(model.max_retries)  # it counts attempts


def _of_runnable(runnable: Any) -> int:
    return int(runnable.max_attempt_number)


def _of_session(session: Any) -> int:
    return max(_of_retries(adapter.max_retries) for adapter in session.adapters.values())


def _of_keycloak(client: Any) -> int:
    return _of_session(client.connection._s)


def _of_prometheus(client: Any) -> int:
    return _of_session(client._session)


def _of_pool(pool: Any) -> int:
    return _of_retries(pool.connection_pool_kw.get("retries"))


def _of_redis(client: Any) -> int:
    retry = client.get_retry()
    return 1 if retry is None else 1 + int(retry._retries)


def _of_botocore(client: Any) -> int:
    retries: dict[str, Any] = client.meta.config.retries or {}
    if "total_max_attempts" in retries:
        return int(retries["total_max_attempts"])
    if "max_attempts" in retries:
        return 1 + int(retries["max_attempts"])
    return 5 if retries.get("mode", "legacy") == "legacy" else 3


def _of_tenacity(retrying: Any) -> int:
    """Its attempts; without an end (or one in seconds) more than can be told, so the least that is too many."""
    return int(getattr(retrying.stop, "max_attempt_number", 2))


def _of_pipeline(fn: Any) -> int:
    pipeline = getattr(fn, "__resilience_pipeline__", fn)
    if type(pipeline).__name__ != "Pipeline" or "resilience" not in type(pipeline).__module__:
        return 1
    return int(pipeline.describe()["requests"])


_SDK: Final = "max_retries=0"
_FGA: Final = "retry_params=RetryParams(max_retry=0)"
_GENAI: Final = "HttpOptions(retry_options=HttpRetryOptions(attempts=1))"
_TABLE: Final = (
    _Known("openai", "BaseClient", "max_retries", _SDK),
    _Known("anthropic", "BaseClient", "max_retries", _SDK),
    _Known("google", "Client", _of_genai, _GENAI),
    _Known("langchain_openai", "BaseChatOpenAI", _of_openai_model, _SDK),
    _Known("langchain_anthropic", "ChatAnthropic", "max_retries", _SDK),
    _Known("langchain_google_genai", "ChatGoogleGenerativeAI", _of_gemini_model, "max_retries=1"),
    _Known("langchain_core", "RunnableRetry", _of_runnable, "no with_retry()"),
    _Known("openfga_sdk", "ClientConfiguration", "retry_params.max_retry", _FGA),
    _Known("openfga_sdk", "OpenFgaClient", "_client_configuration.retry_params.max_retry", _FGA),
    _Known("redis", "Redis", _of_redis, "retry=Retry(NoBackoff(), 0)"),
    _Known("keycloak", "KeycloakOpenID", _of_keycloak, "max_retries=0"),
    _Known("keycloak", "KeycloakAdmin", _of_keycloak, "max_retries=0"),
    _Known("prometheus_api_client", "PrometheusConnect", _of_prometheus, "retry=Retry(0)"),
    _Known("litellm", "Router", "num_retries", "num_retries=0"),
    _Known("requests", "Session", _of_session, "HTTPAdapter(max_retries=0)"),
    _Known("urllib3", "PoolManager", _of_pool, "retries=False"),
    _Known("httpx", "Client", "_transport._pool._retries", "HTTPTransport(retries=0)"),
    _Known("httpx", "AsyncClient", "_transport._pool._retries", "AsyncHTTPTransport(retries=0)"),
    _Known("httpx", "HTTPTransport", "_pool._retries", "retries=0"),
    _Known("httpx", "AsyncHTTPTransport", "_pool._retries", "retries=0"),
    _Known("httpx2", "Client", "_transport._pool._retries", "HTTPTransport(retries=0)"),
    _Known("httpx2", "AsyncClient", "_transport._pool._retries", "AsyncHTTPTransport(retries=0)"),
    _Known("httpx2", "HTTPTransport", "_pool._retries", "retries=0"),
    _Known("httpx2", "AsyncHTTPTransport", "_pool._retries", "retries=0"),
    _Known("botocore", "BaseClient", _of_botocore, 'Config(retries={"total_max_attempts": 1})'),
)
