"""The errors of the layer, as one tree.

    ResilienceError
    ├── Rejected                 the call was never begun; carries ``retry_after`` and the policy that refused
    │   ├── CircuitOpen          the dependency is believed to be down
    │   ├── BulkheadFull         our own places and their queue are taken, or the wait for one took too long
    │   ├── LimitReached         the dependency has as many of our calls as it can serve, and the wait was too long
    │   ├── Overloaded           this process sheds what matters least; not to be retried at once
    │   ├── RateLimited          the provider's quota, or ours, is used up for now
    │   │   ├── CoolingDown      it asked to be left alone for a while
    │   │   └── QuotaUsed        by what the provider says of our quota, the call would be refused
    │   ├── Throttled            shed by the client before it reached the dependency
    │   └── DeadlineExceeded     nothing was left of the caller's deadline
    ├── TimedOut                 begun, then cut by us; also a ``TimeoutError``
    ├── RetriesExhausted         only where ``RETRY_RERAISE`` is false; raised from the last error
    ├── StreamInterrupted        a stream broke after its first item; carries what was received
    └── ConfigurationError       a policy, an order of policies or a setting that cannot be right; also a ``ValueError``
        └── SettingsError        all the wrong settings at once

An exception of the dependency itself passes through unchanged, with a note of the attempts made and the time spent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

__all__ = [
    "BulkheadFull",
    "CircuitOpen",
    "ConfigurationError",
    "CoolingDown",
    "DeadlineExceeded",
    "LimitReached",
    "Overloaded",
    "QuotaUsed",
    "RateLimited",
    "Rejected",
    "ResilienceError",
    "RetriesExhausted",
    "SettingsError",
    "StreamInterrupted",
    "Throttled",
    "TimedOut",
]


class ResilienceError(Exception):
    """Base of everything the layer itself raises."""


class Rejected(ResilienceError):
    """The call was not begun.

    ``pipeline`` names the pipeline (or breaker) that refused, ``policy`` the kind of policy. ``retry_after`` is the
    number of seconds after which a new try makes sense; None where that is not known.
    """

    policy: ClassVar[str] = "policy"
    because: ClassVar[str] = "refused the call"

    if TYPE_CHECKING:
        # There is none: refusals are made in numbers, and what they are given is kept in `args` without one.
        def __init__(self, pipeline: str, retry_after: float | None = None) -> None: ...

    @property
    def pipeline(self) -> str:
        """Who refused: a pipeline, or a breaker."""
        return cast(str, self.args[0])

    @property
    def retry_after(self) -> float | None:
        """Seconds after which a new try makes sense; None where that is not known."""
        return self.args[1] if len(self.args) > 1 else None

    def __str__(self) -> str:
        hint = "" if self.retry_after is None else f"; retry after {self.retry_after:.3g} s"
        return f"{self.policy} of {self.pipeline!r} {self.because}{hint}"


class CircuitOpen(Rejected):
    """The circuit breaker is open, or all its half-open places are taken."""

    policy = "circuit_breaker"
    because = "is open"


class BulkheadFull(Rejected):
    """No place was free, and the queue was full or the wait for a place too long."""

    policy = "bulkhead"
    because = "is full"


class LimitReached(Rejected):
    """The adaptive limit was reached, and the line before it was full or the wait in it too long."""

    policy = "adaptive_limit"
    because = "is reached"


class Overloaded(Rejected):
    """This process is overloaded and sheds calls, those that matter least first.

    ``headers`` is what to answer with: when to come back, and that clients must not retry by themselves before.
    """

    policy = "shed"
    because = "shed the call"

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds (RFC 9110), and ``x-should-retry``, which the clients of OpenAI and Anthropic
        look at.
        """
        return {"Retry-After": str(math.ceil(self.retry_after or 1.0)), "x-should-retry": "false"}


class RateLimited(Rejected):
    """The quota towards the dependency is used up for now."""

    policy = "rate_limit"
    because = "has no permit left"


class CoolingDown(RateLimited):
    """The dependency asked to be left alone for a while."""

    policy = "cooldown"
    because = "leaves the dependency alone"


class QuotaUsed(RateLimited):
    """By what is known of our quota the provider would refuse the call."""

    policy = "quota"
    because = "is used up"


class Throttled(Rejected):
    """The client shed the call because the dependency has been refusing too many."""

    policy = "throttle"
    because = "shed the call"


class DeadlineExceeded(Rejected):
    """Nothing was left of the deadline that the caller set."""

    policy = "deadline"
    because = "found the deadline passed before the call began"


class TimedOut(ResilienceError, TimeoutError):
    """The call was begun and cut after ``seconds``. Told apart from a TimeoutError of the function itself."""

    def __init__(self, pipeline: str, seconds: float, clock: str = "total") -> None:
        super().__init__()
        self.args = (
            pipeline,
            seconds,
            clock,
        )  # given to OSError they would become errno, strerror and filename
        self.pipeline = pipeline
        self.seconds = seconds
        self.clock = clock

    def __str__(self) -> str:
        return f"{self.pipeline!r} was cut after {self.seconds:g} s ({self.clock})"


class RetriesExhausted(ResilienceError):
    """Every attempt failed; the last error is the ``__cause__``. Raised only where ``RETRY_RERAISE`` is false."""

    def __init__(self, pipeline: str, attempts: int, seconds: float) -> None:
        super().__init__(pipeline, attempts, seconds)
        self.pipeline = pipeline
        self.attempts = attempts
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.pipeline!r} gave up after {self.attempts} attempts in {self.seconds:.3g} s"


class StreamInterrupted(ResilienceError):
    """A stream broke after its first item; the reason is the ``__cause__``.

    ``received`` holds the last items that the consumer got (at most ``streaming.KEPT_ITEMS``), ``count`` how many
    there were in all.
    """

    def __init__(self, pipeline: str, received: Sequence[Any], count: int) -> None:
        super().__init__(pipeline, received, count)
        self.pipeline = pipeline
        self.received = tuple(received)
        self.count = count

    def __str__(self) -> str:
        return f"the stream of {self.pipeline!r} was interrupted after {self.count} items"


class ConfigurationError(ResilienceError, ValueError):
    """A policy, or an order of policies, that cannot be right."""


class SettingsError(ConfigurationError):
    """The settings that are wrong, all of them.

    ``problems`` has one sentence each: the variable, its value, what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)
