"""Reads what a caller sent about its deadline, its criticality and its attempts. Pure, and never raises.

``grpc-timeout`` is that of gRPC over HTTP/2 ("Requests": at most eight digits and a unit), the two of Envoy are whole
numbers ("HTTP header manipulation": ``x-envoy-expected-rq-timeout-ms``, ``x-envoy-attempt-count``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

ATTEMPT: Final = "x-request-attempt"
CRITICALITY: Final = "x-request-criticality"
DEADLINE: Final = "x-request-timeout-ms"

# Seconds. A longer time that a caller claims to have is taken for this much.
LONGEST: Final = 3600.0
# No client tries more often; a larger number is a mistake or a lie.
MOST_ATTEMPTS: Final = 1000

_GRPC_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_DIGITS: Final = re.compile(r"[0-9]{1,12}")
_WORD: Final = re.compile(r"[a-z_]{1,20}")

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class Sent:
    """What the headers say: ``seconds`` left (the shortest that was sent), ``criticality`` as a lower-case word,
    ``attempt``; None and 1 where they say nothing. ``ignored``: the names of headers that cannot be read.
    """

    __slots__ = ("attempt", "criticality", "ignored", "seconds")

    def __init__(self, headers: Headers) -> None:
        self.seconds: float | None = None
        self.criticality: str | None = None
        self.attempt = 1
        self.ignored: list[str] = []
        for raw_name, raw_value in _pairs(headers):
            name = _text(raw_name).lower()
            read = _READERS.get(name)
            if read is not None and not read(self, _text(raw_value).strip()):
                self.ignored.append(name)

    def read_milliseconds(self, text: str) -> bool:
        return _DIGITS.fullmatch(text) is not None and self._take(int(text) / 1000)

    def read_grpc(self, text: str) -> bool:
        found = _GRPC.fullmatch(text)
        return found is not None and self._take(int(found[1]) * _GRPC_UNITS[found[2]])

    def _take(self, seconds: float) -> bool:
        self.seconds = min(seconds, LONGEST if self.seconds is None else self.seconds)
        return True

    def read_criticality(self, text: str) -> bool:
        word = text.lower().replace("-", "_")
        if _WORD.fullmatch(word) is None:
            return False
        self.criticality = word
        return True

    def read_attempt(self, text: str) -> bool:
        number = int(text) if _DIGITS.fullmatch(text) else 0
        if not 1 <= number <= MOST_ATTEMPTS:
            return False
        self.attempt = max(self.attempt, number)
        return True


_READERS: Final[dict[str, Callable[[Sent, str], bool]]] = {
    ATTEMPT: Sent.read_attempt,
    CRITICALITY: Sent.read_criticality,
    DEADLINE: Sent.read_milliseconds,
    "grpc-timeout": Sent.read_grpc,
    "x-envoy-attempt-count": Sent.read_attempt,
    "x-envoy-expected-rq-timeout-ms": Sent.read_milliseconds,
}


def _pairs(headers: Headers) -> Iterable[tuple[str | bytes, str | bytes]]:
    return cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers


def _text(raw: str | bytes) -> str:
    return raw.decode("latin-1") if isinstance(raw, bytes) else raw
