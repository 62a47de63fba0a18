"""What all tamed clients have in common: what is decided here is not overruled elsewhere, in silence."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from ...errors import ConfigurationError
from .._doctor.timeouts import patience_of
from ..doctor import examine

__all__ = ["CONNECT_TIMEOUT", "connect_within", "imported", "refused", "tamed"]

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 5.0
"""Seconds. Connecting takes two round trips; a host that swallows packets must not eat the time of a whole answer."""


def imported(factory: str, module: str, package: str) -> Any:
    """The library that a factory needs. Raises ImportError that names the package to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"tame.{factory} needs the package {package}: pip install {package}", name=error.name
        ) from error


def connect_within(factory: str, timeout: float, connect: float | None) -> float:
    """Seconds for connecting: as given, else at most `CONNECT_TIMEOUT`. Raises `ConfigurationError`."""
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigurationError(
                f"tame.{factory}: {name} must be > 0 seconds and have an end, not {seconds!r}"
            )
    return min(timeout, CONNECT_TIMEOUT if connect is None else connect)


def refused(factory: str, options: Mapping[str, Any], decided: Iterable[str]) -> None:
    """Raise `ConfigurationError` where ``options`` would overrule what the factory decides."""
    wrong = sorted(set(options) & set(decided))
    if wrong:
        raise ConfigurationError(
            f"tame.{factory}: {', '.join(wrong)} cannot be given, tame sets it; without tame there is the client's own "
            "constructor"
        )


def tamed(factory: str, client: T, timeout: float) -> T:
    """``client``, unless other options (a URL, an HTTP client) brought retries or longer waits back."""
    for found in examine(client, patient=math.inf).diagnoses:
        if found.requests > 1:
            raise ConfigurationError(f"tame.{factory}: {found}")
    patience = patience_of(client)
    if patience is not None and patience.seconds > timeout:
        raise ConfigurationError(
            f"tame.{factory}: an option makes it wait {patience.seconds:g} s, not {timeout:g} s"
        )
    return client
