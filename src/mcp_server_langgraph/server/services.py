"""The services as the tools see them. ``wiring`` builds them; nothing else knows which ones are configured."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from mcp.server.mcpserver.exceptions import ToolError

from mcp_server_langgraph.agent.conversations import own_conversation
from mcp_server_langgraph.auth.authorization import Decision, RequestRejected
from mcp_server_langgraph.auth.session import Conversation, SessionStore
from mcp_server_langgraph.monitoring.sla_prometheus import PromQL
from mcp_server_langgraph.resilience import config, registry
from mcp_server_langgraph.resilience.degradation import Degradation
from mcp_server_langgraph.server.identity import Caller
from mcp_server_langgraph.server.limits import check_decision, check_relation
from mcp_server_langgraph.server.outcomes import unserved
from mcp_server_langgraph.server.outputs import ResilienceStatus
from mcp_server_langgraph.server.status import StatusBoard, is_degraded
from mcp_server_langgraph.settings import Settings

if TYPE_CHECKING:
    from mcp_server_langgraph.agent.runner import Agent

__all__ = ["AGENT_TYPE", "AgentLoader", "Authorizer", "Services"]

logger = logging.getLogger(__name__)

AGENT_TYPE: Final = "service"
_NO_ID: Final = frozenset("*#:@")
AGENT: Final = f"{AGENT_TYPE}:agent"


class Authorizer(Protocol):
    """Who may do what."""

    async def check(self, user: str, relation: str, object: str, /) -> Decision: ...  # noqa: A002


class AgentLoader:
    """Builds the agent in the background: its packages take seconds to import, and the server answers meanwhile.

    ``loaded`` is called once when all of it is there, before anybody gets the agent.
    """

    def __init__(self, build: Callable[[], Awaitable[Agent]], modules: Sequence[str]) -> None:
        self._build = build
        self._modules = modules
        self.loaded: Callable[[], None] = _nothing
        self._task: asyncio.Task[Agent] | None = None

    def start(self) -> None:
        """Begin, unless begun. Needs a running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._load(), name="load agent")

    @property
    def state(self) -> Literal["starting", "ready", "failed"]:
        if self._task is None or not self._task.done():
            return "starting"
        return "failed" if self._task.cancelled() or self._task.exception() else "ready"

    async def get(self) -> Agent:
        """The agent, once it is built. Raises RuntimeError if it could not be built; the log says why."""
        self.start()
        assert self._task is not None
        # Not `await task`: a caller that goes away must not take the agent of the others with it.
        await asyncio.wait({self._task})
        if self.state == "failed":
            raise RuntimeError("the agent could not be started; the server's log says why")
        return self._task.result()

    async def aclose(self) -> None:
        if self.state == "failed":
            return  # its error is in the log
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _load(self) -> Agent:
        try:
            for module in self._modules:
                await asyncio.to_thread(importlib.import_module, module)
            agent = await self._build()
            self.loaded()
        except Exception:
            logger.exception("the agent could not be built")
            raise
        return agent


def _nothing() -> None:
    """What a process does that is not the server's alone."""


class Services:
    """Everything behind the tools, ready to be asked."""

    def __init__(
        self,
        settings: Settings,
        sessions: SessionStore,
        agent: AgentLoader,
        board: StatusBoard,
        *,
        authorizer: Authorizer | None = None,
        starters: Sequence[Callable[[], None]] = (),
        prometheus: PromQL | None = None,
        closers: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.board = board
        self.loader = agent
        self.prometheus = prometheus
        self._authorizer = authorizer
        self._starters = starters
        self._closers = closers

    def start(self) -> None:
        """Begin what is done in the background. Needs a running event loop."""
        self.loader.start()
        for start in self._starters:
            start()

    async def agent(self) -> Agent:
        """The agent. Raises ToolError if it could not be built."""
        try:
            return await self.loader.get()
        except RuntimeError as error:
            unserved()
            raise ToolError(str(error)) from None

    async def conversation(self, owner: str, conversation_id: str) -> Conversation:
        """The owner's conversation. Raises UnknownConversation, SessionsUnavailable."""
        return await own_conversation(self.sessions, owner, conversation_id)

    async def permit(self, caller: Caller, relation: str, notes: list[Degradation]) -> None:
        """Let the caller pass, or raise ToolError. A decision that was not made by OpenFGA just now is noted."""
        settings = self.settings
        check_relation(caller, relation, (settings.openfga_chat_relation, settings.openfga_read_relation))
        if self._authorizer is None:
            return
        try:
            decision = await self._authorizer.check(_user(caller), relation, AGENT)
        except RequestRejected as error:
            unserved()
            raise ToolError(
                f"permission denied: {relation} on {AGENT} (OpenFGA refuses the check: {error})"
            ) from error
        check_decision(caller, relation, decision)
        if decision.degraded:
            _note_decision(notes, decision)
        if not decision.allowed:
            if decision.degraded:
                unserved()
            again = "" if decision.retry_after is None else f"; retry after {decision.retry_after:.3g} s"
            raise ToolError(f"permission denied: {relation} on {AGENT} ({decision.reason}{again})")

    async def resilience_status(self) -> ResilienceStatus:
        """The state of services, breakers and pipelines."""
        services = await self.board.services()
        return ResilienceStatus(
            enabled=bool(config.current().as_dict()["FF_ENABLE_RESILIENCE_PATTERNS"]),
            status="degraded" if is_degraded(services) else "ok",
            services=services,
            breakers={name: _plain(breaker.snapshot()) for name, breaker in registry.breakers().items()},
            pipelines=[
                _plain({**pipeline.describe(), **pipeline.snapshot()}) for pipeline in registry.pipelines()
            ],
        )

    async def aclose(self) -> None:
        """Write what is still to be written and give connections back."""
        await self.loader.aclose()
        for close in (self.sessions.aclose, *self._closers):
            try:
                await close()
            except Exception:
                logger.exception("a service could not be closed")


def _user(caller: Caller) -> str:
    """One user, as OpenFGA names it. Raises RequestRejected for a subject that reads as everybody, or as a group."""
    if not caller.subject or not _NO_ID.isdisjoint(caller.subject):
        raise RequestRejected(f"not the id of one user: {caller.subject!r:.100}")
    return f"user:{caller.subject}"


def _note_decision(notes: list[Degradation], decision: Decision) -> None:
    """One note of it: the layer's own, with the age that only the decision knows, or a new one."""
    for index, note in enumerate(notes):
        if note.service == "openfga":
            notes[index] = dataclasses.replace(note, age=decision.age)
            return
    notes.append(Degradation("openfga", decision.reason, "permission not checked now", decision.age))


def _plain(value: Any) -> Any:
    """A snapshot as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
