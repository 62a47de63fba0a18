"""What waits for Redis is bounded, in messages and in bytes, by refusing and never by forgetting."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.auth._backlog import Backlog
from mcp_server_langgraph.auth._footprint import footprint
from mcp_server_langgraph.auth.session import StoredMessage

LIMIT, BYTES, SHARE = 6, 6_000, 4_000
SAID = [StoredMessage(f"id-{n}", "user", "x" * 200 * n, 100.0 + n) for n in range(8)]
OWNERS, IDS = st.sampled_from(["ann", "bob"]), st.sampled_from(["c", "d"])
MESSAGE_LISTS = st.lists(st.sampled_from(SAID), max_size=4, unique_by=lambda message: message.id)
STEPS = st.one_of(
    st.tuples(st.just("add"), IDS, OWNERS, MESSAGE_LISTS, st.booleans()),
    st.tuples(st.just("settle"), IDS, OWNERS, MESSAGE_LISTS),
    st.tuples(st.just("drop"), IDS, OWNERS),
)


class Model:
    """Each conversation's waiting messages, all counted anew each time."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, str], list[StoredMessage]] = {}
        self.parts: set[tuple[str, str]] = set()

    def bytes_of(self, *owners: str) -> int:
        return sum(footprint(kept) for name, kept in self.waiting.items() if name[0] in owners)

    def count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def add(self, conversation: str, owner: str, messages: list[StoredMessage], part: bool) -> bool:
        name = owner, conversation
        before = self.waiting.get(name, [])
        new = [message for message in messages if message not in before]
        self.waiting[name] = before + new
        fits = (
            self.count() <= LIMIT and self.bytes_of("ann", "bob") <= BYTES and self.bytes_of(owner) <= SHARE
        )
        if new and not fits:
            self.waiting[name] = before
        elif new and part:
            self.parts.add(name)
        return fits or not new

    def settle(self, conversation: str, owner: str, messages: list[StoredMessage]) -> int:
        name = owner, conversation
        before = self.waiting.get(name, [])
        self.waiting[name] = [message for message in before if message not in messages]
        settled = len(before) - len(self.waiting[name])
        if not self.waiting[name]:
            self.parts.discard(name)
        elif settled:
            self.parts.add(name)
        return settled

    def drop(self, conversation: str, owner: str) -> int:
        return self.settle(conversation, owner, self.waiting.get((owner, conversation), []))


@given(steps=st.lists(STEPS, max_size=30))
def test_it_is_as_a_model_that_counts_everything_anew(steps: list[tuple[Any, ...]]) -> None:
    backlog, model = Backlog(LIMIT, BYTES, SHARE), Model()
    for what, conversation, owner, *rest in steps:
        if what == "add":
            added = backlog.add(conversation, owner, rest[0], part=rest[1])
            assert added == model.add(conversation, owner, *rest)
        else:
            done = getattr(backlog, what)(conversation, owner, *rest)
            assert done == getattr(model, what)(conversation, owner, *rest)
        assert len(backlog) == model.count() <= LIMIT
        assert backlog.bytes == model.bytes_of("ann", "bob") <= BYTES
        waiting = {(each.owner, each.conversation_id): list(each.messages) for each in backlog.waiting()}
        assert waiting == {name: kept for name, kept in model.waiting.items() if kept}
        for name in (("ann", "c"), ("ann", "d"), ("bob", "c"), ("bob", "d")):
            assert backlog.is_part(name[1], name[0]) == (name in model.parts)


def test_one_user_cannot_fill_it_for_everybody() -> None:
    backlog = Backlog(1_000, 10_000, 5_000)
    message = StoredMessage.new("user", "x" * 1_000)
    added = [backlog.add(str(number), "ann", [message]) for number in range(8)]
    assert not all(added)
    assert backlog.add("c", "bob", [message])
    assert len(backlog.ids_of("ann")) == added.count(True)


def test_without_bounds_in_bytes_messages_alone_count() -> None:
    backlog = Backlog(2)
    long = [StoredMessage.new("user", "x" * 1_000_000) for _ in range(3)]
    assert backlog.add("c", "ann", long[:2])
    assert not backlog.add("c", "ann", long[2:])


def test_nothing_is_left_of_an_owner_of_whom_nothing_waits() -> None:
    backlog = Backlog(10, 10_000, 10_000)
    for number in range(20):
        backlog.add("c", f"owner {number}", SAID[:2], part=True)
        backlog.drop("c", f"owner {number}")
    assert (backlog._waiting, backlog._parts, dict(backlog._bytes_of), backlog.bytes) == ({}, set(), {}, 0)
