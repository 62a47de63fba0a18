"""How long known clients wait for a service that has gone silent, and how long between attempts.

Known by the names of their classes. What their defaults are was read and measured on the versions of autumn 2026.
Nothing is imported.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, cast

from ..._known_clients import is_a

Reader = Callable[[Any], float] | str


class Patience(NamedTuple):
    """``seconds``: how long one attempt waits in silence (infinite: for ever). ``advice``: what to set."""

    seconds: float
    advice: str


class Pause(NamedTuple):
    """Seconds before the second attempt; each further one doubles it, up to ``longest``."""

    first: float
    longest: float

    def sum(self, attempts: int) -> float:
        """Seconds that are waited at most between so many attempts."""
        return sum(min(self.first * 2.0**number, self.longest) for number in range(min(attempts, 1000) - 1))


class _Known(NamedTuple):
    package: str
    name: str
    seconds: Reader
    advice: str
    pause: Pause = Pause(0.0, 0.0)
    trap: str = ""


def patience_of(client: Any) -> Patience | None:
    """How long ``client`` waits for an answer; None where that is not known."""
    known = _known(client)
    if known is None:
        return None
    seconds = _asked(known.seconds, client)
    return None if seconds is None else Patience(seconds, known.advice)


def pauses_of(client: Any, attempts: int) -> float:
    """Seconds that ``client`` waits at most between so many attempts, as far as is known (a Retry-After aside)."""
    known = _known(client)
    return 0.0 if known is None else known.pause.sum(attempts)


def trap_of(client: Any) -> str:
    """What is wrong with how ``client`` retries, beside that it does; "" where nothing is."""
    known = _known(client)
    return "" if known is None else known.trap


def _known(client: Any) -> _Known | None:
    return _known_kind(cast("Hashable", type(client)))


@functools.lru_cache(maxsize=4096)
def _known_kind(kind: Hashable) -> _Known | None:
    return next((known for known in _TABLE if is_a(kind, known.package, known.name)), None)


def _asked(reader: Reader, client: Any) -> float | None:
    try:
        value = operator.attrgetter(reader)(client) if isinstance(reader, str) else reader(client)
        return _seconds(value)
    except Exception:  # another version keeps it elsewhere
        return None


def _seconds(value: Any) -> float:
    """A number of seconds; None, for ever; httpx's, requests' or aiohttp's several, of which the longest counts."""
    if value is None:
        return math.inf
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, tuple):
        return max(map(_seconds, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    read = value.read if hasattr(value, "read") else value.read_timeout
    return max(_seconds(getattr(value, "connect", read)), _seconds(read))


def _of_genai(client: Any) -> float:
    milliseconds = client._api_client._http_options.timeout
    return math.inf if milliseconds is None else milliseconds / 1000


def _of_openfga(client: Any) -> float:
    configuration = getattr(client, "_client_configuration", client)
    milliseconds = configuration.timeout_millisec
    return (5 * 60_000 if milliseconds is None else milliseconds) / 1000


def _of_redis(client: Any) -> Any:
    given = client.connection_pool.connection_kwargs
    return given.get("socket_timeout", _DEFAULT_OF_REDIS)


def _of_pool(pool: Any) -> Any:
    return pool.connection_pool_kw.get("timeout")


def _never(client: Any) -> float:
    return math.inf


def _of_botocore(client: Any) -> float:
    config = client.meta.config
    return max(_seconds(config.connect_timeout), _seconds(config.read_timeout))


_MILLISECONDS: Final = "timeout_millisec=milliseconds"
_DEAF: Final = "it does not heed a Retry-After in seconds"
_DEFAULT_OF_REDIS: Final = 5.0
_STAINLESS: Final = Pause(0.5, 8.0)
_GOOGLES: Final = Pause(2.0, 61.0)
_TABLE: Final = (
    _Known("openai", "BaseClient", "timeout", "timeout=seconds", _STAINLESS),
    _Known("anthropic", "BaseClient", "timeout", "timeout=seconds", _STAINLESS),
    _Known("google", "Client", _of_genai, "HttpOptions(timeout=milliseconds)", _GOOGLES),
    _Known("langchain_openai", "BaseChatOpenAI", "request_timeout", "timeout=seconds", _STAINLESS),
    _Known("langchain_anthropic", "ChatAnthropic", "default_request_timeout", "timeout=seconds", _STAINLESS),
    _Known("langchain_google_genai", "ChatGoogleGenerativeAI", "timeout", "timeout=seconds", _GOOGLES),
    _Known("openfga_sdk", "ClientConfiguration", _of_openfga, _MILLISECONDS, Pause(0.2, 120.0), _DEAF),
    _Known("openfga_sdk", "OpenFgaClient", _of_openfga, _MILLISECONDS, Pause(0.2, 120.0), _DEAF),
    _Known("redis", "Redis", _of_redis, "socket_timeout=seconds", Pause(0.01, 1.0)),
    _Known("keycloak", "KeycloakOpenID", "connection.timeout", "timeout=seconds"),
    _Known("keycloak", "KeycloakAdmin", "connection.timeout", "timeout=seconds"),
    _Known("prometheus_api_client", "PrometheusConnect", "_timeout", "timeout=seconds", Pause(2.0, 120.0)),
    _Known("litellm", "Router", "timeout", "timeout=seconds", _STAINLESS),
    _Known("requests", "Session", _never, "timeout=seconds with each call"),
    _Known("urllib3", "PoolManager", _of_pool, "timeout=seconds"),
    _Known("httpx", "BaseClient", "timeout", "timeout=seconds"),
    _Known("httpx2", "BaseClient", "timeout", "timeout=seconds"),
    _Known("aiohttp", "ClientSession", "timeout.total", "ClientTimeout(total=seconds)"),
    _Known(
        "botocore", "BaseClient", _of_botocore, "Config(connect_timeout=, read_timeout=)", Pause(1.0, 20.0)
    ),
)
