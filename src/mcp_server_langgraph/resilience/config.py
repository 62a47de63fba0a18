"""The layer's settings: the ADR's environment variables, read once and again on `registry.reload`.

Precedence, highest first: the variable of one service (``OPENFGA_CIRCUIT_BREAKER_FAIL_MAX``), an explicit argument in
code, the global variable (``CIRCUIT_BREAKER_FAIL_MAX``), the default. So an operator can overrule what code fixed.

A service's prefix is its name in capitals, other signs as underscores. A name of several parts (``llm.anthropic``)
is asked part by part from its longest prefix: ``LLM_ANTHROPIC_``, then ``LLM_``.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._variables import DEFAULTS, Variable
from .errors import SettingsError

__all__ = ["DEFAULTS", "Settings", "Variable", "current", "install", "prefixes"]


# Which of the ADR's timeouts and limits a service falls under when it has none of its own.
_TIMEOUTS: Final = {
    "database": "DB_TIMEOUT",
    "keycloak": "AUTH_TIMEOUT",
    "llm": "LLM_TIMEOUT",
    "openfga": "AUTH_TIMEOUT",
    "prometheus": "HTTP_TIMEOUT",
    "redis": "DB_TIMEOUT",
}
_LIMITS: Final = {
    "database": "DB_CONCURRENCY_LIMIT",
    "llm": "LLM_CONCURRENCY_LIMIT",
    "openfga": "OPENFGA_CONCURRENCY_LIMIT",
    "redis": "REDIS_CONCURRENCY_LIMIT",
}
# Auth and sessions stand on every request's way: an attempt that hangs must not eat the total.
_ATTEMPTS: Final = {"keycloak": 0.4, "openfga": 0.4, "redis": 0.2}

# What a service may set beside the names above: `OPENFGA_TIMEOUT`, `KEYCLOAK_CONCURRENCY_LIMIT`.
_PER_SERVICE: Final = {**DEFAULTS, "TIMEOUT": DEFAULTS["DEFAULT_TIMEOUT"]}

KNOWN_SERVICES: Final = ("llm", "openfga", "redis", "keycloak", "prometheus", "database")
_KNOWN_PREFIXES: Final = tuple(f"{service.upper()}_" for service in KNOWN_SERVICES)


@functools.lru_cache(maxsize=256)  # asked for a dozen variables whenever a policy is made
def prefixes(service: str) -> tuple[str, ...]:
    """The prefixes under which a service's own variables are looked up, the most specific first."""
    parts = [re.sub(r"[^A-Za-z0-9]+", "_", part).upper() for part in re.split(r"[.:/]+", service) if part]
    return tuple("_".join(parts[:count]) + "_" for count in range(len(parts), 0, -1))


class Settings:
    """The settings in force. Immutable; a new one replaces it on reload.

    ``environ`` gives the variables; others than the layer's own are ignored. Raises `SettingsError` with everything
    that is wrong, each with the variable, its value and what is allowed. Variables of services that the layer does
    not know by name are read, and found wrong, when such a service is built: until then they may be anybody's.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._values: dict[str, Any] = {}
        self._unread: dict[str, str] = {}
        problems: list[str] = []
        for name, text in (environ or {}).items():
            if not text.strip():
                continue
            if name in DEFAULTS or name.startswith(_KNOWN_PREFIXES):
                self._take(name, text, problems)
            else:
                self._unread[name] = text
        if problems:
            raise SettingsError(problems)

    def _take(self, name: str, text: str, problems: list[str]) -> None:
        variable = DEFAULTS.get(name) or _longest_suffix(name)
        if variable is None:
            return
        try:
            self._values[name] = variable.read(text)
        except Exception:
            problems.append(f"{name}={text!r} is not allowed: {name} must be {variable.allowed}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the process's environment, or the one given."""
        return cls(os.environ if environ is None else environ)

    def own(self, service: str, variable: str) -> Any:
        """The service's own value of a variable; None where the operator set none. Raises `SettingsError`."""
        for prefix in prefixes(service):
            name = prefix + variable
            if name in self._unread:
                self._read_late(name)
            value = self._values.get(name)
            if value is not None:
                return value
        return None

    def _read_late(self, name: str) -> None:
        problems: list[str] = []
        self._take(name, self._unread[name], problems)
        if problems:
            raise SettingsError(problems)
        del self._unread[name]

    def problems_of(self, services: Iterable[str]) -> list[str]:
        """What is wrong with the own variables of these services."""
        problems: list[str] = []
        for service in services:
            for variable in _PER_SERVICE:
                try:
                    self.own(service, variable)
                except SettingsError as error:
                    problems.extend(error.problems)
        return list(dict.fromkeys(problems))

    def choose(self, service: str, variable: str, explicit: Any = None) -> Any:
        """The value in force: the service's own, else the explicit argument, else the global one, else the default."""
        value = self.own(service, variable)
        if value is None:
            value = explicit
        if value is None:
            value = self._values.get(variable)
        return DEFAULTS[variable].default if value is None else value

    def enabled(self, service: str) -> bool:
        """Whether the resilience patterns are on: everywhere, and for this service."""
        variable = "FF_ENABLE_RESILIENCE_PATTERNS"
        return bool(self._values.get(variable, True)) and self.own(service, variable) is not False

    def timeout(self, service: str, explicit: float | None = None) -> float:
        """Seconds that a call to the service may take in all."""
        own = self.own(service, "TIMEOUT")
        return float(
            own or self.choose(service, _TIMEOUTS.get(_family(service), "DEFAULT_TIMEOUT"), explicit)
        )

    def attempt_timeout(self, service: str, explicit: float | None = None) -> float | None:
        """Seconds that one attempt may take; None where only the total binds."""
        fallback = _ATTEMPTS.get(_family(service))
        seconds: float | None = self.choose(service, "ATTEMPT_TIMEOUT", explicit)
        return fallback if seconds is None else seconds

    def limit(self, service: str, explicit: int | None = None) -> int:
        """Calls to the service that may run at once."""
        own = self.own(service, "CONCURRENCY_LIMIT")
        return int(own or self.choose(service, _LIMITS.get(_family(service), "CONCURRENCY_LIMIT"), explicit))

    def as_dict(self) -> dict[str, Any]:
        """Every global variable with the value in force, and what was set for single services. Holds no secrets."""
        shown = {name: self._values.get(name, variable.default) for name, variable in DEFAULTS.items()}
        shown.update(self._values)
        return {name: _plain(value) for name, value in shown.items()}


def _family(service: str) -> str:
    return re.split(r"[.:/]+", service, maxsplit=1)[0].lower()


def _longest_suffix(name: str) -> Variable | None:
    """The variable that a per-service name ends with."""
    for suffix in sorted(_PER_SERVICE, key=len, reverse=True):
        if name.endswith("_" + suffix):
            return _PER_SERVICE[suffix]
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}".removeprefix("builtins.")
    return value if isinstance(value, (bool, int, float, str, type(None))) else type(value).__qualname__


_current: Settings | None = None


def current() -> Settings:
    """The settings in force; read from the environment at the first call."""
    global _current
    if _current is None:
        _current = Settings.from_env()
    return _current


def install(settings: Settings | None) -> None:
    """Make ``settings`` the ones in force for what is built from now on; None: read the environment again when asked.
    To change what exists already use `registry.reload`.
    """
    global _current
    _current = settings
