"""What an error of a model provider means to retry, breaker and fallback.

| error | retried | next model | breaker |
|---|---|---|---|
| 429 | only on the last model, after its Retry-After | yes | neutral |
| 503 and 529 overloaded, timeouts | only on the last model | yes | failure |
| other 5xx, lost connections, truncated and garbled answers | yes | yes | failure |
| 404 model not found, exhausted quota or credit | no | yes | neutral |
| context too long, refused content, 400, 401, 403 | no | no | neutral |

Another model answers sooner than a wait for the one that is overloaded or limiting us, and asking the overloaded one
again makes its trouble worse; where there is no other model, waiting is what is left.

Errors are known by what they carry (status, code, type; in the error or in what it was raised from) and by LangChain's
own types, so that no provider's package is imported. The rest is the layer's own classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

from langchain_core import exceptions as core

from ...errors import BulkheadFull, CircuitOpen, QuotaUsed, RateLimited, ResilienceError, TimedOut
from ...outcome import Outcome, Verdict, classify

__all__ = ["GarbledAnswer", "ModelClassifier", "ModelFailure", "TruncatedAnswer", "facts_of", "reason"]

_CONTEXT: Final = frozenset({"context_length_exceeded", "request_too_large"})
_QUOTA: Final = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "insufficient_quota",
    }
)
_OVERLOADED: Final = frozenset({"overloaded", "overloaded_error", "server_is_overloaded", "slow_down"})
_RATE: Final = frozenset({"rate_limit_error", "rate_limit_exceeded", "resource_exhausted"})
_BROKEN: Final = frozenset({"api_error", "internal", "internal_error", "server_error", "timeout_error"})
_TELLING: Final = _QUOTA | _OVERLOADED | _RATE | _BROKEN
# Anthropic reports an empty account as a plain 400; nothing but its message tells.
_NO_CREDIT: Final = "credit balance is too low"

# The status that LangChain's own types of errors stand for, where a provider's package keeps the real one to itself.
_TYPED: Final[dict[type[BaseException], int]] = {
    core.ModelAuthenticationError: 401,
    core.ModelPermissionDeniedError: 403,
    core.ModelInvalidRequestError: 400,
    core.ModelNotFoundError: 404,
    core.ModelRateLimitError: 429,
    core.ModelAPIError: 500,
}

_FAILURE: Final = Verdict(Outcome.FAILURE, retryable=True, unavailable=True)
_ELSEWHERE: Final = Verdict(Outcome.NEUTRAL, retryable=False, unavailable=True)
_CALLERS: Final = Verdict(Outcome.NEUTRAL)


class ModelFailure(ConnectionError):
    """A model gave no usable answer, though its SDK raised nothing, or nothing that tells what it means."""


class TruncatedAnswer(ModelFailure):
    """A stream ended without the provider's finish reason. The SDKs take this for a whole answer."""

    def __init__(self, model: str) -> None:
        super().__init__(f"{model} ended its answer without a finish reason")


class GarbledAnswer(ModelFailure):
    """The provider's answer could not be read. What it was is left out: it may hold a conversation."""

    def __init__(self, model: str) -> None:
        super().__init__(f"{model} sent an answer that cannot be read")


class _Facts(NamedTuple):
    """What an error carries: ``holder`` is the one in its chain of causes with the HTTP status. ``typed``: nobody has
    it, the status is what LangChain's type of the error stands for.
    """

    status: int | None
    words: frozenset[str]
    holder: BaseException
    typed: bool = False


class ModelClassifier:
    """The classifier of one model's pipeline. ``last`` is True where no other model follows it in the chain."""

    def __init__(self, *, last: bool) -> None:
        self.last = last

    def __call__(self, exc: BaseException) -> Verdict:
        """Say what ``exc`` means. Never raises."""
        if isinstance(exc, ResilienceError):
            return self._of_ours(exc)
        if not isinstance(exc, Exception):
            return _CALLERS
        if isinstance(exc, ModelFailure):
            return _FAILURE
        return self._of_facts(exc, facts_of(exc))

    def _of_ours(self, exc: ResilienceError) -> Verdict:
        if isinstance(exc, TimedOut):
            return _FAILURE._replace(retryable=self.last)
        if isinstance(exc, RateLimited):
            return _ELSEWHERE._replace(retry_after=exc.retry_after)
        if exc.__cause__ is not None and not isinstance(exc, CircuitOpen):
            return self(exc.__cause__)._replace(retryable=False)
        return classify(exc)

    def _of_facts(self, exc: Exception, facts: _Facts) -> Verdict:
        status, words, holder, typed = facts
        if isinstance(exc, core.ContextOverflowError) or words & _CONTEXT:
            return _CALLERS
        if _quota_is_gone(facts) or status == 404:
            return _ELSEWHERE
        if status == 429 or (status is None and words & _RATE):
            wait = classify(holder).retry_after
            return Verdict(Outcome.NEUTRAL, retryable=self.last, retry_after=wait, unavailable=True)
        if status in (408, 503, 504, 529) or words & _OVERLOADED or _is_timeout(exc):
            return _FAILURE._replace(retryable=self.last, retry_after=classify(holder).retry_after)
        if status is None and (words & _BROKEN or isinstance(exc, core.ModelConnectionError)):
            return _FAILURE
        if typed and status is not None:
            return _FAILURE if status >= 500 else _CALLERS
        return classify(holder)


