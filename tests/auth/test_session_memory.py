"""Conversations as values, and the store that keeps them in memory."""

import pytest

from mcp_server_langgraph.auth.session import (
    Conversation,
    InMemorySessionStore,
    StoredMessage,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def message(name: str, at: float, content: str = "hello", role: str = "user") -> StoredMessage:
    return StoredMessage(id=name, role=role, content=content, created_at=at)


def test_a_message_survives_json() -> None:
    call = {"name": "clock", "args": {"zone": "UTC"}, "id": "call-1"}
    said = StoredMessage.new("assistant", "Zürich ☂", name="agent", tool_calls=[call], tool_call_id="x")
    assert StoredMessage.from_json(said.to_json()) == said


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '{"id": "1"}', '{"id":1,"role":"","content":""}']
)
def test_what_is_no_message_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        StoredMessage.from_json(text)


def test_messages_of_one_instant_keep_their_order() -> None:
    made = [StoredMessage.new("user", str(number), clock=lambda: 5.0) for number in range(20)]
    shuffled = Conversation.of("c", "ann", reversed(made), now=0.0, durable=True)
    assert [each.content for each in shuffled.messages] == [str(number) for number in range(20)]


def test_two_copies_merge_to_the_union_in_order_of_time() -> None:
    here = [message("a", 1.0), message("c", 3.0)]
    there = [message("b", 2.0), message("c", 3.0, "another text for a known id")]
    merged = Conversation.of("c", "ann", [*here, *there], now=9.0, durable=True)
    assert [each.id for each in merged.messages] == ["a", "b", "c"]
    assert merged.messages[2].content == "hello"
    assert (merged.created_at, merged.updated_at) == (1.0, 3.0)


async def test_a_conversation_grows_and_is_not_durable() -> None:
    store = InMemorySessionStore()
    await store.append("c", "ann", [message("a", 1.0, "what is   the\ntime?")])
    grown = await store.append("c", "ann", [message("b", 2.0, role="assistant")])
    assert [each.id for each in grown.messages] == ["a", "b"]
    assert grown.title == "what is the time?"
    assert not grown.durable
    assert await store.get("c", "ann") == grown


async def test_a_repeated_append_changes_nothing() -> None:
    store = InMemorySessionStore()
    once = await store.append("c", "ann", [message("a", 1.0)])
    assert await store.append("c", "ann", [message("a", 1.0)]) == once


async def test_two_owners_may_use_one_id_and_never_meet() -> None:
    store = InMemorySessionStore()
    kept = await store.append("c", "ann", [message("a", 1.0)])
    assert await store.get("c", "bob") is None
    await store.append("c", "bob", [message("b", 2.0)])
    assert await store.get("c", "ann") == kept


async def test_an_unknown_conversation_is_none() -> None:
    assert await InMemorySessionStore().get("c", "ann") is None


async def test_the_least_recently_used_conversation_makes_room() -> None:
    store = InMemorySessionStore(max_conversations=2)
    for name in ("a", "b"):
        await store.append(name, "ann", [message(name, 1.0)])
    await store.get("a", "ann")
    await store.append("c", "ann", [message("c", 1.0)])
    assert [await store.get(name, "ann") is None for name in ("a", "b", "c")] == [False, True, False]
    assert len(store) == 2


async def test_a_conversation_ends_its_time_after_the_last_append() -> None:
    clock = Clock()
    store = InMemorySessionStore(ttl=10.0, clock=clock)
    await store.append("c", "ann", [message("a", 1.0)])
    clock.now += 9.9
    await store.append("c", "ann", [message("b", 2.0)])
    clock.now += 9.9
    assert await store.get("c", "ann") is not None
    clock.now += 0.1
    assert await store.get("c", "ann") is None
    assert await store.search("ann", "hello") == []


@pytest.mark.parametrize("extend", [False, True])
async def test_a_reading_extends_the_time_where_it_is_asked_to(extend: bool) -> None:
    clock = Clock()
    store = InMemorySessionStore(ttl=10.0, extend_on_read=extend, clock=clock)
    await store.append("c", "ann", [message("a", 1.0)])
    clock.now += 6.0
    await store.get("c", "ann")
    await store.search("ann", "hello")
    clock.now += 6.0
    assert (await store.get("c", "ann") is not None) == extend


async def test_search_finds_words_in_any_case_in_the_owners_conversations_only() -> None:
    store = InMemorySessionStore()
    await store.append("c", "ann", [message("a", 1.0, "The WEATHER in Bern"), message("b", 2.0, "nothing")])
    await store.append("d", "bob", [message("d", 3.0, "weather")])
    hits = await store.search("ann", "weather")
    assert [(hit.conversation_id, hit.message_id, hit.snippet) for hit in hits] == [
        ("c", "a", "The WEATHER in Bern")
    ]


async def test_search_prefers_more_words_then_newer_messages() -> None:
    store = InMemorySessionStore()
    texts = [("old", 1.0, "red"), ("new", 2.0, "red"), ("both", 0.0, "red and blue")]
    await store.append("c", "ann", [message(name, at, text) for name, at, text in texts])
    assert [hit.message_id for hit in await store.search("ann", "blue red")] == ["both", "new", "old"]
    assert [hit.message_id for hit in await store.search("ann", "blue red", limit=1)] == ["both"]


async def test_search_leaves_out_what_tools_said() -> None:
    store = InMemorySessionStore()
    await store.append("c", "ann", [message("a", 1.0, "secret of a tool", role="tool")])
    assert await store.search("ann", "secret") == []


async def test_a_snippet_shows_the_words_around_the_match() -> None:
    store = InMemorySessionStore()
    await store.append("c", "ann", [message("a", 1.0, "x " * 200 + "needle" + " y" * 200)])
    (hit,) = await store.search("ann", "NEEDLE (")
    assert hit.snippet.startswith("…x")
    assert hit.snippet.endswith("y…")
    assert "needle" in hit.snippet
    assert len(hit.snippet) < 200


@pytest.mark.parametrize("wrong", [{"max_conversations": 0}, {"ttl": 0.0}, {"ttl": -1.0}])
def test_bounds_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InMemorySessionStore(**wrong)  # type: ignore[arg-type]
