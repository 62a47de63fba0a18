"""What a breaker was asked for in code, checked, and what comes of it under the settings."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from . import config
from ._machines.breaker_rules import BreakerRules
from .errors import ConfigurationError

__all__ = ["Asked", "doubts", "one_of_equals", "rules_for", "shown"]

_SETTINGS: Final = {
    "fail_max": "CIRCUIT_BREAKER_FAIL_MAX",
    "failure_rate": "CIRCUIT_BREAKER_FAILURE_RATE",
    "slow_rate": "CIRCUIT_BREAKER_SLOW_RATE",
    "slow_after": "CIRCUIT_BREAKER_SLOW_AFTER",
    "window": "CIRCUIT_BREAKER_WINDOW",
    "minimum_calls": "CIRCUIT_BREAKER_MINIMUM_CALLS",
    "timeout": "CIRCUIT_BREAKER_TIMEOUT_DURATION",
    "backoff": "CIRCUIT_BREAKER_BACKOFF",
    "timeout_max": "CIRCUIT_BREAKER_TIMEOUT_MAX",
    "half_open_max": "CIRCUIT_BREAKER_HALF_OPEN_MAX",
    "success_threshold": "CIRCUIT_BREAKER_SUCCESS_THRESHOLD",
    "ramp": "CIRCUIT_BREAKER_RAMP",
}
_WINDOW_SECONDS: Final = "CIRCUIT_BREAKER_WINDOW_SECONDS"

# The share of a grown break that is left to chance. Half: two replicas that failed together hardly come back together,
# and no break is less than half of what it could be.
_JITTER: Final = 0.5

# The shortest lease that is given where none was asked for, seconds.
_LEAST_LEASE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments given to a breaker; None where one was left to the settings."""

    fail_max: int | None = None
    timeout: float | None = None
    failure_rate: float | None = None
    slow_rate: float | None = None
    slow_after: float | None = None
    window: int | None = None
    window_seconds: float | None = None
    minimum_calls: int | None = None
    half_open_max: int | None = None
    success_threshold: int | None = None
    lease: float | None = None
    backoff: float | None = None
    timeout_max: float | None = None
    jitter: float | None = None
    ramp: float | None = None

    def check(self, name: str | None) -> None:
        """Raise `ConfigurationError` for a value out of range."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                _check(name, field.name, value)
        if self.window is not None and self.window_seconds is not None:
            raise ConfigurationError(
                f"CircuitBreaker {name!r}: window={self.window!r} (calls) and "
                f"window_seconds={self.window_seconds!r} exclude each other"
            )


_COUNT: Final = "a whole number of at least 1"
_RATE: Final = "above 0 and at most 1"
_SECONDS: Final = "above 0 seconds"
_ALLOWED: Final = {
    "fail_max": "a whole number of at least 0",
    "failure_rate": _RATE,
    "slow_rate": _RATE,
    "window": _COUNT,
    "minimum_calls": _COUNT,
    "half_open_max": _COUNT,
    "success_threshold": _COUNT,
    "backoff": "a number of at least 1",
    "jitter": "from 0 to 1",
    "ramp": "a number of seconds of at least 0",
}


def _check(name: str | None, argument: str, value: Any) -> None:
    allowed = _ALLOWED.get(argument, _SECONDS)
    if not _is_allowed(argument, allowed, value):
        raise ConfigurationError(f"CircuitBreaker {name!r}: {argument}={value!r} must be {allowed}")


def _is_allowed(argument: str, allowed: str, value: Any) -> bool:
    if argument == "fail_max":
        return isinstance(value, int) and value >= 0
    if allowed is _COUNT:
        return isinstance(value, int) and value >= 1
    if allowed is _RATE:
        return bool(0 < value <= 1)
    if argument == "jitter":
        return bool(0 <= value <= 1)
    if argument == "backoff":
        return bool(1 <= value < math.inf)
    if argument == "ramp":
        return bool(0 <= value < math.inf)
    return bool(value > 0)


def rules_for(asked: Asked, settings: config.Settings, service: str, name: str | None) -> BreakerRules:
    """The rules in force. Raises `ConfigurationError` where the arguments and settings contradict each other."""
    chosen = {
        argument: settings.choose(service, variable, getattr(asked, argument))
        for argument, variable in _SETTINGS.items()
    }
    if chosen["slow_after"] is None:
        if chosen["slow_rate"] is not None:
            raise ConfigurationError(
                f"CircuitBreaker {name!r}: slow_rate={chosen['slow_rate']!r} needs slow_after, in seconds"
            )
        chosen["slow_after"] = math.inf
    if not chosen["fail_max"] and chosen["failure_rate"] is None and chosen["slow_rate"] is None:
        raise ConfigurationError(f"CircuitBreaker {name!r}: fail_max=0 needs a failure_rate or a slow_rate")
    rules = BreakerRules(
        **chosen,
        window_seconds=_window_seconds(asked, settings, service),
        jitter=_JITTER if asked.jitter is None else asked.jitter,
        lease=asked.lease or max(_LEAST_LEASE, chosen["timeout"]),
    )
    return one_of_equals(rules)


R = TypeVar("R", Asked, BreakerRules)


def one_of_equals(value: R) -> R:
    """The first of equal settings: thousands of breakers made alike (`Keyed`) share one object."""
    first: R = _first(value, repr(value))
    return first


@functools.lru_cache(maxsize=128)
def _first(value: R, shown: str) -> R:
    """``shown`` tells 60 and 60.0 apart, which are equal."""
    return value


def _window_seconds(asked: Asked, settings: config.Settings, service: str) -> float | None:
    """The length of a time window; None for a window of calls, which wins where it was asked for more closely."""
    seconds: float | None = settings.own(service, _WINDOW_SECONDS)
    if seconds is None and settings.own(service, _SETTINGS["window"]) is None and asked.window is None:
        seconds = settings.choose(service, _WINDOW_SECONDS, asked.window_seconds)
    return seconds


def shown(name: str | None, rules: BreakerRules) -> Mapping[str, Any]:
    """The rules as arguments; what is off, or says nothing without what is off, is left out."""
    found: dict[str, Any] = {} if name is None else {"name": name}
    found["fail_max"] = rules.fail_max
    found["timeout"] = rules.timeout
    if rules.backoff > 1 and rules.timeout_max > rules.timeout:
        found.update(backoff=rules.backoff, timeout_max=rules.timeout_max)
    found["half_open_max"] = rules.half_open_max
    found["success_threshold"] = rules.success_threshold
    if rules.failure_rate is not None:
        found["failure_rate"] = rules.failure_rate
    if rules.slow_rate is not None:
        found.update(slow_rate=rules.slow_rate, slow_after=rules.slow_after)
    if rules.measured:
        length = "window" if rules.window_seconds is None else "window_seconds"
        found[length] = getattr(rules, length)
        found["minimum_calls"] = rules.minimum_calls
    if rules.ramp:
        found["ramp"] = rules.ramp
    return found


def doubts(rules: BreakerRules, attempt_timeout: float | None) -> Iterator[str]:
    """What is probably not meant where an attempt may take so many seconds (Microsoft's standard handler has the
    first).
    """
    if attempt_timeout is None or not rules.measured:
        return
    if rules.window_seconds is not None and rules.window_seconds < 2 * attempt_timeout:
        yield (
            f"window_seconds={rules.window_seconds:g} of the breaker < 2 attempt timeouts of "
            f"{attempt_timeout:g} s: what began together is not seen together"
        )
    if rules.timed and rules.slow_after >= attempt_timeout:
        yield (
            f"slow_after={rules.slow_after:g} of the breaker >= the attempt timeout of "
            f"{attempt_timeout:g} s: an attempt is cut before it is slow"
        )
