"""Answers by question: what `fallback.LastGood` and `cache.Cache` share.

A question is the arguments of a call, or what a ``key`` function makes of them. One that cannot be hashed is not
remembered, which is logged once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from . import events
from ._machines.store import Store

# What stands for no key, and for no answer.
NOTHING: Final = object()


class Memory(Store):
    """A `Store` that makes its keys. ``owner`` is what the log calls it."""

    __slots__ = ("_key", "_owner", "_warned")

    def __init__(self, owner: str, max_size: int, key: Callable[..., Any] | None) -> None:
        super().__init__(max_size)
        self._owner = owner
        self._key = key or _arguments
        self._warned = False

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """The key of a question; `NOTHING` where there is none."""
        try:
            key = self._key(*args, **kwargs)
            hash(key)
        except Exception as exc:
            if not self._warned:
                self._warned = True
                events.logger.warning(
                    "%s cannot remember: no key from the arguments (%s)", self._owner, type(exc).__name__
                )
            return NOTHING
        return key  # type: ignore[no-any-return]


def _arguments(*args: Any, **kwargs: Any) -> Any:
    return (args, tuple(sorted(kwargs.items()))) if kwargs else args
