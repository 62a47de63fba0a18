"""Looking for words in conversations."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mcp_server_langgraph.auth._conversation import Conversation

__all__ = ["SearchHit", "best_hits", "search_messages", "search_patterns"]

_SNIPPET_MARGIN = 80


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


def _snippet(content: str, position: int) -> str:
    start = max(position - _SNIPPET_MARGIN, 0)
    end = position + _SNIPPET_MARGIN
    words = " ".join(content[start:end].split())
    return ("…" if start else "") + words + ("…" if end < len(content) else "")
