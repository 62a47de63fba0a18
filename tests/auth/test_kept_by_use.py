"""Entries bounded in number and bytes against a naive model, whatever is done with them in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.auth._kept_by_use import KeptByUse, Name

ENTRIES, BYTES, SHARE = 4, 20, 12

NAMES = st.tuples(st.sampled_from(["ann", "bob", "cid"]), st.sampled_from(["x", "y", "z"]))
SIZES = st.integers(0, SHARE + 2)
BOUNDS = st.sampled_from([(BYTES, SHARE), (BYTES, None), (None, SHARE), (8, 12)])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, SIZES),
    st.tuples(st.just("use"), NAMES),
    st.tuples(st.just("pop"), NAMES),
)


@dataclass
class Model:
    """A list, the entry used longest ago first; everything is counted anew each time."""

    bytes: int | None
    share: int | None
    kept: list[tuple[Name, int]] = field(default_factory=list)

    def pop(self, name: Name) -> None:
        self.kept = [entry for entry in self.kept if entry[0] != name]

    def use(self, name: Name) -> None:
        self.kept.sort(key=lambda entry: entry[0] == name)

    def put(self, name: Name, size: int) -> None:
        self.pop(name)
        if any(bound is not None and size > bound for bound in (self.bytes, self.share)):
            return
        self.kept.append((name, size))
        while self.share is not None and self.of(name[0]) > min(self.share, self.bytes or self.share):
            self.pop(next(each for each, _ in self.kept if each[0] == name[0]))
        while len(self.kept) > ENTRIES or (self.bytes is not None and self.all() > self.bytes):
            self.pop(self.kept[0][0])

    def of(self, owner: str) -> int:
        return sum(size for name, size in self.kept if name[0] == owner)

    def all(self) -> int:
        return sum(size for _, size in self.kept)


@given(
    steps=st.lists(STEPS, max_size=40),
    bounds=BOUNDS,
)
def test_it_is_as_a_model_that_counts_everything_anew(
    steps: list[tuple[Any, ...]], bounds: tuple[int | None, int | None]
) -> None:
    kept: KeptByUse[str] = KeptByUse(ENTRIES, *bounds)
    model = Model(*bounds)
    for what, name, *size in steps:
        match what:
            case "put":
                kept.put(name, f"{name} of {size[0]}", size[0])
            case "use" if kept.get(name) is not None:
                kept.use(name)
            case "pop":
                kept.pop(name)
        getattr(model, what)(name, *size)
        assert kept.names() == [each for each, _ in model.kept]
        assert len(kept) == len(model.kept)
        for each, bytes_of_it in model.kept:
            assert kept.get(each) == f"{each} of {bytes_of_it}"
            assert kept.size_of(each) == bytes_of_it
        for owner in ("ann", "bob", "cid"):
            assert kept.names_of(owner) == [each for each, _ in model.kept if each[0] == owner]
            assert kept.bytes_of(owner) == model.of(owner)
        assert kept.bytes == model.all()
        assert all(bound is None or kept.bytes <= bound for bound in bounds[:1])


def test_nothing_is_left_of_an_owner_of_whom_nothing_is_kept() -> None:
    kept: KeptByUse[int] = KeptByUse(2, 10, 5)
    for number in range(100):
        kept.put((f"owner {number}", "c"), number, 1)
    assert len(kept._of_owner) == len(kept._bytes_of) == len(kept) == 2


def test_an_owner_beyond_its_share_pushes_nobody_else_out() -> None:
    kept: KeptByUse[int] = KeptByUse(1_000, 100, 30)
    kept.put(("ann", "old"), 0, 30)
    for number in range(50):
        kept.put(("bob", str(number)), number, 10)
    assert kept.names() == [("ann", "old"), ("bob", "47"), ("bob", "48"), ("bob", "49")]
