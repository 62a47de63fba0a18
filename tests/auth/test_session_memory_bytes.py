"""Conversations in memory are bounded in bytes: what goes first, what is refused, and that the count is right."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.auth._footprint import CONVERSATION, FORGOTTEN, footprint
from mcp_server_langgraph.auth.session import (
    Conversation,
    InMemorySessionStore,
    LimitReached,
    SessionError,
    SessionLimits,
    StoredMessage,
)

ALL, EACH = 20_000, 12_000
OWNERS = st.sampled_from(["ann", "bob", "cid"])
IDS = st.sampled_from(["c", "d", "e"])
# Written by a clock that steps back: what joins does not always join at the end.
SAID = [StoredMessage(f"id-{n}", "user", "x" * (900 * n), 100.0 + n % 3) for n in range(8)]
MESSAGE_LISTS = st.lists(st.sampled_from(SAID), min_size=1, max_size=3, unique_by=lambda message: message.id)
STEPS = st.one_of(
    st.tuples(st.just("append"), IDS, OWNERS, MESSAGE_LISTS),
    st.tuples(st.just("get"), IDS, OWNERS),
    st.tuples(st.just("delete"), IDS, OWNERS),
)


def long(size: int, content: str = "x") -> list[StoredMessage]:
    return [StoredMessage.new("user", content * size)]


class Model:
    """What should be there, the conversation used longest ago first; None: deleted."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[str, StoredMessage] | None] = {}

    def use(self, name: tuple[str, str]) -> None:
        if name in self.kept:
            self.kept[name] = self.kept.pop(name)

    def put(self, name: tuple[str, str], messages: dict[str, StoredMessage] | None) -> None:
        self.kept.pop(name, None)
        self.kept[name] = messages
        while self.bytes_of(name[0]) > EACH:
            del self.kept[next(each for each in self.kept if each[0] == name[0])]
        while sum(map(self.bytes_of, ("ann", "bob", "cid"))) > ALL:
            del self.kept[next(iter(self.kept))]

    def bytes_of(self, owner: str) -> int:
        return sum(size_of(messages) for name, messages in self.kept.items() if name[0] == owner)


def size_of(messages: dict[str, StoredMessage] | None) -> int:
    return FORGOTTEN if messages is None else CONVERSATION + footprint(messages.values())


@pytest.mark.real_time(limit=120.0)
@given(steps=st.lists(STEPS, max_size=30))
async def test_the_bound_holds_and_what_is_under_it_is_found(steps: list[tuple[Any, ...]]) -> None:
    store, model = InMemorySessionStore(max_bytes=ALL, max_bytes_of_owner=EACH), Model()
    for what, conversation, owner, *rest in steps:
        name = owner, conversation
        known, deleted = model.kept.get(name), name in model.kept and model.kept[name] is None
        if not (what == "append" and deleted):
            model.use(name)
        match what:
            case "append":
                grown = (known or {}) | {message.id: message for message in reversed(rest[0])}
                try:
                    await store.append(conversation, owner, rest[0])
                except SessionError:
                    assert deleted or size_of(grown) > EACH
                else:
                    model.put(name, grown)
            case "get":
                found = await store.get(conversation, owner)
                assert {message.id for message in found.messages} == set(known or ()) if found else not known
            case "delete":
                assert await store.delete(conversation, owner) == bool(known)
                if known:
                    model.put(name, None)
        assert store._kept.names() == list(model.kept)
        assert store.bytes == sum(map(size_of, model.kept.values())) <= ALL


async def test_a_user_beyond_its_part_loses_what_it_used_longest_ago() -> None:
    store = InMemorySessionStore(max_bytes=100_000, max_bytes_of_owner=30_000)
    await store.append("theirs", "bob", long(8_000))
    for name in ("a", "b", "c"):
        await store.append(name, "ann", long(8_000))
    await store.get("a", "ann")
    await store.append("d", "ann", long(8_000))
    found = [await store.get(name, "ann") is not None for name in ("a", "b", "c", "d")]
    assert found == [True, False, True, True]
    assert await store.get("theirs", "bob") is not None


async def test_what_all_have_together_is_bounded_too_and_what_anybody_used_longest_ago_goes() -> None:
    store = InMemorySessionStore(max_bytes=30_000, max_bytes_of_owner=20_000)
    for owner in ("ann", "bob", "cid"):
        await store.append("c", owner, long(8_000))
    await store.get("c", "ann")
    await store.append("c", "dan", long(8_000))
    found = [await store.get("c", owner) is not None for owner in ("ann", "bob", "cid", "dan")]
    assert found == [True, False, True, True]


async def test_a_conversation_that_alone_is_too_much_is_refused_and_stays_whole() -> None:
    store = InMemorySessionStore(max_bytes=100_000, max_bytes_of_owner=10_000)
    kept = await store.append("c", "ann", long(7_500))
    with pytest.raises(LimitReached, match="more than 10000 bytes of this server's memory"):
        await store.append("c", "ann", long(2_000))
    with pytest.raises(LimitReached):
        await store.append("d", "ann", long(10_000))
    assert await store.get("c", "ann") == kept
    await store.ensure_room("ann", kept)
    kept = await store.append("c", "ann", long(500))
    with pytest.raises(LimitReached) as refused:
        await store.ensure_room("ann", kept)
    assert (refused.value.limit, refused.value.allowed) == ("memory", 10_000)


async def test_what_is_forgotten_deleted_or_over_takes_no_room() -> None:
    now = [0.0]
    store = InMemorySessionStore(ttl=10.0, clock=lambda: now[0])
    await store.append("c", "ann", long(8_000))
    await store.append("d", "ann", long(8_000))
    await store.delete("c", "ann")
    assert 8_000 < store.bytes < 12_000
    store.discard("d", "ann")
    assert store.bytes == FORGOTTEN
    now[0] = 10.0
    assert await store.get("c", "ann") is None
    assert store.bytes == 0


async def test_an_append_at_the_end_counts_what_joins_and_not_the_whole_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []

    def counting(messages: Any) -> int:
        listed = list(messages)
        counted.append(len(listed))
        return footprint(listed)

    store = InMemorySessionStore(limits=SessionLimits(), extend_on_read=True)
    await store.append("c", "ann", [StoredMessage.new("user", "x") for _ in range(100)])
    monkeypatch.setattr("mcp_server_langgraph.auth.session_memory.footprint", counting)
    await store.append("c", "ann", long(1))
    await store.get("c", "ann")
    assert max(counted) == 1


@pytest.mark.parametrize("text", ["x" * 99, "é" * 2_000, "漢" * 2_000, "x" * 1_999 + "🙂"])
def test_the_count_is_not_less_than_what_python_takes(text: str) -> None:
    call = {"name": "clock", "args": {"zone": ["a", {"b": [1, 2]}]}, "id": "x"}
    said = [StoredMessage.new("assistant", text, tool_calls=[call]).to_json() for _ in range(200)]
    store = InMemorySessionStore()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        messages = [StoredMessage.from_json(each) for each in said]
        store.put(Conversation.of("c", "ann", messages, now=0.0, durable=False))
        del messages
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= store.bytes <= 4 * taken


def test_arguments_of_a_tool_may_be_nested_as_deep_as_they_come() -> None:
    nested: dict[str, Any] = {}
    for _ in range(50_000):
        nested = {"a": nested}
    assert footprint([StoredMessage("m", "assistant", "", 0.0, tool_calls=(nested,))]) > 50_000


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"max_bytes_of_owner": 0}])
def test_bounds_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InMemorySessionStore(**wrong)  # type: ignore[arg-type]
