"""The settings of Keycloak: what they allow, what they need, and what the server makes of them."""

import pytest

from mcp_server_langgraph.auth.keycloak import ALGORITHMS
from mcp_server_langgraph.resilience.errors import SettingsError
from mcp_server_langgraph.server.app import issuer_of
from mcp_server_langgraph.server.wiring._identity import token_check
from mcp_server_langgraph.server.wiring._parts import Parts
from mcp_server_langgraph.settings import Settings

KEYCLOAK = {
    "KEYCLOAK_URL": "http://keycloak:8080",
    "KEYCLOAK_REALM": "demo",
    "KEYCLOAK_AUDIENCE": "mcp-server",
}


def test_every_algorithm_that_the_verifier_knows_is_accepted_unless_told_otherwise() -> None:
    assert tuple(Settings().keycloak_algorithms) == ALGORITHMS
    assert Settings.from_env({"KEYCLOAK_ALGORITHMS": "ES256, EdDSA"}).keycloak_algorithms == [
        "ES256",
        "EdDSA",
    ]


@pytest.mark.parametrize("names", ["HS256", "RS256,none", "rs256", " , ", "RS256;ES256"])
def test_a_symmetric_or_unknown_algorithm_cannot_be_set(names: str) -> None:
    with pytest.raises(SettingsError, match="KEYCLOAK_ALGORITHMS must be comma separated"):
        Settings.from_env({"KEYCLOAK_ALGORITHMS": names})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYCLOAK_CLOCK_SKEW_SECONDS", "301"),
        ("KEYCLOAK_CLOCK_SKEW_SECONDS", "-1"),
        ("KEYCLOAK_KEYS_MAX_AGE_SECONDS", "inf"),
        ("KEYCLOAK_KEYS_REFRESH_SECONDS", "0"),
        ("KEYCLOAK_REVOCATION_SECONDS", "nan"),
        ("KEYCLOAK_ISSUER", "demo"),
    ],
)
def test_times_have_their_bounds(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env({name: value})


def test_a_secret_needs_a_keycloak_and_a_client_its_secret() -> None:
    with pytest.raises(SettingsError, match="KEYCLOAK_URL is not set"):
        Settings.from_env({"KEYCLOAK_CLIENT_SECRET": "hush"})
    with pytest.raises(SettingsError, match="KEYCLOAK_CLIENT_SECRET is not set") as refused:
        Settings.from_env({**KEYCLOAK, "KEYCLOAK_CLIENT_ID": "other"})
    assert "hush" not in str(refused.value)


def test_the_issuer_is_the_realms_url_unless_told_otherwise() -> None:
    assert issuer_of(Settings.from_env(KEYCLOAK)) == "http://keycloak:8080/realms/demo"
    public = "https://id.example/realms/demo"
    assert issuer_of(Settings.from_env({**KEYCLOAK, "KEYCLOAK_ISSUER": public})) == public


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ({}, "identities of realm demo"),
        ({"KEYCLOAK_CLIENT_SECRET": "hush"}, "identities of realm demo, checked for revocation"),
        (
            {"KEYCLOAK_KEYS_REFRESH_SECONDS": "600", "KEYCLOAK_KEYS_MAX_AGE_SECONDS": "60"},
            "identities of realm demo",
        ),
    ],
)
async def test_the_status_says_whether_tokens_are_checked_for_revocation(
    more: dict[str, str], mode: str
) -> None:
    parts = Parts(Settings.from_env({**KEYCLOAK, **more}))
    assert token_check(parts) is not None
    [keycloak] = parts.dependencies
    assert (keycloak.mode, keycloak.fallback) == (mode, "last good keys: limited features")
    for close in parts.closers:
        await close()
