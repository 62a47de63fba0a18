"""The one place that builds the services from the settings. What is not configured is not imported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mcp_server_langgraph.auth.session import InMemorySessionStore, SessionStore
from mcp_server_langgraph.resilience import Cache, Hedge, Pipeline, Throttle, Timeout, budget
from mcp_server_langgraph.server.authentication import TokenCheck
from mcp_server_langgraph.server.services import AgentLoader, Authorizer, Services
from mcp_server_langgraph.server.status import Dependency, StatusBoard
from mcp_server_langgraph.settings import Settings

if TYPE_CHECKING:
    from mcp_server_langgraph.agent.runner import Agent
    from mcp_server_langgraph.agent.tools import MetricsSource

__all__ = ["Wired", "wire"]

MAX_CONVERSATIONS: Final = 10_000
"""Conversations kept in memory; the least recently used makes room."""

PROMETHEUS_ATTEMPT: Final = 5.0
"""Seconds of one request to Prometheus, so that a second one fits into the total."""

Closer = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Wired:
    """The services, and what checks a token; None where no identity provider is configured."""

    services: Services
    token_check: TokenCheck | None


def wire(settings: Settings) -> Wired:
    """Build everything that the settings ask for. Connects to nothing yet."""
    builder = _Builder(settings)
    sessions = builder.sessions()
    authorizer = builder.authorizer()
    token_check = builder.token_check()
    agent = builder.agent(sessions, builder.metrics_source())
    services = Services(
        settings,
        sessions,
        agent,
        StatusBoard(builder.dependencies),
        authorizer=authorizer,
        closers=builder.closers,
    )
    return Wired(services, token_check)


class _Builder:
    """Builds one service after the other, and notes what the server then depends on and has to close."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dependencies: list[Dependency] = []
        self.closers: list[Closer] = []

    def sessions(self) -> SessionStore:
        memory = InMemorySessionStore(MAX_CONVERSATIONS, self.settings.session_ttl_seconds)
        if self.settings.redis_url is None:
            self._embedded("redis", "not configured: sessions in the memory of this process")
            return memory
        from mcp_server_langgraph.auth.session import RedisSessionStore

        url = self.settings.redis_url.get_secret_value()
        # An append is safe to repeat too: messages are known by their ids.
        store = RedisSessionStore(
            url, Pipeline.standard("redis"), memory, ttl=self.settings.session_ttl_seconds
        )
        fallback = "sessions in the memory of this process, written back later"
        self._remote(
            "redis", "sessions in Redis", fallback, url, lambda: {"messages_to_write_back": store.pending}
        )
        return store

    def authorizer(self) -> Authorizer | None:
        settings = self.settings
        if settings.openfga_api_url is None or settings.openfga_store_id is None:
            self._embedded("openfga", "not configured: every caller may use every tool, on own conversations")
            return None
        from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer

        authorizer = OpenFGAAuthorizer(
            settings.openfga_api_url,
            settings.openfga_store_id,
            settings.openfga_model_id,
            # Every request waits for its check: hedges take the tail off, and one that is busy is not asked more.
            Pipeline.standard("openfga", hedge=Hedge(budget=budget.shared("openfga")), throttle=Throttle()),
            settings.openfga_fail_mode,
        )
        self.closers.append(authorizer.aclose)
        fallback = f"last known decisions; then fail {settings.openfga_fail_mode}"
        self._remote("openfga", "permissions", fallback, settings.openfga_api_url)
        return authorizer

    def token_check(self) -> TokenCheck | None:
        url, realm, audience = (
            getattr(self.settings, f"keycloak_{part}") for part in ("url", "realm", "audience")
        )
        if url is None:
            self._embedded("keycloak", "not configured: every caller is the local development identity")
            return None
        from mcp_server_langgraph.auth.keycloak import KeycloakVerifier
        from mcp_server_langgraph.server.tokens import keycloak_check

        verifier = KeycloakVerifier(url, realm, audience, Pipeline.standard("keycloak"))
        self.closers.append(verifier.aclose)
        self._remote("keycloak", f"identities of realm {realm}", "last good keys: limited features", url)
        return keycloak_check(verifier)

    def metrics_source(self) -> MetricsSource | None:
        url = self.settings.prometheus_url
        if url is None:
            self._embedded("prometheus", "not configured: the agent's metrics tool says so")
            return None
        from mcp_server_langgraph.monitoring.prometheus_client import PrometheusClient

        # Agents ask the same at the same time. What stands in during an outage is the client's, which marks it.
        once = Cache(max_age=0, key=lambda endpoint, form: (endpoint, *sorted(form.items())))
        pipeline = Pipeline.standard("prometheus", cache=once, attempt=Timeout(PROMETHEUS_ATTEMPT))
        client = PrometheusClient(url, pipeline, attempt_timeout=PROMETHEUS_ATTEMPT)
        self.closers.append(client.aclose)
        self._remote("prometheus", "metrics for the agent", "last results, marked with their age", url)
        return client

    def agent(self, sessions: SessionStore, metrics: MetricsSource | None) -> AgentLoader:
        settings = self.settings
        if settings.llm_provider == "offline":
            self._embedded("llm", "offline model, not a language model")
        else:
            mode = f"{settings.llm_provider}, model {settings.llm_model or 'by default'}"
            models = ", ".join(settings.llm_fallback_models) or "none"
            fallback = f"fallback models: {models}; then an earlier answer to the same question"
            self.dependencies.append(Dependency("llm", mode, fallback))

        async def build() -> Agent:
            from mcp_server_langgraph.agent.runner import Agent
            from mcp_server_langgraph.agent.tools import standard_tools
            from mcp_server_langgraph.llm.factory import create_chat_model

            model = create_chat_model(settings)
            self.closers.append(model.aclose)
            await model.prepare()
            return Agent(
                model,
                standard_tools(sessions, metrics),
                sessions,
                model_name=settings.llm_model or settings.llm_provider,
                max_tool_rounds=settings.llm_max_tool_rounds,
            )

        return AgentLoader(build, ["mcp_server_langgraph.agent.runner", "mcp_server_langgraph.llm.factory"])

    def _embedded(self, name: str, mode: str) -> None:
        self.dependencies.append(Dependency(name, mode, embedded=True))

    def _remote(
        self, name: str, mode: str, fallback: str, url: str, facts: Callable[[], dict[str, Any]] = dict
    ) -> None:
        parts = urlsplit(url)
        default = {"https": 443, "http": 80, "redis": 6379, "rediss": 6379}.get(parts.scheme, 0)
        address = (parts.hostname, parts.port or default) if parts.hostname else None
        self.dependencies.append(Dependency(name, mode, fallback, address, facts=facts))
