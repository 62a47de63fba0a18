"""What is taken from a discovery document, and what never is."""

from typing import Any

import pytest

from mcp_server_langgraph.auth._discovery import provider_metadata
from mcp_server_langgraph.auth._http import UnusableReply

REALM = "https://id.example/realms/demo"
ENDPOINTS = f"{REALM}/protocol/openid-connect"
GOOD: dict[str, Any] = {
    "issuer": REALM,
    "jwks_uri": f"{ENDPOINTS}/certs",
    "token_endpoint": f"{ENDPOINTS}/token",
    "userinfo_endpoint": f"{ENDPOINTS}/userinfo",
    "introspection_endpoint": f"{ENDPOINTS}/token/introspect",
}


def test_the_endpoints_are_those_of_the_document() -> None:
    found = provider_metadata(GOOD, REALM, REALM)
    assert (found.issuer, found.jwks_uri) == (REALM, f"{ENDPOINTS}/certs")
    assert found.token_endpoint == f"{ENDPOINTS}/token"
    assert found.userinfo_endpoint == f"{ENDPOINTS}/userinfo"
    assert found.introspection_endpoint == f"{ENDPOINTS}/token/introspect"


def test_what_a_realm_does_not_have_is_none() -> None:
    found = provider_metadata({"issuer": REALM, "jwks_uri": f"{ENDPOINTS}/certs"}, REALM, REALM)
    assert (found.token_endpoint, found.userinfo_endpoint, found.introspection_endpoint) == (None, None, None)


@pytest.mark.parametrize(
    "uri",
    [
        "http://keycloak:8080/realms/demo/protocol/openid-connect/certs",
        "https://id.example/realms/demo/protocol/openid-connect/certs",
        "https://ID.example:443/realms/demo/protocol/openid-connect/certs",
    ],
)
def test_keycloak_behind_a_proxy_may_name_either_of_its_addresses(uri: str) -> None:
    document = {**GOOD, "jwks_uri": uri}
    assert provider_metadata(document, "http://keycloak:8080/realms/demo", REALM).jwks_uri == uri


@pytest.mark.parametrize("issuer", [None, "", "https://id.example/realms/other", f"{REALM}/", 7, [REALM]])
def test_a_document_of_another_issuer_is_no_answer(issuer: object) -> None:
    with pytest.raises(UnusableReply, match="issuer"):
        provider_metadata({**GOOD, "issuer": issuer}, REALM, REALM)


@pytest.mark.parametrize(
    "name", ["jwks_uri", "token_endpoint", "userinfo_endpoint", "introspection_endpoint"]
)
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/realms/demo/protocol/openid-connect/certs",
        "https://id.example.evil.example/realms/demo/certs",
        "https://id.example@evil.example/realms/demo/certs",
        "https://evil@id.example/realms/demo/certs",
        "http://id.example/realms/demo/certs",
        "https://id.example:8443/realms/demo/certs",
        "https://id.example/realms/other/protocol/openid-connect/certs",
        "https://id.example/realms/demo",
        "https://id.example/realms/demo-2/certs",
        "https://id.example/realms/demo/../other/certs",
        "https://id.example/realms/demo/%2e%2e/other/certs",
        "https://id.example/realms/demo/x\\..\\other",
        "https://id.example/realms/demo/certs?to=evil",
        "https://id.example/realms/demo/certs#evil",
        "https://id.example:port/realms/demo/certs",
        "https://[id.example/realms/demo/certs",
        "https://id.exa\nmple/realms/demo/certs",
        "//id.example/realms/demo/certs",
        "/realms/demo/certs",
        "file:///etc/passwd",
        "",
        7,
        {"url": f"{ENDPOINTS}/certs"},
    ],
)
def test_an_endpoint_elsewhere_is_no_answer(name: str, url: object) -> None:
    with pytest.raises(UnusableReply, match=name):
        provider_metadata({**GOOD, name: url}, REALM, REALM)


def test_a_document_without_keys_is_no_answer() -> None:
    with pytest.raises(UnusableReply, match="keys"):
        provider_metadata({"issuer": REALM}, REALM, REALM)
