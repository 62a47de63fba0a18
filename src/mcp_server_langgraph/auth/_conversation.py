"""Conversations as values: what a session store keeps and what it gives back.

A conversation is an owner and a set of immutable messages, keyed by message id. Two copies that grew apart
therefore merge without loss: the union of their messages, ordered by `(created_at, id)`. Everything else
(title, created_at, updated_at) is derived from the messages, so the newest always wins.
"""

import itertools
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = [
    "Conversation",
    "ConversationNotOwned",
    "SearchHit",
    "SessionError",
    "SessionStore",
    "SessionsUnavailable",
    "StoredMessage",
]

_TITLE_LENGTH = 80
_SNIPPET_MARGIN = 80
_counter = itertools.count()


class SessionError(Exception):
    """Base of the session stores' own errors."""


class ConversationNotOwned(SessionError):
    """The conversation belongs to somebody else. Nothing was read or written."""


class SessionsUnavailable(SessionError):
    """The store cannot be asked, and nothing held here can stand in for it.

    `retry_after` is in seconds, None when unknown.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a conversation. Immutable: an id is never reused for another content.

    `created_at` is in seconds since the epoch. `tool_calls` are JSON objects (name, args, id) of an assistant
    message; `tool_call_id` names the call that a message with role "tool" answers.
    """

    id: str
    role: str
    content: str
    created_at: float
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None

    @classmethod
    def new(
        cls,
        role: str,
        content: str,
        *,
        name: str | None = None,
        tool_calls: Iterable[Mapping[str, Any]] = (),
        tool_call_id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> "StoredMessage":
        """A message of now, with an id that sorts after every earlier one of this process."""
        created_at = clock()
        return cls(
            id=f"{int(created_at * 1_000_000):014x}-{next(_counter):08x}-{secrets.token_hex(4)}",
            role=role,
            content=content,
            created_at=created_at,
            name=name,
            tool_calls=tuple(tool_calls),
            tool_call_id=tool_call_id,
        )

    def to_json(self) -> str:
        record: dict[str, Any] = {
            "id": self.id,
            "role": self.role,
            "content": self.content,
            "created_at": self.created_at,
        }
        if self.name is not None:
            record["name"] = self.name
        if self.tool_calls:
            record["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            record["tool_call_id"] = self.tool_call_id
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "StoredMessage":
        """The message that `to_json` wrote. Raises ValueError for anything else."""
        try:
            record = json.loads(text)
            return cls(
                id=str(record["id"]),
                role=str(record["role"]),
                content=str(record["content"]),
                created_at=float(record["created_at"]),
                name=record.get("name"),
                tool_calls=tuple(record.get("tool_calls", ())),
                tool_call_id=record.get("tool_call_id"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a stored message") from error


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as one store sees it.

    Times are seconds since the epoch. `durable` is False while any of its messages is held only in the memory
    of this process.
    """

    id: str
    owner: str
    created_at: float
    updated_at: float
    title: str
    messages: tuple[StoredMessage, ...] = field(repr=False)
    durable: bool

    @classmethod
    def of(
        cls, conversation_id: str, owner: str, messages: Iterable[StoredMessage], *, now: float, durable: bool
    ) -> "Conversation":
        """The conversation of these messages; of two with one id the first counts. `now` dates an empty one."""
        unique: dict[str, StoredMessage] = {}
        for message in messages:
            unique.setdefault(message.id, message)
        ordered = tuple(sorted(unique.values(), key=lambda message: (message.created_at, message.id)))
        return cls(
            id=conversation_id,
            owner=owner,
            created_at=ordered[0].created_at if ordered else now,
            updated_at=ordered[-1].created_at if ordered else now,
            title=_title(ordered),
            messages=ordered,
            durable=durable,
        )


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that matches a search, with what stands around the match. It has `terms` of the query's words."""

    conversation_id: str
    title: str
    message_id: str
    role: str
    snippet: str
    created_at: float
    terms: int = 1


class SessionStore(Protocol):
    """Where conversations are kept."""

    async def get(self, conversation_id: str) -> Conversation | None:
        """The conversation, or None if there is none. Ownership is the caller's to check.

        Raises SessionsUnavailable when that cannot be known.
        """
        ...

    async def append(
        self, conversation_id: str, owner: str, messages: Sequence[StoredMessage]
    ) -> Conversation:
        """Add messages, begin the conversation if it is new, and give back the whole of it.

        Messages that are there already (by id) are left as they are, so repeating an append is safe.
        Raises ConversationNotOwned, SessionsUnavailable.
        """
        ...

    async def search(self, owner: str, query: str, limit: int = 10) -> list[SearchHit]:
        """What the user and the assistant said in this owner's conversations that holds words of the query.

        Case is ignored. Messages with more of the words come first, then newer ones.
        """
        ...

    async def aclose(self) -> None:
        """Write what can still be written and give connections back."""
        ...


def search_messages(conversation: Conversation, patterns: Sequence[re.Pattern[str]]) -> Iterable[SearchHit]:
    """The hits of one conversation, oldest first."""
    for message in conversation.messages:
        if message.role not in ("user", "assistant"):
            continue
        found = [match for pattern in patterns if (match := pattern.search(message.content))]
        if found:
            yield SearchHit(
                conversation_id=conversation.id,
                title=conversation.title,
                message_id=message.id,
                role=message.role,
                snippet=_snippet(message.content, min(match.start() for match in found)),
                created_at=message.created_at,
                terms=len(found),
            )


def search_patterns(query: str) -> list[re.Pattern[str]]:
    """One pattern for each different word of the query."""
    words = dict.fromkeys(word.casefold() for word in query.split())
    return [re.compile(re.escape(word), re.IGNORECASE) for word in words]


def best_hits(hits: Iterable[SearchHit], limit: int) -> list[SearchHit]:
    """The best `limit` hits in the order that `SessionStore.search` promises."""
    ranked = sorted(hits, key=lambda hit: (-hit.terms, -hit.created_at, hit.message_id))
    return ranked[: max(limit, 0)]


def _title(messages: Sequence[StoredMessage]) -> str:
    asked = next((message.content for message in messages if message.role == "user"), "")
    words = " ".join(asked.split())
    return words if len(words) <= _TITLE_LENGTH else words[: _TITLE_LENGTH - 1].rstrip() + "…"


def _snippet(content: str, position: int) -> str:
    start = max(position - _SNIPPET_MARGIN, 0)
    end = position + _SNIPPET_MARGIN
    words = " ".join(content[start:end].split())
    return ("…" if start else "") + words + ("…" if end < len(content) else "")
