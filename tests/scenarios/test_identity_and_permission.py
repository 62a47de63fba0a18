"""Who calls, by Keycloak, and what they may do, by OpenFGA: the two together, as real as this machine can have them."""

import pytest

from mcp_server_langgraph.auth.identity import InvalidToken
from mcp_server_langgraph.auth.keycloak import KeycloakVerifier
from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer
from mcp_server_langgraph.resilience import Pipeline, registry
from tests.support.keycloak_process import KeycloakProcess
from tests.support.oidc_process import OidcProcess
from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_stand_in import OpenFGAStandIn

pytestmark = pytest.mark.real_time(limit=300)

PLAN = "document:plan"
Keycloak = KeycloakProcess | OidcProcess
OpenFGA = OpenFGAProcess | OpenFGAStandIn


@pytest.fixture(autouse=True)
def unhurried(fresh_registry: None) -> None:
    """What is tested here is not how quick servers are that have just been started on a busy machine."""
    names = (
        "KEYCLOAK_ATTEMPT_TIMEOUT",
        "KEYCLOAK_AUTH_TIMEOUT",
        "OPENFGA_ATTEMPT_TIMEOUT",
        "OPENFGA_AUTH_TIMEOUT",
    )
    registry.reload(dict.fromkeys(names, "20"))


async def test_the_bearer_of_a_token_may_do_what_is_granted_to_its_subject(
    keycloak_service: Keycloak, openfga_service: OpenFGA
) -> None:
    verifier = KeycloakVerifier(
        keycloak_service.url, keycloak_service.realm, keycloak_service.audience, Pipeline.standard("keycloak")
    )
    authorizer = OpenFGAAuthorizer(
        openfga_service.url, openfga_service.store_id, openfga_service.model_id, Pipeline.standard("openfga")
    )
    alice = await verifier.verify(keycloak_service.token("alice"))
    bob = await verifier.verify(keycloak_service.token("bob"))
    openfga_service.grant(f"user:{alice.subject}", "viewer", PLAN)

    allowed = [
        (await authorizer.check(f"user:{who.subject}", "viewer", PLAN)).allowed for who in (alice, bob)
    ]

    assert allowed == [True, False]
    assert "operator" in alice.roles - bob.roles
    await verifier.aclose()
    await authorizer.aclose()


async def test_a_token_that_was_tampered_with_is_nobody_s(keycloak_service: Keycloak) -> None:
    verifier = KeycloakVerifier(
        keycloak_service.url, keycloak_service.realm, keycloak_service.audience, Pipeline.standard("keycloak")
    )
    head, payload, signature = keycloak_service.token("bob").split(".")
    _, others, _ = keycloak_service.token("alice").split(".")
    assert others != payload
    with pytest.raises(InvalidToken):
        await verifier.verify(f"{head}.{others}.{signature}")
    await verifier.aclose()
