"""What is known of commands: which may be sent twice, and which wait for others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["blocks_for", "is_repeatable"]

_READS: Final = """
    BITCOUNT DBSIZE ECHO EXISTS GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HSCAN HSTRLEN HVALS INFO KEYS
    LINDEX LLEN LRANGE MGET PING PTTL SCAN SCARD SISMEMBER SMEMBERS SMISMEMBER SSCAN STRLEN TIME TTL TYPE XLEN XRANGE
    XREVRANGE ZCARD ZCOUNT ZMSCORE ZRANGE ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
"""
# Whose effect and whose answer are the same the second time.
_WRITES: Final = """
    MSET PSETEX SET SETEX
    PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE
"""
_REPEATABLE: Final = frozenset((_READS + _WRITES).split())
# Of SET: a condition, or the old value as the answer. KEEPTTL and the times to live do no harm.
_HARMLESS: Final = frozenset({"EX", "PX", "EXAT", "PXAT", "KEEPTTL"})

# Where a command says how long it waits, and how many of its units are a second.
_WAITS: Final = {
    "BLMOVE": (-1, 1),
    "BLMPOP": (1, 1),
    "BLPOP": (-1, 1),
    "BRPOP": (-1, 1),
    "BRPOPLPUSH": (-1, 1),
    "BZMPOP": (1, 1),
    "BZPOPMAX": (-1, 1),
    "BZPOPMIN": (-1, 1),
    "WAIT": (-1, 1000),
    "WAITAOF": (-1, 1000),
}
_STREAMS: Final = frozenset({"XREAD", "XREADGROUP"})


def is_repeatable(words: Sequence[Any]) -> bool:
    """Whether sending the command twice does what sending it once does: the common reads, MSET, SET without a
    condition, and subscribing. What is not known is not repeatable, nor what answers something else the second time
    (INCR, LPUSH, DEL, HSET, scripts).
    """
    command = _command_of(words)
    if command not in _REPEATABLE:
        return False
    return command != "SET" or all(_text(word) in _HARMLESS or _is_number(word) for word in _split(words)[3:])


def blocks_for(words: Sequence[Any]) -> float | None:
    """Seconds that the command may wait for others, infinity where it says 0; None where it does not wait."""
    command = _command_of(words)
    if command not in _WAITS and command not in _STREAMS:
        return None
    words = _split(words)
    at, units = _WAITS.get(command) or (_place_of_block(words), 1000)
    try:
        waits = float(words[at]) / units if at else None
    except (IndexError, TypeError, ValueError):  # the server will say what it thinks of that
        return None
    return waits or (None if waits is None else math.inf)


def _place_of_block(words: Sequence[Any]) -> int:
    options = [_text(word) for word in words]
    options = options[: options.index("STREAMS")] if "STREAMS" in options else options
    return options.index("BLOCK") + 1 if "BLOCK" in options else 0


def _command_of(words: Sequence[Any]) -> str:
    name = words[0]
    if isinstance(name, str) and name.isupper() and " " not in name:
        return name
    return _text(_split(words)[0])


def _split(words: Sequence[Any]) -> Sequence[Any]:
    """redis-py sends a first word with spaces in it as so many words."""
    return [*words[0].split(), *words[1:]] if words[0] else words


def _text(word: Any) -> str:
    return (word.decode("latin-1") if isinstance(word, bytes) else str(word)).upper()


def _is_number(word: Any) -> bool:
    return _text(word).isdigit()
