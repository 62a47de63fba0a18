"""Conversations as values: what a session store keeps and what it gives back.

A conversation is an owner and a set of immutable messages, keyed by message id. Two copies that grew apart
therefore merge without loss: the union of their messages, ordered by `(created_at, id)`. Everything else
(title, created_at, updated_at) is derived from the messages, so the newest always wins.
"""

import itertools
import json
import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Conversation", "StoredMessage"]

_TITLE_LENGTH = 80
_counter = itertools.count()


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

    @property
    def size(self) -> int:
        """Bytes of what was said, and of the tools' arguments: what an owner's limit counts."""
        said = len(self.content.encode("utf-8", "surrogatepass"))
        return said + sum(len(json.dumps(dict(call))) for call in self.tool_calls)

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
            message = cls(
                id=str(record["id"]),
                role=str(record["role"]),
                content=str(record["content"]),
                created_at=float(record["created_at"]),
                name=_text_or_none(record.get("name")),
                tool_calls=tuple({**call, "id": call["id"]} for call in record.get("tool_calls", ())),
                tool_call_id=_text_or_none(record.get("tool_call_id")),
            )
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError("not a stored message") from error
        if not math.isfinite(message.created_at):
            raise ValueError("not a time")
        return message


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as one store sees it.

    Times are seconds since the epoch. `durable` is False while any of its messages is held only in the memory
    of this process. `version` is the number of messages: they only ever join, so two copies of a conversation are the
    same exactly if their versions are.
    """

    id: str
    owner: str
    created_at: float
    updated_at: float
    title: str
    messages: tuple[StoredMessage, ...] = field(repr=False)
    durable: bool
    version: int

    @property
    def size(self) -> int:
        """Bytes of all that was said."""
        return sum(message.size for message in self.messages)

    @classmethod
    def of(
        cls,
        conversation_id: str,
        owner: str,
        messages: Iterable[StoredMessage],
        *,
        now: float,
        durable: bool,
        hidden: int = 0,
    ) -> "Conversation":
        """The conversation of these messages; of two with one id the first counts. `now` dates an empty one.

        `hidden`: how many more there are that cannot be read.
        """
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
            version=len(ordered) + hidden,
        )

    def with_messages(
        self, messages: Iterable[StoredMessage], *, now: float, durable: bool
    ) -> "Conversation":
        """It and these messages, those that it has already left out."""
        hidden = self.version - len(self.messages)
        together = (*self.messages, *messages)
        return Conversation.of(self.id, self.owner, together, now=now, durable=durable, hidden=hidden)


def _title(messages: Sequence[StoredMessage]) -> str:
    asked = next((message.content for message in messages if message.role == "user"), "")
    words = " ".join(asked.split())
    return words if len(words) <= _TITLE_LENGTH else words[: _TITLE_LENGTH - 1].rstrip() + "…"


def _text_or_none(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("not a text")
    return value
