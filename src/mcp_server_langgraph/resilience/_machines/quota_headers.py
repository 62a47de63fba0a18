"""Reads what a provider says of our quota in the headers of its answers.

OpenAI, and those who follow it (Azure, Groq, Together, ...): ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``,
with resets such as ``6m0s`` and ``20ms``. Azure sends -1 or 0 where it means nothing. Anthropic:
``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}``, with resets as RFC 3339
dates, which are compared with the answer's own ``date``: our clock may be another.

Sources: https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

DIMENSIONS: Final = ("requests", "tokens", "input_tokens", "output_tokens")

_UNITS: Final = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART: Final = r"(\d+(?:\.\d+)?)(ms|us|µs|ns|[dhms])"
_DURATION: Final = re.compile(f"(?:{_PART})+")


class Reading(NamedTuple):
    """What is said of one dimension: the limit, what remains of it, seconds until it is whole; None: not said."""

    limit: float | None
    remaining: float | None
    reset: float | None


def readings(headers: Mapping[str, str], wall_now: float) -> dict[str, Reading]:
    """What the headers say, by dimension. Never raises; what cannot be read was not said."""
    known = {str(name).lower(): _text(value) for name, value in headers.items()}
    told = _date(known.get("date", ""))
    found: dict[str, Reading] = {}
    for dimension in DIMENSIONS:
        word = dimension.replace("_", "-")
        for pattern in (f"x-ratelimit-{{}}-{word}", f"anthropic-ratelimit-{word}-{{}}"):
            limit, remaining, reset = (
                known.get(pattern.format(part)) for part in ("limit", "remaining", "reset")
            )
            reading = Reading(_count(limit), _count(remaining), _seconds(reset, told or wall_now))
            if reading.remaining is not None and reading.limit != 0:
                found[dimension] = reading
    return found


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _count(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _seconds(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    plain = _count(text)
    if plain is not None:
        return plain
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
