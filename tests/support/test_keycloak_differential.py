"""Our stand-in for Keycloak answers as Keycloak's own server does: documents, tokens, refusals."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from tests.support.json_http import Answer, send
from tests.support.keycloak_process import KeycloakProcess
from tests.support.keycloak_server import KeycloakServer

TOKEN = "/realms/demo/protocol/openid-connect/token"
INTROSPECT = f"{TOKEN}/introspect"
USERINFO = "/realms/demo/protocol/openid-connect/userinfo"
AGENT = {"client_id": "agent", "client_secret": "agent-secret"}
SERVER = {"client_id": "mcp-server", "client_secret": "mcp-server-secret"}
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
}
# A well-formed token that nobody has issued.
FOREIGN = jwt.encode({"iss": "x", "jti": "1", "exp": 1, "sub": "s", "aud": "mcp-server"}, "k" * 32)


@pytest.fixture(scope="module")
def ours() -> Iterator[KeycloakServer]:
    with KeycloakServer() as running:
        yield running


def _told(answer: Answer) -> Any:
    """What a client goes by."""
    challenge = answer.headers.get("www-authenticate", "").partition(" ")[0]
    return answer.status, answer.body, challenge


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("GET", "/realms/other/.well-known/openid-configuration", None),
        ("GET", "/realms/other", None),
        ("GET", "/realms/demo/nothing", None),
        ("GET", "/nothing", None),
        ("POST", TOKEN, {}),
        ("POST", TOKEN, {**AGENT}),
        ("POST", TOKEN, {**AGENT, "grant_type": "nonsense"}),
        ("POST", TOKEN, {"grant_type": "client_credentials"}),
        ("POST", TOKEN, {"client_id": "agent", "grant_type": "client_credentials"}),
        ("POST", TOKEN, {**AGENT, "client_secret": "wrong", "grant_type": "client_credentials"}),
        ("POST", TOKEN, {**AGENT, "client_id": "nobody", "grant_type": "client_credentials"}),
        ("POST", TOKEN, {**AGENT, "grant_type": "refresh_token"}),
        ("POST", TOKEN, {**AGENT, "grant_type": "refresh_token", "refresh_token": "nonsense"}),
        ("POST", TOKEN, {**SERVER, **EXCHANGE}),
        ("POST", TOKEN, {**SERVER, **EXCHANGE, "subject_token": "nonsense"}),
        ("POST", TOKEN, {**SERVER, **EXCHANGE, "subject_token": FOREIGN}),
        ("POST", INTROSPECT, {**SERVER}),
        ("POST", INTROSPECT, {**SERVER, "token": "nonsense"}),
        ("POST", INTROSPECT, {**SERVER, "token": FOREIGN}),
        ("POST", INTROSPECT, {"token": "nonsense"}),
        ("POST", INTROSPECT, {**SERVER, "client_secret": "wrong", "token": "nonsense"}),
        ("POST", INTROSPECT, {**SERVER, "client_id": "nobody", "token": "nonsense"}),
    ],
)
def test_the_same_is_refused(
    own_keycloak: KeycloakProcess, ours: KeycloakServer, method: str, path: str, form: dict[str, str] | None
) -> None:
    own, ours_ = (send(method, server.url + path, form=form) for server in (own_keycloak, ours))
    assert _told(ours_) == _told(own)


@pytest.mark.parametrize("header", [None, "Bearer nonsense", f"Bearer {FOREIGN}", "Basic YTpi"])
def test_userinfo_is_refused_alike(
    own_keycloak: KeycloakProcess, ours: KeycloakServer, header: str | None
) -> None:
    headers = {"authorization": header} if header else None
    own, ours_ = (send("GET", server.url + USERINFO, headers=headers) for server in (own_keycloak, ours))
    assert _told(ours_) == _told(own)


def test_what_the_discovery_document_says_is_true_of_keycloak_too(
    own_keycloak: KeycloakProcess, ours: KeycloakServer
) -> None:
    path = "/realms/demo/.well-known/openid-configuration"
    own, ours_ = (send("GET", server.url + path).expect(200) for server in (own_keycloak, ours))
    for name, value in ours_.items():
        if isinstance(value, list):
            assert set(value) <= set(own[name]), name
        else:
            assert urlsplit(own[name]).path == urlsplit(value).path, name


def test_keys_are_published_alike(own_keycloak: KeycloakProcess, ours: KeycloakServer) -> None:
    path = "/realms/demo/protocol/openid-connect/certs"
    own, ours_ = (send("GET", server.url + path) for server in (own_keycloak, ours))
    assert ours_.headers["cache-control"] == own.headers["cache-control"]
    kinds = [{(key["kty"], key["use"], key["alg"]) for key in answer.body["keys"]} for answer in (own, ours_)]
    assert kinds[1] <= kinds[0]
    [known] = {frozenset(key) for key in own.body["keys"] if key["kty"] == "RSA"}
    assert all(set(key) <= known for key in ours_.body["keys"])


def test_tokens_say_the_same_in_the_same_words(own_keycloak: KeycloakProcess, ours: KeycloakServer) -> None:
    asked = {**AGENT, "grant_type": "client_credentials"}
    own, ours_ = (send("POST", server.url + TOKEN, form=asked).expect(200) for server in (own_keycloak, ours))
    assert set(ours_) == set(own)
    tokens = [own["access_token"], own_keycloak.token("alice"), ours_["access_token"], ours.token()]
    assert len({frozenset(jwt.get_unverified_header(token)) for token in tokens}) == 1
    assert {jwt.get_unverified_header(token)["typ"] for token in tokens} == {"JWT"}
    *known, client, user = [jwt.decode(token, options={"verify_signature": False}) for token in tokens]
    for claims in (client, user):
        for name, value in claims.items():
            assert type(value) in {type(one[name]) for one in known if name in one}, name
            if name in {"typ", "azp", "acr"}:
                assert value == known[0][name]
