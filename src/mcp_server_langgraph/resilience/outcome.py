"""What an exception means: one classifier, asked by breaker, retry and fallback alike.

Three outcomes, not two. *Success* and *failure* say something about the dependency; *neutral* says nothing about it
(cancellation, our own rejections, what the caller did wrong, a bug) and gives places back without being counted.
Beside the outcome a `Verdict` says whether a new attempt can help, how long the dependency asked to be left alone,
and whether this is *unavailability*, the only thing that a fallback may answer for.

Errors of other libraries are known by name and by the shape of their attributes, so that nothing is imported:
httpx, httpx2, httpcore, aiohttp, requests, urllib3, redis, openai, anthropic, google-genai, openfga-sdk.

Sources: RFC 9110 section 15 (status codes), AWS "Timeouts, retries and backoff with jitter", sony/gobreaker v2
``IsExcluded`` and Netflix/concurrency-limits ``onIgnore`` (the third outcome).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from . import errors
from ._http_facts import FACTS, is_mute, retry_after_of, status_of, terminal_quota, told_not_to_retry

__all__ = ["Classifier", "Outcome", "Verdict", "classify"]


class Outcome(enum.Enum):
    """What a finished call says about the dependency."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class Verdict(NamedTuple):
    """What an exception means.

    ``retryable``: a new attempt can help. ``retry_after``: seconds that the dependency asked to wait at least, None
    where it said nothing. ``unavailable``: the dependency could not answer, so a fallback may.
    """

    outcome: Outcome
    retryable: bool = False
    retry_after: float | None = None
    unavailable: bool = False


Classifier = Callable[[BaseException], Verdict]

NEUTRAL: Final = Verdict(Outcome.NEUTRAL)
DOWN: Final = Verdict(Outcome.FAILURE, retryable=True, unavailable=True)
CUT: Final = Verdict(Outcome.FAILURE, retryable=False, unavailable=True)
FAILED: Final = Verdict(Outcome.FAILURE, retryable=True)

# Mistakes of the program, not of the dependency. JSONDecodeError and UnicodeDecodeError are ValueErrors too, but a
# reply that cannot be read is the dependency's doing; `_look_at` meets them first.
_BUGS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
)
_LOCAL_FILES: Final = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_GARBAGE: Final = (UnicodeDecodeError, EOFError)

_HTTPX: Final = frozenset({"NetworkError", "ProxyError", "RemoteProtocolError", "TimeoutException"})
_SDK: Final = frozenset({"APIConnectionError"})
# Package -> classes (with all below them) that mean: no usable answer came.
_UNREACHABLE: Final[dict[str, frozenset[str]]] = {
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "anthropic": _SDK,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "json": frozenset({"JSONDecodeError"}),  # known by name, as importing json costs 2 ms
    "openai": _SDK,
    "redis": frozenset(
        {"ClusterDownError", "ConnectionError", "MasterDownError", "OutOfMemoryError", "ReadOnlyError"}
        | {"TimeoutError", "TryAgainError"}
    ),
    "requests": frozenset({"ChunkedEncodingError", "ConnectionError", "Timeout"}),
    "urllib3": frozenset({"MaxRetryError", "NewConnectionError", "ProtocolError", "TimeoutError"}),
}
# Known libraries whose other errors are the caller's (a wrong command, a wrong type, a key that somebody else changed),
# not the dependency's; and what steers a run of a graph (an interrupt, a command for the parent graph), or is meant for
# the model's eyes.
_CALLERS: Final[dict[str, frozenset[str]]] = {
    "langchain_core": frozenset({"ToolException"}),
    "langgraph": frozenset({"GraphBubbleUp"}),
    "redis": frozenset(
        {"CrossSlotTransactionError", "DataError", "PubSubError", "ResponseError", "WatchError"}
    ),
}
# The caller's own pool is too small. redis-py calls that a lost connection.
_OWN_LIMITS: Final[dict[str, frozenset[str]]] = {"redis": frozenset({"MaxConnectionsError"})}

