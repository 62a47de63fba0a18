"""What the identity provider publishes: fetched by one refresh at a time, kept over failed ones, trusted for a while.

    age < soft age            it is used as it is
    soft age <= age < hard    it is used, and refreshed in the background
    hard age <= age           it is not trusted any more: a caller waits for a refresh, or is told to come back

A failed refresh changes nothing. See jpadilla/pyjwt issue 1162 for what happens otherwise.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from mcp_server_langgraph.auth.identity import IdentityUnavailable
from mcp_server_langgraph.resilience import TimedOut, classify, timeout

__all__ = ["Ages", "Refreshed"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0

T = TypeVar("T")


class Ages:
    """Seconds, 0 < `soft` <= `hard`. Raises ValueError."""

    def __init__(self, soft: float, hard: float) -> None:
        if not 0 < soft <= hard:
            raise ValueError(f"0 < soft_age <= hard_age is needed, not {soft} and {hard}")
        self.soft = soft
        self.hard = hard


class Refreshed(Generic[T]):
    """A value from `fetch`; `what` it is, in the plural, is for people. Times are in seconds, on the loop's clock.

    `patience`: for so long after a refresh began callers wait for it; it goes on without them. After a failed refresh
    the next one begins 1, 2, 4, ... 30 seconds later, when a caller needs it.
    """

    def __init__(self, what: str, fetch: Callable[[], Awaitable[T]], ages: Ages, patience: float) -> None:
        self._what = what
        self._fetch = fetch
        self._ages = ages
        self._patience = patience
        self._value: T | None = None
        self._fetched_at = -math.inf
        self._not_before = -math.inf
        self._pause = _FIRST_PAUSE
        self._refresh: asyncio.Task[None] | None = None
        self.begun_at = -math.inf
        """When the last refresh began."""
        self.failure: Exception | None = None
        """Why the last refresh failed; None when it did not."""

    @property
    def age(self) -> float:
        """Seconds since the value was fetched; infinite before that."""
        return _now() - self._fetched_at

    @property
    def running(self) -> bool:
        """Whether a refresh is going on."""
        return self._refresh is not None

    async def get(self) -> T:
        """The value, trusted. Raises IdentityUnavailable."""
        if self.age >= self._ages.hard:
            await self.renewed()
        elif self._is_due() and self.may_begin():
            self._begin()
        if self._value is None or self.age >= self._ages.hard:
            raise self.unavailable(f"the identity provider's {self._what} cannot be had")
        return self._value

    async def renewed(self) -> None:
        """Wait for a refresh, a running one or a new one if its time has come; not longer than `patience`."""
        if self._refresh is None and not self.may_begin():
            return
        refresh = self._refresh or self._begin()
        left = self.begun_at + self._patience - _now()
        if left > 0:
            try:
                async with timeout(left):
                    await asyncio.shield(refresh)
            except TimedOut:
                return

    def may_begin(self) -> bool:
        """Whether the pause after a failure is over."""
        return _now() >= self._not_before

    def unavailable(self, what: str) -> IdentityUnavailable:
        """What a caller is told who needs a value that cannot be had now."""
        asked = _asked(self.failure) or 0.0
        error = IdentityUnavailable(what, max(asked, self._not_before - _now(), _FIRST_PAUSE))
        error.__cause__ = self.failure
        return error

    async def aclose(self) -> None:
        """Stop a refresh that is running."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait({self._refresh})

    def _is_due(self) -> bool:
        return self.failure is not None or self.age >= self._ages.soft

    def _begin(self) -> asyncio.Task[None]:
        """One refresh for everyone: it belongs to no caller, so no caller's deadline or cancellation ends it."""
        if self._refresh is None:
            self.begun_at = _now()
            loop = asyncio.get_running_loop()
            self._refresh = loop.create_task(self._run(), name=self._what, context=contextvars.Context())
        return self._refresh

    async def _run(self) -> None:
        try:
            self._value = await self._fetch()
        except Exception as error:
            self._failed(error)
        else:
            self._fetched_at = _now()
            self._not_before, self._pause, self.failure = -math.inf, _FIRST_PAUSE, None
        finally:
            self._refresh = None

    def _failed(self, error: Exception) -> None:
        self.failure = error
        self._not_before = _now() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        age = (
            f"those from {self.age:.0f} s ago stay in use"
            if math.isfinite(self._fetched_at)
            else "there are none"
        )
        _log.warning("%s were not refreshed (%s); %s", self._what, _why(error), age)


def _asked(failure: Exception | None) -> float | None:
    """Seconds that the provider asked to be left alone, where it said so."""
    if isinstance(failure, IdentityUnavailable):
        return failure.retry_after
    return None if failure is None else classify(failure).retry_after


def _why(error: Exception) -> str:
    """Our own text says more than the name; others' could hold what they were sent."""
    name = type(error).__name__
    return f"{name}: {error}" if name in ("UnusableReply", "IdentityUnavailable") else name


def _now() -> float:
    return asyncio.get_running_loop().time()
