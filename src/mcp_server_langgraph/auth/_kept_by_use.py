"""Entries of many owners, bounded in number and in bytes: what was used longest ago makes room."""

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

__all__ = ["KeptByUse", "Name"]

T = TypeVar("T")
Name = tuple[str, str]
"""Owner and id."""


class _Entry(NamedTuple, Generic[T]):
    value: T
    size: int


class KeptByUse(Generic[T]):
    """At most `max_entries` of all owners together, `max_bytes` of all and `max_bytes_each` of one (None: no bound).

    An owner beyond its share loses what it used longest ago, and nobody else does. Only then, and only beyond a bound
    of all, goes what anybody used longest ago. What is alone larger than a bound is not kept, and pushes nothing out.
    Sizes are added and taken off as entries come and go: no call looks at more than it drops.
    """

    def __init__(
        self, max_entries: int, max_bytes: int | None = None, max_bytes_each: int | None = None
    ) -> None:
        given = [bound for bound in (max_bytes, max_bytes_each) if bound is not None]
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._share = min(given, default=None)
        self._entries: OrderedDict[Name, _Entry[T]] = OrderedDict()
        self._of_owner: dict[str, OrderedDict[Name, None]] = {}
        self._bytes_of: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes of all entries."""
        return self._bytes

    def bytes_of(self, owner: str) -> int:
        """Bytes of one owner's entries."""
        return self._bytes_of.get(owner, 0)

    def names(self) -> list[Name]:
        """All there are, the one used longest ago first."""
        return list(self._entries)

    def names_of(self, owner: str) -> list[Name]:
        """The owner's, the one used longest ago first."""
        return list(self._of_owner.get(owner, ()))

    def get(self, name: Name) -> T | None:
        """What is kept under the name. Is no use of it: see `use`."""
        entry = self._entries.get(name)
        return None if entry is None else entry.value

    def size_of(self, name: Name) -> int:
        """Bytes of what is kept under the name; 0 where nothing is."""
        entry = self._entries.get(name)
        return 0 if entry is None else entry.size

    def use(self, name: Name) -> None:
        """What is there under the name was used now."""
        self._entries.move_to_end(name)
        self._of_owner[name[0]].move_to_end(name)

    def fits(self, size: int) -> bool:
        """Whether an entry of so many bytes can be kept at all."""
        return self._share is None or size <= self._share

    def put(self, name: Name, value: T, size: int) -> None:
        """Keep it, in place of what was under the name, as the one used last; what is too much then goes."""
        self.pop(name)
        if not self.fits(size):
            return
        owner = name[0]
        self._entries[name] = _Entry(value, size)
        self._of_owner.setdefault(owner, OrderedDict())[name] = None
        self._bytes += size
        self._bytes_of[owner] = self.bytes_of(owner) + size
        while self._share is not None and self.bytes_of(owner) > self._share:
            self.pop(next(iter(self._of_owner[owner])))
        while self._is_too_much():
            self.pop(next(iter(self._entries)))

    def pop(self, name: Name) -> None:
        """Keep nothing under the name."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        owner = name[0]
        self._bytes -= entry.size
        self._bytes_of[owner] -= entry.size
        del self._of_owner[owner][name]
        if not self._of_owner[owner]:
            del self._of_owner[owner], self._bytes_of[owner]

    def _is_too_much(self) -> bool:
        beyond = self._max_bytes is not None and self._bytes > self._max_bytes
        return beyond or len(self._entries) > self._max_entries
