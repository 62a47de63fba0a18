"""A key's policy as the guard of one call, for who enters and leaves guards by hand."""

from __future__ import annotations

from typing import Any

from ._keyed_guard import Face, KeyedAt, Slot
from ._machines.keyed import Entry
from .policy import Call, Guard


class KeyGuard(Guard):
    """The policy of one call's key, which must be a guard (see `KeyedAt.example`). The key is in use until the end."""

    __slots__ = ("_at", "_call", "_entry", "_face")

    _entry: Entry[Slot]
    _face: Face

    def __init__(self, at: KeyedAt, call: Call) -> None:
        self._at = at
        self._call = call

    @property
    def _guard(self) -> Guard:
        bound = self._face.bound
        assert isinstance(bound, Guard)
        return bound

    def enter(self, now: float) -> Any:
        self._entry, self._face = self._at.enter(self._call, now)
        try:
            return self._guard.enter(now)
        except BaseException:
            self._leave(failed=True)
            raise

    async def wait(self) -> Any:
        try:
            return await self._guard.wait()
        except BaseException:
            self._leave(failed=True)
            raise

    def wait_sync(self) -> Any:
        try:
            return self._guard.wait_sync()
        except BaseException:
            self._leave(failed=True)
            raise

    def first_item_came(self, token: Any, now: float) -> None:
        self._guard.first_item_came(token, now)

    def succeeded(self, token: Any, now: float) -> None:
        try:
            self._guard.succeeded(token, now)
        finally:
            self._leave(failed=False)

    def failed(self, token: Any, now: float, exc: BaseException) -> BaseException | None:
        try:
            return self._guard.failed(token, now, exc)
        finally:
            self._leave(failed=True)

    def _leave(self, *, failed: bool) -> None:
        if failed:
            self._at.failed_at(self._face)
        self._at.table.leave(self._entry)
