"""The tools of the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from mcp_server_langgraph.agent.conversations import ModelRefused, UnknownConversation
from mcp_server_langgraph.auth.session import SearchHit, SessionDamaged, SessionError, SessionsUnavailable
from mcp_server_langgraph.resilience.degradation import Degradation, collect_degradations
from mcp_server_langgraph.resilience.errors import ResilienceError
from mcp_server_langgraph.server.identity import Caller, caller_of
from mcp_server_langgraph.server.limits import LIMITED, withheld_from
from mcp_server_langgraph.server.outcomes import unserved
from mcp_server_langgraph.server.outputs import (
    ChatAnswer,
    ConversationHit,
    ConversationHits,
    ConversationView,
    DegradedReason,
    MessageView,
    ResilienceStatus,
    ToolCallView,
)
from mcp_server_langgraph.server.services import Services

__all__ = ["add_tools"]

MAX_MESSAGE = 32_000

_READ_ONLY = ToolAnnotations(
    read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False
)
# Each call adds to a conversation and asks a model: neither read-only nor safe to repeat, but nothing is destroyed.
_ADDS = ToolAnnotations(
    read_only_hint=False, idempotent_hint=False, destructive_hint=False, open_world_hint=True
)

ConversationId = Annotated[
    str, Field(min_length=1, max_length=128, description="The id that agent_chat gave.")
]
Ctx = Context[Any, Any]


def add_tools(server: MCPServer[Any], services: Services) -> None:
    """Register the tools with the server."""
    chat, read = services.settings.openfga_chat_relation, services.settings.openfga_read_relation

    @server.tool(title="Chat with the agent", annotations=_ADDS)
    async def agent_chat(
        message: Annotated[
            str, Field(min_length=1, max_length=MAX_MESSAGE, description="What to ask the agent.")
        ],
        ctx: Ctx,
        conversation_id: Annotated[
            ConversationId | None, Field(description="None begins a new conversation.")
        ] = None,
    ) -> ChatAnswer:
        """Ask the agent. It can calculate, tell the time, search your earlier conversations and query metrics.

        Give the conversation_id of an earlier answer to go on with that conversation.
        """
        async with _serving(ctx, services, chat) as (caller, notes):
            agent = await services.agent()
            turn = await agent.chat(
                caller.subject,
                message,
                conversation_id,
                progress=_Progress(ctx),
                limited=withheld_from(caller),
            )
        return ChatAnswer(
            conversation_id=turn.conversation_id,
            answer=turn.answer,
            model=turn.model,
            offline=turn.offline,
            durable=turn.durable,
            tool_calls=[ToolCallView(name=use.name, ok=use.ok) for use in turn.tool_calls],
            usage=turn.usage,
            cost=turn.cost,
            **_marks(notes),
        )

    @server.tool(title="Read a conversation", annotations=_READ_ONLY)
    async def conversation_get(conversation_id: ConversationId, ctx: Ctx) -> ConversationView:
        """Read one of your own conversations, with its tool calls and their results."""
        async with _serving(ctx, services, read) as (caller, notes):
            found = await services.conversation(caller.subject, conversation_id)
        messages = [
            MessageView(
                role=said.role,
                content=said.content,
                created_at=said.created_at,
                name=said.name,
                tool_calls=[dict(call) for call in said.tool_calls],
            )
            for said in found.messages
        ]
        return ConversationView(
            conversation_id=found.id,
            title=found.title,
            created_at=found.created_at,
            updated_at=found.updated_at,
            durable=found.durable,
            messages=messages,
            **_marks(notes),
        )

    @server.tool(title="Search conversations", annotations=_READ_ONLY)
    async def conversation_search(
        query: Annotated[str, Field(min_length=1, max_length=500, description="Words to look for.")],
        ctx: Ctx,
        limit: Annotated[int, Field(ge=1, le=100, description="Most messages to return.")] = 10,
    ) -> ConversationHits:
        """Search what was said in your own conversations."""
        async with _serving(ctx, services, read) as (caller, notes):
            hits = await services.sessions.search(caller.subject, query, limit)
        return ConversationHits(hits=[_hit(hit) for hit in hits], **_marks(notes))

    @server.tool(title="Resilience status", annotations=_READ_ONLY)
    async def resilience_status() -> ResilienceStatus:
        """The state of the services behind this server: circuit breakers, pipelines, and what is degraded."""
        return await services.resilience_status()


class _Progress:
    """Tells the client how far a call is. The number of steps is not known in advance."""

    def __init__(self, ctx: Ctx) -> None:
        self._ctx = ctx
        self._steps = 0

    async def __call__(self, message: str) -> None:
        self._steps += 1
        await self._ctx.report_progress(self._steps, None, message)


@contextlib.asynccontextmanager
async def _serving(
    ctx: Ctx, services: Services, relation: str
) -> AsyncIterator[tuple[Caller, list[Degradation]]]:
    """A permitted caller, the degradations of the call, and errors that the caller can understand."""
    caller = caller_of(ctx.request_context.request)
    with collect_degradations() as notes:
        if caller.degraded:
            notes.append(Degradation("keycloak", "the identity provider is unavailable", LIMITED, None))
        try:
            await services.permit(caller, relation, notes)
            yield caller, notes
        except (SessionDamaged, SessionsUnavailable) as error:
            unserved()
            raise ToolError(str(error)) from error
        except (ModelRefused, SessionError, UnknownConversation) as error:
            raise ToolError(str(error)) from error
        except (ResilienceError, ConnectionError, TimeoutError) as error:
            unserved()
            raise ToolError(f"unavailable at the moment: {error}") from error
        except ToolError:
            raise
        except Exception:
            unserved()
            raise


def _marks(notes: list[Degradation]) -> dict[str, Any]:
    reasons = DegradedReason.of(notes)
    return {"degraded": bool(reasons), "degraded_reasons": reasons}


def _hit(hit: SearchHit) -> ConversationHit:
    return ConversationHit(
        conversation_id=hit.conversation_id,
        title=hit.title,
        role=hit.role,
        snippet=hit.snippet,
        created_at=hit.created_at,
    )
