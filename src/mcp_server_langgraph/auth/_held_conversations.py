"""What this process knows of conversations in Redis: copies for an outage, and what was accepted in one."""

import logging
import time
from collections.abc import Callable, Sequence

from mcp_server_langgraph.auth._backlog import Backlog
from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._session_errors import ConversationConflict, SessionError
from mcp_server_langgraph.auth.session_memory import InMemorySessionStore

__all__ = ["HeldConversations"]

_log = logging.getLogger(__name__)


class HeldConversations:
    """The memory, and the backlog of what Redis does not have yet.

    What the memory gives up to make room still waits in the backlog. Of a conversation that had more than that, nothing
    is shown then: its end is not the conversation.
    """

    def __init__(
        self, memory: InMemorySessionStore, backlog: Backlog, clock: Callable[[], float] = time.time
    ) -> None:
        self.memory = memory
        self.backlog = backlog
        self._clock = clock

    def known(self, conversation_id: str, owner: str) -> Conversation | None:
        """All that is known here of the conversation."""
        if self.memory.is_deleted(conversation_id, owner):
            return None
        known = self.memory.peek(conversation_id, owner)
        if known is not None:
            return self._merged(known)
        if self.backlog.is_part(conversation_id, owner):
            return None
        return self._waiting_only(conversation_id, owner)

    def remember(self, stored: Conversation) -> Conversation:
        """Keep what Redis has, merged with what waits: from now on also what Redis has lost since it acknowledged it.

        Conversations only ever grow. Redis loses their end where it is killed and writes to disk every second, the
        default, and where a replica that was behind becomes the master.
        """
        self._take_back_lost(stored)
        merged = self._merged(stored)
        self.memory.put(merged)
        return merged

    def missing(self, conversation_id: str, owner: str) -> Conversation | None:
        """Redis does not have it: what there is all the same, because it waits."""
        waiting = self._waiting_only(conversation_id, owner)
        if waiting is not None:
            self.memory.put(waiting)
        elif not self.memory.is_deleted(conversation_id, owner):
            self.memory.discard(conversation_id, owner)
        return waiting

    def accept(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        expected_version: int | None,
    ) -> Conversation | SessionError | None:
        """Take messages that Redis is to get later; None when too many wait already."""
        known = self.known(conversation_id, owner)
        if known is None and self.backlog.is_part(conversation_id, owner):
            return self._accept_end(conversation_id, owner, messages, expected_version)
        # Nothing known here contradicts an expectation that came from Redis.
        expected = expected_version if known is not None or not expected_version else None
        if known is not None:
            self.memory.put(known)
        refusal = self.memory.refusal(conversation_id, owner, messages, expected)
        if refusal is not None:
            return refusal
        waiting = len(self.backlog.of(conversation_id, owner))
        part = known is not None and known.version > waiting
        if not self.backlog.add(conversation_id, owner, messages, part=part):
            return None
        now = self._clock()
        return self.remember(
            known or Conversation.of(conversation_id, owner, messages, now=now, durable=False)
        )

    def _accept_end(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        expected_version: int | None,
    ) -> Conversation | SessionError | None:
        """The same where only the end of the conversation is here, as of a turn that began while all of it was."""
        if expected_version == 0:
            return ConversationConflict()
        if not self.backlog.add(conversation_id, owner, messages):
            return None
        return self._waiting_only(conversation_id, owner)

    def _take_back_lost(self, stored: Conversation) -> None:
        known = self.memory.peek(stored.id, stored.owner)
        if known is not None:
            present = {message.id for message in stored.messages}
            lost = [message for message in known.messages if message.id not in present]
            if not self.backlog.add(known.id, known.owner, lost, part=True):
                _log.error(
                    "%d messages that Redis lost are not written again: too much waits already", len(lost)
                )

    def _merged(self, base: Conversation) -> Conversation:
        waiting = self.backlog.of(base.id, base.owner)
        return base.with_messages(waiting, now=self._clock(), durable=not waiting)

    def _waiting_only(self, conversation_id: str, owner: str) -> Conversation | None:
        waiting = self.backlog.of(conversation_id, owner)
        if not waiting:
            return None
        return Conversation.of(conversation_id, owner, waiting, now=self._clock(), durable=False)
