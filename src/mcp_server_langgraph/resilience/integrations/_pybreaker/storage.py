"""A pybreaker storage as a breaker's thread meets it: what is told, what is read, and whether that can be trusted.

`pybreaker.CircuitRedisStorage` swallows its client's errors, logs each with a traceback and answers "closed", 0 and
None. What it logs is the only sign of that, so we listen there; else a dead Redis would close every circuit.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, cast

import pybreaker

from .state import CLOSED, Mine, Shared

__all__ = ["Storage", "StorageFailed", "Teller"]

Storage = pybreaker.CircuitBreakerStorage

# Storages count failures one by one. No breaker needs to be told of more at a time.
_MOST_AT_ONCE: Final = 100


class StorageFailed(Exception):
    """The storage logged an error and answered with a default."""


class _Noticing:
    """Stands for the logger of a storage, and counts the errors that it is told."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.last = ""
        self.errors = 0

    def exception(self, message: str, *args: object, **options: Any) -> None:
        """An error that was swallowed. One warning is told of an outage, by us; this is for who looks closer."""
        self.errors += 1
        self.last = message
        self._logger.debug(message, *args, exc_info=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)


class Teller:
    """Tells a storage what happened here since it was told last, and reads what it says. Used by one thread."""

    def __init__(self, make: Callable[[], Storage], mine: Mine) -> None:
        self._make = make
        self._storage: Storage | None = None
        self._generation = (
            mine.generation if mine.state == CLOSED else -1
        )  # what is closed has nothing to tell
        self._failed = mine.failed
        self._succeeded = mine.succeeded
        self._in_a_row = 0  # failures in a row that it has been told of

    def exchange(self, mine: Mine) -> tuple[Shared, bool]:
        """Tell and read; and whether failures of others make ours enough to open. Raises where that went wrong."""
        storage = self._reached()
        noticing = cast(Any, storage).logger if isinstance(storage, pybreaker.CircuitRedisStorage) else None
        before = noticing.errors if noticing is not None else 0
        self._tell_state(storage, mine)
        enough = self._tell_failures(storage, mine)
        shared = Shared(storage.state, storage.opened_at)
        if noticing is not None and noticing.errors != before:
            raise StorageFailed(noticing.last)
        self._failed, self._succeeded = mine.failed, mine.succeeded
        if mine.automatic:
            self._generation = mine.generation
        return shared, enough

    def agreed(self, generation: int) -> None:
        """What the breaker did last it did because of what the storage said."""
        self._generation = generation

    def forget(self) -> None:
        """Tell the state anew: it did not arrive."""
        self._generation = -1

    def _reached(self) -> Storage:
        if self._storage is None:
            made = self._make()
            if isinstance(made, pybreaker.CircuitRedisStorage) and not isinstance(made.logger, _Noticing):
                cast(Any, made).logger = _Noticing(made.logger)
            self._storage = made
        return self._storage

    def _tell_state(self, storage: Storage, mine: Mine) -> None:
        if mine.generation == self._generation or not mine.automatic:
            return
        if mine.state != CLOSED:
            storage.opened_at = cast(datetime, mine.opened_at)
        storage.reset_success_counter()
        storage.state = mine.state
        if mine.state == CLOSED:
            storage.reset_counter()
            self._in_a_row = 0

    def _tell_failures(self, storage: Storage, mine: Mine) -> bool:
        """As pybreaker: a success anywhere ends a row of failures, and who adds to it looks whether it is enough."""
        if mine.state != CLOSED or not mine.automatic:
            return False
        new = mine.failed - self._failed
        succeeded = not mine.in_a_row and mine.succeeded != self._succeeded
        if succeeded or mine.in_a_row < self._in_a_row + new:
            if storage.counter:
                storage.reset_counter()
            self._in_a_row, new = 0, mine.in_a_row
        for _ in itertools.repeat(None, min(new, _MOST_AT_ONCE)):
            storage.increment_counter()
        self._in_a_row += new
        return new > 0 and 0 < mine.fail_max <= storage.counter
