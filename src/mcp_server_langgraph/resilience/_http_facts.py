"""Status and Retry-After of an error or response, whichever HTTP library made it. Nothing is imported for it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Final

_STATUS_NAMES: Final = ("status_code", "status", "code")
# Providers say in this way that waiting will not help (OpenAI's error code).
_WAITS: Final = (
    ("retry-after-ms", 1e-3),
    ("x-ms-retry-after-ms", 1e-3),
    ("grpc-retry-pushback-ms", 1e-3),
    ("retry-after", 1.0),
)
_TERMINAL_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# The attributes that are looked at here.
FACTS: Final = frozenset(
    {*_STATUS_NAMES, "details", "headers", "response", "retry_after", "trailing_metadata", "type"}
)
_HOOKS: Final = ("__getattr__", "__getattribute__")


def is_mute(kind: type[BaseException]) -> bool:
    """Whether an error of this type tells nothing but what is in its ``__dict__``: the type has none of the `FACTS`."""
    ours = [base for base in kind.__mro__ if base.__module__ != "builtins"]
    return not any(name in vars(base) for base in ours for name in (*FACTS, *_HOOKS))


def status_of(source: object) -> int | None:
    """The HTTP status that an error or response carries; None where there is none."""
    for holder in (source, _read(source, "response")):
        for name in _STATUS_NAMES:
            value = _read(holder, name)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
                return int(value)
    return None


def terminal_quota(exc: BaseException) -> bool:
    """Whether a 429 says that the quota is used up for good, so that no wait helps."""
    return _read(exc, "code") in _TERMINAL_CODES or _read(exc, "type") in _TERMINAL_CODES


def told_not_to_retry(source: object) -> bool:
    """Whether the dependency said that it does not want to be asked again: ``x-should-retry: false`` (OpenAI, Anthropic
    and whoever serves their SDKs), or ``grpc-retry-pushback-ms`` below 0 or unreadable (gRPC A6).
    """
    headers = headers_of(source)
    if headers is None:
        return False
    if (_header(headers, "x-should-retry") or "").strip().lower() == "false":
        return True
    pushback = _header(headers, "grpc-retry-pushback-ms")
    return pushback is not None and not pushback.strip().isdigit()


def retry_after_of(source: object, *, wall_now: float | None = None) -> float | None:
    """Seconds that the dependency asked to wait: ``retry-after-ms``, Retry-After in seconds or as a date
    (RFC 9110 section 10.2.3), a ``retry_after`` attribute, or google.rpc.RetryInfo. Never negative; None where it
    said nothing that can be read.
    """
    headers = headers_of(source)
    if headers is not None:
        for name, scale in _WAITS:
            text = _header(headers, name)
            if text is not None:
                seconds = _seconds(text, scale, time.time() if wall_now is None else wall_now)
                if seconds is not None:
                    return seconds
    direct = _read(source, "retry_after")
    if isinstance(direct, (int, float)):
        return _bounded(float(direct))
    return _google_delay(source)


def headers_of(source: object) -> Mapping[str, Any] | None:
    """The HTTP headers that an error or response carries; None where there are none."""
    for holder in (_read(source, "response"), source):
        headers = _read(holder, "headers")
        if headers is not None and hasattr(headers, "get"):
            return headers  # type: ignore[no-any-return]
    return _grpc_metadata(source)


def _grpc_metadata(source: Any) -> Mapping[str, Any] | None:
    try:
        return dict(source.trailing_metadata())
    except Exception:
        return None


def _header(headers: Mapping[str, Any], name: str) -> str | None:
    for spelling in (name, name.title()):
        value = headers.get(spelling)
        if value is not None:
            return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return None


def _seconds(text: str, scale: float, wall_now: float) -> float | None:
    try:
        return _bounded(float(text) * scale)
    except ValueError:
        return _until_date(text, wall_now)


def _until_date(text: str, wall_now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # costs milliseconds, and dates are rare

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall_now)
    except (ValueError, TypeError, OverflowError):
        return None


def _google_delay(source: object) -> float | None:
    details = _item(_read(source, "details"), "error")
    entries = _item(details, "details")
    for entry in entries if isinstance(entries, list) else ():  # pyright: ignore[reportUnknownVariableType]
        delay = _item(entry, "retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            return _seconds(delay[:-1], 1.0, 0.0)
    return None


def _item(holder: Any, name: str) -> Any:
    return holder.get(name) if hasattr(holder, "get") else None


def _bounded(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _read(holder: object, name: str) -> Any:
    # Properties of foreign errors may raise anything (httpx raises RuntimeError where a request is not set).
    try:
        return getattr(holder, name, None)
    except Exception:
        return None
