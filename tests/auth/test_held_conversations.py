"""What is held of conversations in Redis while there is no room for all of it: nothing that waits is ever lost."""

from __future__ import annotations

import logging

import pytest

from mcp_server_langgraph.auth._backlog import Backlog
from mcp_server_langgraph.auth._held_conversations import HeldConversations
from mcp_server_langgraph.auth.session import (
    Conversation,
    ConversationConflict,
    InMemorySessionStore,
    StoredMessage,
)


def held(*, copies: int = 10_000, waiting: int = 100_000) -> HeldConversations:
    memory = InMemorySessionStore(max_bytes=copies, max_bytes_of_owner=copies)
    return HeldConversations(memory, Backlog(1_000, waiting, waiting))


def said(*texts: str) -> list[StoredMessage]:
    return [StoredMessage.new("user", text) for text in texts]


def stored(name: str, *texts: str) -> Conversation:
    return Conversation.of(name, "ann", said(*texts), now=0.0, durable=True)


def accepted(here: HeldConversations, name: str, *texts: str, version: int | None = None) -> Conversation:
    conversation = here.accept(name, "ann", said(*texts), version)
    assert isinstance(conversation, Conversation)
    return conversation


def texts(conversation: Conversation | None) -> list[str]:
    return [] if conversation is None else [message.content for message in conversation.messages]


def test_the_end_of_a_conversation_is_not_shown_as_the_whole_and_still_waits() -> None:
    here, there = held(), stored("c", "before")
    here.remember(there)
    assert texts(accepted(here, "c", "in the outage", version=1)) == ["before", "in the outage"]
    here.remember(stored("other", "x" * 8_000))
    assert here.known("c", "ann") is None
    (waiting,) = here.backlog.waiting()
    assert [message.content for message in waiting.messages] == ["in the outage"]
    assert texts(here.remember(there)) == ["before", "in the outage"]


def test_a_conversation_that_began_here_is_known_without_its_copy() -> None:
    here = held()
    accepted(here, "c", "one")
    accepted(here, "c", "two")
    here.remember(stored("other", "x" * 8_000))
    assert here.memory.peek("c", "ann") is None
    assert texts(here.known("c", "ann")) == ["one", "two"]


def test_the_end_of_a_turn_that_began_while_the_whole_was_here_is_taken_and_waits() -> None:
    here = held()
    here.remember(stored("c", "before"))
    accepted(here, "c", "question", version=1)
    here.remember(stored("other", "x" * 8_000))
    answered = accepted(here, "c", "answer", version=2)
    assert texts(answered) == ["question", "answer"]
    assert not answered.durable
    assert len(here.backlog) == 2
    assert here.known("c", "ann") is None
    assert isinstance(here.accept("c", "ann", said("as if new"), 0), ConversationConflict)


@pytest.mark.parametrize("gone", [False, True])
def test_what_would_be_too_much_is_not_accepted_and_what_waits_stays(gone: bool) -> None:
    here = held(waiting=3_000)
    here.remember(stored("c", "before"))
    accepted(here, "c", "x" * 1_000)
    if gone:
        here.remember(stored("other", "x" * 8_000))
    assert here.accept("c", "ann", said("y" * 2_000), None) is None
    assert [len(message.content) for message in here.backlog.of("c", "ann")] == [1_000]


def test_what_was_written_in_part_is_shown_only_as_a_whole() -> None:
    here = held()
    first, second = said("first", "second")
    here.accept("c", "ann", [first], None)
    here.accept("c", "ann", [second], None)
    here.backlog.settle("c", "ann", [first])
    here.memory.discard("c", "ann")
    assert here.known("c", "ann") is None


def test_what_redis_lost_is_the_end_of_what_it_still_has() -> None:
    here, whole = held(), stored("c", "kept", "lost")
    here.remember(whole)
    here.remember(Conversation.of("c", "ann", whole.messages[:1], now=0.0, durable=True))
    assert [message.content for message in here.backlog.of("c", "ann")] == ["lost"]
    here.memory.discard("c", "ann")
    assert here.known("c", "ann") is None


def test_what_redis_lost_and_cannot_wait_is_told(caplog: pytest.LogCaptureFixture) -> None:
    here = held(waiting=500)
    whole = stored("c", "secret" * 100, "kept")
    here.remember(whole)
    lost = Conversation.of("c", "ann", whole.messages[1:], now=0.0, durable=True)
    with caplog.at_level(logging.ERROR):
        here.remember(lost)
    assert "1 messages that Redis lost are not written again" in caplog.text
    assert "secret" not in caplog.text
