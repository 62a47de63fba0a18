"""The structured output of the tools; their JSON schemas are part of the server's interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

__all__ = [
    "ChatAnswer",
    "ConversationHit",
    "ConversationHits",
    "ConversationView",
    "DegradedReason",
    "MarkedDegraded",
    "MessageView",
    "ResilienceStatus",
    "ToolCallView",
]


class Note(Protocol):
    """A degradation as the resilience layer notes it. ``age`` is in seconds."""

    @property
    def service(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def age(self) -> float | None: ...


class DegradedReason(BaseModel):
    """A service that did not give its best, and what stood in for it."""

    service: str
    reason: str
    source: str = Field(description="What answered instead.")
    age_seconds: float | None = Field(None, description="Age of the answer, where it is an old one.")

    @classmethod
    def of(cls, notes: Iterable[Note]) -> list[DegradedReason]:
        """What stood in for which service, each once, with the reason that was noted first."""
        first: dict[tuple[str, str], DegradedReason] = {}
        for note in notes:
            reason = cls(service=note.service, reason=note.reason, source=note.source, age_seconds=note.age)
            first.setdefault((reason.service, reason.source), reason)
        return list(first.values())


class MarkedDegraded(BaseModel):
    """An answer that tells whether it is as good as it should be."""

    degraded: bool = False
    degraded_reasons: list[DegradedReason] = []


class ToolCallView(BaseModel):
    """A tool that the agent called, and whether the tool could do what was asked."""

    name: str
    ok: bool


class ChatAnswer(MarkedDegraded):
    """The agent's answer to one message."""

    conversation_id: str = Field(description="Pass it with the next message to go on with this conversation.")
    answer: str
    model: str
    offline: bool = Field(
        description="True: answered by the offline stand-in, which is not a language model."
    )
    durable: bool = Field(description="False: kept only in the memory of one server process.")
    tool_calls: list[ToolCallView] = []
    usage: dict[str, int] | None = Field(None, description="Tokens, where the provider tells.")
    cost: float | None = Field(None, description="What they cost, where the prices of all models are known.")


class MessageView(BaseModel):
    """A message of a conversation."""

    role: Literal["user", "assistant", "tool"] | str
    content: str
    created_at: float = Field(description="Seconds since the epoch.")
    name: str | None = Field(None, description="The tool that answered, for role tool.")
    tool_calls: list[dict[str, Any]] = []


class ConversationView(MarkedDegraded):
    """A conversation of the caller."""

    conversation_id: str
    title: str
    created_at: float
    updated_at: float
    durable: bool
    messages: list[MessageView]


class ConversationHit(BaseModel):
    """A message that matches a search."""

    conversation_id: str
    title: str
    role: str
    snippet: str
    created_at: float


class ConversationHits(MarkedDegraded):
    """What a search found in the caller's own conversations, best first."""

    hits: list[ConversationHit]


class ResilienceStatus(BaseModel):
    """The state of the resilience layer."""

    enabled: bool
    status: str = Field(description="ok, or degraded while a service is not what it should be.")
    services: dict[str, dict[str, Any]]
    breakers: dict[str, dict[str, Any]]
    pipelines: list[dict[str, Any]]
