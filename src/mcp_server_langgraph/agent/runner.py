"""One turn of a conversation: history in, the graph run, what was said kept."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from mcp_server_langgraph.agent.checkpoints import RedisSaver
from mcp_server_langgraph.agent.conversations import UnknownConversation, own_conversation
from mcp_server_langgraph.agent.graph import Progress, RunContext, build_graph
from mcp_server_langgraph.agent.messages import from_stored, to_stored
from mcp_server_langgraph.agent.tool import AgentTool
from mcp_server_langgraph.agent.turns import Turns
from mcp_server_langgraph.auth.session import ConversationDeleted, ConversationNotOwned, SessionStore

if TYPE_CHECKING:
    from mcp_server_langgraph.auth.records import RedisRecords

__all__ = ["Agent", "ToolUse", "Turn"]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool that was called in a turn, and whether it could do what was asked."""

    name: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """What one message led to. ``usage`` counts tokens where the provider tells, ``cost`` is what they cost where all
    prices are known; ``durable`` is the conversation's.
    """

    conversation_id: str
    answer: str
    model: str
    offline: bool
    tool_calls: tuple[ToolUse, ...]
    usage: dict[str, int] | None
    cost: float | None
    durable: bool


class Agent:
    """Answers messages with a model and tools, and remembers them in a session store.

    ``model_name`` is reported where an answer does not say which model gave it. ``cost_of`` tells what messages cost,
    None where it cannot. ``records``: where the steps of a turn are kept while it lasts, so that a turn of a known
    conversation that was cut off (the server was killed, the model went away) goes on when the same message is sent
    again; None: it begins anew.
    """

    def __init__(
        self,
        model: BaseChatModel,
        tools: Sequence[AgentTool],
        sessions: SessionStore,
        *,
        model_name: str,
        max_tool_rounds: int = 6,
        cost_of: Callable[[Sequence[BaseMessage]], float | None] = lambda _: None,
        records: RedisRecords | None = None,
    ) -> None:
        saver = RedisSaver(records) if records is not None else None
        self._turns = Turns(
            build_graph(model, tools, max_tool_rounds),
            build_graph(model, tools, max_tool_rounds, saver) if saver is not None else None,
            saver,
            # A round is two steps of the graph; the rest is the first and the last answer, and giving up.
            step_limit=2 * max_tool_rounds + 4,
        )
        self._sessions = sessions
        self._model_name = model_name
        self._cost_of = cost_of

    async def chat(
        self,
        owner: str,
        message: str,
        conversation_id: str | None = None,
        *,
        progress: Progress | None = None,
        limited: str | None = None,
    ) -> Turn:
        """Answer ``message``; None begins a new conversation.

        ``limited``: what the model is told instead of the answer of a tool that reaches beyond what is the owner's
        own; None: nothing is withheld.

        The turn is kept as a whole once it is answered: one that fails or is cancelled leaves nothing behind.
        So does one that was overtaken by another turn of the same conversation (ConversationConflict): its answer knows
        nothing of the other's.
        Raises UnknownConversation, ModelRefused, SessionError, and what means that the model is unavailable.
        """
        conversation = None
        if conversation_id is not None:
            conversation = await own_conversation(self._sessions, owner, conversation_id)
        # A model's answer costs money: what could not be kept is refused before it is asked.
        await self._sessions.ensure_room(owner, conversation)
        conversation_id = conversation_id or uuid.uuid4().hex
        history = from_stored(conversation.messages) if conversation is not None else []
        version = conversation.version if conversation is not None else 0
        context = RunContext(owner, progress or _silent, limited, history)
        # A new conversation's id is not known to who asks again: its first turn always begins anew.
        named = (conversation_id, version, message, limited or "") if conversation is not None else None
        async with self._turns.run(HumanMessage(message), context, named) as said:
            return await self._keep(conversation_id, owner, said, version)

    async def _keep(
        self, conversation_id: str, owner: str, said: Sequence[BaseMessage], version: int
    ) -> Turn:
        try:
            kept = await self._sessions.append(
                conversation_id, owner, to_stored(said), expected_version=version
            )
        except (ConversationDeleted, ConversationNotOwned):
            raise UnknownConversation(conversation_id) from None
        return self._turn(conversation_id, said, kept.durable)

    def _turn(self, conversation_id: str, said: Sequence[BaseMessage], durable: bool) -> Turn:
        answer = said[-1]
        metadata: dict[str, Any] = answer.response_metadata
        return Turn(
            conversation_id=conversation_id,
            answer=str(answer.text),
            model=str(metadata.get("answered_by") or metadata.get("model_name") or self._model_name),
            offline=any(message.response_metadata.get("offline") is True for message in said),
            tool_calls=tuple(
                ToolUse(message.name or "", message.status == "success")
                for message in said
                if isinstance(message, ToolMessage)
            ),
            usage=_usage(said),
            cost=self._cost_of(said),
            durable=durable,
        )


_COUNTED: Final = ("input_tokens", "output_tokens", "total_tokens")


def _usage(said: Sequence[BaseMessage]) -> dict[str, int] | None:
    told = [
        message.usage_metadata
        for message in said
        if isinstance(message, AIMessage) and message.usage_metadata
    ]
    if not told:
        return None
    counts = {key: sum(usage[key] for usage in told) for key in _COUNTED}
    cached = sum(usage.get("input_token_details", {}).get("cache_read") or 0 for usage in told)
    return counts | ({"cached_input_tokens": cached} if cached else {})


async def _silent(_message: str) -> None:
    return None