def facts_of(exc: BaseException) -> _Facts:
    """The status, codes and types in ``exc`` and what it was raised from."""
    words: set[str] = set()
    for link in _causes(exc):
        words.update(_words(link))
        for name in ("status_code", "code"):
            value = getattr(link, name, None)
            if isinstance(value, int) and 400 <= value < 600:
                return _Facts(value, frozenset(words), link)
        # The connection was lost: what its library calls a code is none of the provider's.
        if classify(link).unavailable:
            return _Facts(None, frozenset(words), link)
    # An error event within a stream has a type of the provider's own, which says more than LangChain's.
    status = None if words & _TELLING else _status_of_type(exc)
    return _Facts(status, frozenset(words), exc, typed=True)


def _status_of_type(exc: BaseException) -> int | None:
    return next((status for kind, status in _TYPED.items() if isinstance(exc, kind)), None)


def reason(exc: BaseException) -> str:
    """Why a model could not answer, in a few words that are safe to show: nothing of what was sent or received."""
    if isinstance(exc, CircuitOpen):
        return "its circuit is open"
    if isinstance(exc, BulkheadFull):
        return "all its places are taken"
    if isinstance(exc, QuotaUsed):
        return "our quota is used up for now"
    if isinstance(exc, RateLimited):
        return "asked to be left alone for a while"
    if isinstance(exc, TimedOut):
        return f"no answer within {exc.seconds:g} s"
    if isinstance(exc, TruncatedAnswer):
        return "its answer was cut short"
    if isinstance(exc, GarbledAnswer):
        return "its answer could not be read"
    facts = facts_of(exc)
    for applies, text in (
        (_quota_is_gone(facts), "quota exhausted"),
        (facts.status == 404, "model not found"),
        (facts.status == 429 or (facts.status is None and facts.words & _RATE), "rate limited"),
        (facts.status in (503, 529) or facts.words & _OVERLOADED, "overloaded"),
        (_is_timeout(exc), "timed out"),
    ):
        if applies:
            return text if facts.status is None else f"{text} ({facts.status})"
    return f"answered {facts.status}" if facts.status is not None else type(exc).__name__


def _causes(exc: BaseException, depth: int = 4) -> Iterator[BaseException]:
    link: BaseException | None = exc
    while link is not None and depth:
        yield link
        link, depth = link.__cause__, depth - 1


def _words(exc: BaseException) -> Iterator[str]:
    for name in ("code", "type", "error_code", "status"):
        value = getattr(exc, name, None)
        if isinstance(value, str):
            yield value.lower()
    body = _fields(getattr(exc, "body", None))
    error = _fields(body.get("error", body))
    yield from (value.lower() for key in ("code", "type") if isinstance(value := error.get(key), str))


def _quota_is_gone(facts: _Facts) -> bool:
    if facts.status == 402 or facts.words & _QUOTA:
        return True
    if facts.status == 400:
        return _NO_CREDIT in str(getattr(facts.holder, "message", "")).lower()
    return facts.status == 429 and _daily_quota(getattr(facts.holder, "details", None))


def _daily_quota(details: Any) -> bool:
    """Whether Google's 429 names a quota per day, which no wait of ours outlasts."""
    fields = _fields(details)
    error = _fields(fields.get("error", fields))
    return any(
        "PerDay" in str(_fields(violation).get("quotaId"))
        for entry in _items(error.get("details"))
        for violation in _items(_fields(entry).get("violations"))
    )


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def _is_timeout(exc: BaseException) -> bool:
    return any(isinstance(link, TimeoutError) or "Timeout" in type(link).__name__ for link in _causes(exc))
