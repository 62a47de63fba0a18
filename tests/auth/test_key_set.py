"""Which keys of a JWK set are taken."""

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from mcp_server_langgraph.auth._http import UnusableReply
from mcp_server_langgraph.auth._key_set import signing_keys
from mcp_server_langgraph.auth.keycloak import ALGORITHMS
from tests.support.keycloak_server import SigningKey

FIRST, SECOND = SigningKey("ES256"), SigningKey("ES256")


def test_only_usable_signing_keys_are_taken() -> None:
    encryption = {**SECOND.jwk(), "use": "enc"}
    symmetric = {
        "kty": "oct",
        "kid": "shared",
        "alg": "HS256",
        "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA",
    }
    unknown = {"kty": "XYZ", "kid": "odd", "use": "sig"}
    broken = {"kty": "RSA", "kid": "broken", "use": "sig", "alg": "RS256", "n": "!", "e": "AQAB"}
    found = signing_keys(
        {"keys": [encryption, symmetric, unknown, broken, "text", FIRST.jwk()]}, frozenset(ALGORITHMS)
    )
    assert set(found) == {FIRST.kid}


@pytest.mark.parametrize(
    "document", [{}, {"keys": []}, {"keys": None}, {"keys": [{"kty": "oct", "k": "AA", "kid": "x"}]}]
)
def test_a_set_without_a_usable_key_is_no_answer(document: dict[str, object]) -> None:
    with pytest.raises(UnusableReply):
        signing_keys(document, frozenset(ALGORITHMS))


def test_keys_for_other_algorithms_are_left_out() -> None:
    rsa = SigningKey()
    assert set(signing_keys({"keys": [FIRST.jwk(), rsa.jwk()]}, frozenset({"ES256"}))) == {FIRST.kid}
    with pytest.raises(UnusableReply):
        signing_keys({"keys": [FIRST.jwk()]}, frozenset({"RS256"}))


@pytest.mark.parametrize(("bits", "taken"), [(2048, True), (1024, False)])
def test_rsa_keys_below_2048_bits_are_left_out(bits: int, taken: bool) -> None:
    key = SigningKey()
    key.private = generate_private_key(public_exponent=65537, key_size=bits)
    assert (key.kid in signing_keys({"keys": [FIRST.jwk(), key.jwk()]}, frozenset(ALGORITHMS))) is taken
