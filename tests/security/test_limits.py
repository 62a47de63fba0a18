"""An outage of Keycloak is no gain for who holds a token that was revoked, and no loss for who holds a good one."""

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from mcp_server_langgraph.auth.authorization import Decision
from mcp_server_langgraph.server.identity import Caller
from mcp_server_langgraph.server.limits import check_decision, check_relation, withheld_from
from tests.security.door import open_door
from tests.support.keycloak_server import KeycloakServer

pytestmark = pytest.mark.real_time

ASKING = {"KEYCLOAK_CLIENT_SECRET": "mcp-server-secret", "KEYCLOAK_REVOCATION_SECONDS": "0"}


async def test_a_limited_caller_keeps_its_conversations(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak, **ASKING) as door:
        token = keycloak.token()
        first = (await door.call(token, "agent_chat", message="what is 6 * 7?"))["structuredContent"]
        assert not first["degraded"]
        keycloak.stop()
        again = await door.call(
            token, "agent_chat", message="what is 2 + 3?", conversation_id=first["conversation_id"]
        )
        found = await door.call(token, "conversation_get", conversation_id=first["conversation_id"])
        hits = await door.call(token, "conversation_search", query="6")
    assert again["structuredContent"]["tool_calls"] == [{"name": "calculator", "ok": True}]
    assert len(found["structuredContent"]["messages"]) > 4
    assert hits["structuredContent"]["hits"]
    for result in (again, found, hits):
        [reason] = result["structuredContent"]["degraded_reasons"]
        assert (reason["service"], reason["source"]) == ("keycloak", "last good keys: limited features")


async def test_a_limited_caller_does_not_reach_other_services_through_the_agent(
    keycloak: KeycloakServer,
) -> None:
    with KeycloakServer() as prometheus:
        async with open_door(keycloak, **ASKING, PROMETHEUS_URL=prometheus.url) as door:
            token = keycloak.token()
            await door.admits(token)
            keycloak.stop()
            before = prometheus.count("/api/v1/query")
            answer = await door.call(token, "agent_chat", message="show me the metrics of `up`")
        asked = prometheus.count("/api/v1/query") - before
    assert answer["structuredContent"]["tool_calls"] == [{"name": "prometheus_query", "ok": False}]
    assert "withheld" in answer["structuredContent"]["answer"]
    assert asked == 0


async def test_a_revoked_token_is_refused_at_the_door(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak, **ASKING) as door:
        token = keycloak.token()
        await door.admits(token)
        keycloak.revoke(token)
        answer = await door.refuses(token)
        assert "not active" in answer.json()["error_description"]
        await door.admits(keycloak.token())


async def test_a_token_that_was_found_revoked_does_not_come_back_with_an_outage(
    keycloak: KeycloakServer,
) -> None:
    async with open_door(keycloak, **ASKING) as door:
        token = keycloak.token()
        keycloak.revoke(token)
        await door.refuses(token)
        keycloak.stop()
        await door.refuses(token)


async def test_an_outage_lets_nobody_in_whose_token_is_not_signed_by_the_realm(
    keycloak: KeycloakServer,
) -> None:
    async with open_door(keycloak, **ASKING) as door:
        await door.admits(keycloak.token())
        keycloak.stop()
        head = keycloak.token().rpartition(".")[0]
        await door.refuses(f"{head}.{'A' * 342}")


DEGRADED = Caller("alice", "keycloak", degraded=True)
WHOLE = Caller("alice", "keycloak")


def test_a_relation_that_nobody_thought_of_is_withheld_from_a_limited_caller() -> None:
    check_relation(WHOLE, "can_delete_everything", ["can_chat"])
    check_relation(DEGRADED, "can_chat", ["can_chat"])
    with pytest.raises(ToolError, match="limited to your own conversations"):
        check_relation(DEGRADED, "can_delete_everything", ["can_chat"])


async def test_a_limited_caller_keeps_its_conversations_where_relations_have_other_names(
    keycloak: KeycloakServer,
) -> None:
    names = {"OPENFGA_CHAT_RELATION": "may_talk", "OPENFGA_READ_RELATION": "may_read"}
    async with open_door(keycloak, **ASKING, **names) as door:
        token = keycloak.token()
        await door.admits(token)
        keycloak.stop()
        said = await door.call(token, "agent_chat", message="what is 6 * 7?")
        hits = await door.call(token, "conversation_search", query="6")
    assert said["structuredContent"]["degraded"]
    assert hits["structuredContent"]["hits"]


def test_two_outages_at_once_do_not_let_an_unchecked_caller_do_something_unchecked() -> None:
    failed_open = Decision(allowed=True, degraded=True, reason="fail-open")
    last_known = Decision(allowed=True, degraded=True, reason="last known", age=3.0)
    check_decision(WHOLE, "can_chat", failed_open)
    check_decision(DEGRADED, "can_chat", last_known)
    check_decision(DEGRADED, "can_chat", Decision(allowed=True))
    with pytest.raises(ToolError, match="neither"):
        check_decision(DEGRADED, "can_chat", failed_open)


def test_nothing_is_withheld_from_a_caller_who_was_checked() -> None:
    assert withheld_from(WHOLE) is None
    assert "withheld" in str(withheld_from(DEGRADED))
