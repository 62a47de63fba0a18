"""Retries on top of retries: found out, told, and not multiplied.

Three attempts above a client that makes three of its own are nine requests; three layers of four are 64, at the moment
at which the dependency can bear them least (B. Beyer et al., "Site Reliability Engineering", ch. 22). So one layer
should retry, and it should be the lowest one of ours: it knows most.

- At run time: a retry leaves a mark on what it raises (a transport on the response that it gives back), and some
  clients tell in their headers that they have retried. A retry further up that sees this does not retry once more
  (unless it was told to: ``Retry(stacked=True)``), and warns once of the two, by name.
- At the start: `check` looks at a client and tells whether it retries by itself, `audit` what that makes of a pipeline.

Events: ``warning`` (problem "stacked retries").
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import events
from ._known_clients import Finding, findings

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = [
    "Below",
    "Finding",
    "audit",
    "check",
    "copy_mark",
    "forget",
    "is_marked",
    "mark",
    "retried_below",
    "warn",
]

_MARK: Final = "__resilience_retried__"
_CLIENTS_COUNT: Final = "x-stainless-retry-count"
# Causes are followed so far; nobody wraps an error more often.
_DEPTH: Final = 8


class Below(NamedTuple):
    """Who has retried below, and how many attempts it makes at most (as far as it tells)."""

    name: str
    attempts: int


class _Mark(NamedTuple):
    by: object
    name: str
    attempts: int
    when: float
    loop: Callable[[], object | None] | None

    def is_of(self, began: float) -> bool:
        """Whether it was left after ``began``. An exception object may be raised many times, even in many loops, whose
        clocks are not one.
        """
        same_clock = self.loop is None or self.loop() is asyncio._get_running_loop()
        return self.when > began and same_clock


def mark(exc: BaseException, by: object, name: str, attempts: int, now: float) -> None:
    """Leave on ``exc`` that the loop ``by`` of pipeline ``name``, of at most ``attempts``, has given up retrying."""
    with contextlib.suppress(Exception):  # a frozen dataclass may be an exception
        loop = asyncio._get_running_loop()
        setattr(exc, _MARK, _Mark(by, name, attempts, now, None if loop is None else weakref.ref(loop)))


def is_marked(exc: BaseException) -> bool:
    """Whether somebody has retried, and given up with ``exc``."""
    return isinstance(_read(exc, _MARK), _Mark)


def copy_mark(source: object, target: object) -> bool:
    """Leave on ``target``, an answer, what was left on ``source``; True if there was anything."""
    left = _read(source, _MARK)
    if left is None:
        return False
    with contextlib.suppress(Exception):  # it may have slots
        setattr(target, _MARK, left)
    return True


def retried_below(exc: BaseException, by: object, began: float) -> Below | None:
    """Who has retried below the loop ``by``, whose call began at ``began``; None where nobody says so."""
    for each in _chain(exc, _DEPTH):
        for left in (_read(each, _MARK), _read(_read(each, "response"), _MARK)):
            if isinstance(left, _Mark) and left.by is not by and left.is_of(began):
                return Below(left.name, left.attempts)
        count = _retries_of_client(each)
        if count:
            return Below(f"{type(each).__module__.partition('.')[0]} client", count + 1)
    return None


def _read(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # foreign properties may raise anything
        return None


def _chain(exc: BaseException, depth: int) -> Iterator[BaseException]:
    """The exception, those in it where it is a group, and what they were raised from."""
    yield exc
    inside: Sequence[BaseException] = getattr(exc, "exceptions", ())
    for each in (*inside, exc.__cause__) if depth else ():
        if isinstance(each, BaseException):
            yield from _chain(each, depth - 1)


def _retries_of_client(exc: Any) -> int:
    """How often the client says that it has sent the request again (openai and anthropic do)."""
    try:
        request = getattr(exc, "request", None)
        return 0 if request is None else max(0, int(request.headers.get(_CLIENTS_COUNT, 0)))
    except Exception:  # foreign properties may raise anything (httpx: RuntimeError where no request is set)
        return 0


_warned: set[tuple[str, str]] = set()
_warned_lock: Final = threading.Lock()


def warn(outer: str, attempts: int, below: Below) -> None:
    """Warn once of a pipeline that retries above somebody who does."""
    pair = (outer, below.name)
    with _warned_lock:
        if pair in _warned:
            return
        _warned.add(pair)
    events.emit(
        "warning",
        outer,
        problem="stacked retries",
        outer=outer,
        inner=below.name,
        requests=attempts * below.attempts,
        advice=f"let one of {outer!r} and {below.name!r} retry",
    )


def forget() -> None:
    """Warn anew (for tests)."""
    with _warned_lock:
        _warned.clear()


def check(client: object) -> list[Finding]:
    """The retries that a client, a transport or a decorated function makes by itself; empty where none are known.

    Known by name, nothing is imported: openai, anthropic, google-genai, langchain's models and ``with_retry``,
    openfga-sdk, redis, python-keycloak, prometheus-api-client, requests, urllib3, httpx and httpx2, botocore, tenacity,
    and our own pipelines. `integrations.doctor` looks for all of them in whatever holds them.
    """
    return list(findings(client))


def audit(pipeline: Pipeline, *clients: object) -> list[Finding]:
    """`check` of clients that are called through a pipeline which retries; warns of each one that retries too."""
    attempts = pipeline.describe()["requests"]
    found: list[Finding] = []
    for client in clients:
        retrying = check(client)
        if retrying and attempts > 1:
            names = " > ".join(each.client for each in retrying)
            warn(pipeline.name, attempts, Below(names, math.prod(each.attempts for each in retrying)))
        found += retrying
    return found