# On uvloop a lost connection may be told by errors that look like bugs, where asyncio's own loop says nothing or raises
# a ConnectionError: by a write to it (https://github.com/MagicStack/uvloop/issues/506; redis-py lets that through), and
# by a look at its socket (anyio 4, and so httpx, where it was reset as soon as it was made). The ends of their texts.
_LOST_ON_UVLOOP: Final[dict[type, str]] = {
    AttributeError: "'NoneType' object has no attribute 'getpeername'",
    RuntimeError: "the handler is closed",
}

_TOO_MANY: Final = 429
_REQUEST_TIMEOUT: Final = 408
_NOT_IMPLEMENTED: Final = 501


def classify(exc: BaseException) -> Verdict:
    """Say what ``exc`` means. Never raises.

    408, 5xx, connection errors and timeouts are failures that a new attempt may cure. 429 is neutral, retryable, and
    not unavailability, since a caller's own load can cause it. Other 4xx, bugs, cancellation and our own rejections
    are neutral. A dependency that says "do not retry" is taken at its word. What nobody knows is a failure, retryable,
    and not unavailability (it may be a bug).
    """
    if isinstance(exc, errors.ResilienceError):
        return _of_ours(exc)
    if not isinstance(exc, Exception):
        return NEUTRAL
    verdict, mute = _judge_type(type(exc))
    told = _LOST_ON_UVLOOP.get(type(exc))
    if told is not None and str(exc).endswith(told):
        return DOWN
    if verdict is DOWN and isinstance(exc.__cause__, errors.ResilienceError):
        return _of_ours(exc.__cause__)  # an SDK's name for what we said below it
    if mute and FACTS.isdisjoint(exc.__dict__):
        return verdict
    verdict = _of_telling(exc, verdict)
    return verdict._replace(retryable=False) if verdict.retryable and told_not_to_retry(exc) else verdict


def _of_telling(exc: Exception, by_type: Verdict) -> Verdict:
    status = status_of(exc)
    if status is not None:
        return _of_status(status, exc)
    wait = retry_after_of(exc) if by_type.outcome is Outcome.FAILURE else None
    return by_type if wait is None else by_type._replace(retry_after=wait)


def _of_ours(exc: errors.ResilienceError) -> Verdict:
    if isinstance(exc, errors.CircuitOpen):
        return Verdict(Outcome.NEUTRAL, retry_after=exc.retry_after, unavailable=True)
    if isinstance(exc, errors.TimedOut):
        return NEUTRAL if exc.clock == "inherited" else DOWN
    if isinstance(exc, (errors.RetriesExhausted, errors.StreamInterrupted)) and exc.__cause__ is not None:
        return classify(exc.__cause__)._replace(retryable=False)
    return NEUTRAL


def _of_status(status: int, exc: BaseException) -> Verdict:
    if status == _TOO_MANY:
        return Verdict(Outcome.NEUTRAL, retryable=not terminal_quota(exc), retry_after=retry_after_of(exc))
    if status == _NOT_IMPLEMENTED:
        return CUT
    if status >= 500 or status == _REQUEST_TIMEOUT:
        return DOWN._replace(retry_after=retry_after_of(exc))
    return NEUTRAL


_judged: dict[type[Exception], tuple[Verdict, bool]] = {}


def _judge_type(kind: type[Exception]) -> tuple[Verdict, bool]:
    """What errors of this type mean, and whether none can say more than that, but by what is in its ``__dict__``."""
    judged = _judged.get(kind)
    if judged is None:
        judged = _judged[kind] = _look_at(kind), is_mute(kind)
    return judged


def _look_at(kind: type[Exception]) -> Verdict:
    if _is_one_of(_OWN_LIMITS, kind):
        return NEUTRAL
    if _is_one_of(_UNREACHABLE, kind):
        return DOWN
    if issubclass(kind, _GARBAGE):
        return DOWN
    if issubclass(kind, _BUGS) or issubclass(kind, _LOCAL_FILES) or _is_one_of(_CALLERS, kind):
        return NEUTRAL
    if issubclass(kind, (OSError, asyncio.TimeoutError)):
        return DOWN
    return FAILED


def _is_one_of(known: dict[str, frozenset[str]], kind: type[Exception]) -> bool:
    return any(base.__name__ in known.get(_package(base), ()) for base in kind.__mro__)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]
