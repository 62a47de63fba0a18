"""How a stranger makes tokens: each way is a function that gives one for a Keycloak."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.security.door import encoded, token_of_parts
from tests.support.keycloak_server import KeycloakServer, SigningKey

Attack = Callable[[KeycloakServer], str]
STRANGER = SigningKey("ES256")


def signed(**changes: Any) -> Attack:
    """Properly signed by the realm, with these claims."""
    return lambda keycloak: raw(body=json.dumps(keycloak.claims(**changes)).encode())(keycloak)


def signed_with_header(**header: Any) -> Attack:
    """Properly signed by the realm, with these in the header."""
    return lambda keycloak: keycloak.token(header=header)


def unsigned(signature: bytes = b"", **header: Any) -> Attack:
    """Claims as the realm writes them, under a header that the stranger wrote."""
    return lambda keycloak: token_of_parts(
        {"typ": "JWT", "kid": keycloak.keys[0].kid, **header}, keycloak.claims(), signature
    )


def raw(head: bytes | None = None, body: bytes | None = None) -> Attack:
    """Signed by the realm over these bytes, whatever they are."""

    def attack(keycloak: KeycloakServer) -> str:
        key = keycloak.keys[0]
        first = head or json.dumps({"alg": "RS256", "typ": "JWT", "kid": key.kid}).encode()
        second = body or json.dumps(keycloak.claims()).encode()
        text = f"{encoded(first)}.{encoded(second)}"
        signature = jwt.get_algorithm_by_name("RS256").sign(text.encode(), key.private)
        return f"{text}.{encoded(signature)}"

    return attack


def written(name: str, text: bytes) -> Attack:
    """Claims as the realm writes them, but one, which stands there as this text."""

    def attack(keycloak: KeycloakServer) -> str:
        others = json.dumps(keycloak.claims(**{name: None})).encode()
        return raw(body=others[:-1] + f', "{name}": '.encode() + text + b"}")(keycloak)

    return attack


def algorithm_twice(keycloak: KeycloakServer) -> str:
    kid = keycloak.keys[0].kid
    return raw(head=f'{{"alg": "none", "kid": "{kid}", "alg": "RS256"}}'.encode())(keycloak)


def bent(bend: Callable[[str], str]) -> Attack:
    """A good token, bent."""
    return lambda keycloak: bend(keycloak.token())


def hmac_with(secret: Callable[[RSAPublicKey, dict[str, Any]], bytes], algorithm: str = "HS256") -> Attack:
    """Signed symmetrically, with what everybody can read of the realm's key as the secret."""

    def attack(keycloak: KeycloakServer) -> str:
        key = keycloak.keys[0]
        header = {"alg": algorithm, "typ": "JWT", "kid": key.kid}
        text = f"{encoded(header)}.{encoded(keycloak.claims())}"
        shared = secret(key.private.public_key(), key.jwk())
        return f"{text}.{encoded(jwt.get_algorithm_by_name(algorithm).sign(text.encode(), shared))}"

    return attack


def strangers(**header: Any) -> Attack:
    """Signed with the stranger's own key, which the header offers."""

    def attack(keycloak: KeycloakServer) -> str:
        values = {name: value(keycloak) if callable(value) else value for name, value in header.items()}
        return STRANGER.sign(keycloak.claims(), **values)

    return attack


def psychic(keycloak: KeycloakServer) -> str:
    """CVE-2022-21449: an ECDSA signature of nothing but zeros, which a careless library finds good for everything."""
    key = keycloak.rotate("ES256")
    return token_of_parts({"alg": "ES256", "typ": "JWT", "kid": key.kid}, keycloak.claims(), bytes(64))


def other_padding(keycloak: KeycloakServer) -> str:
    """The realm's own signature, under an algorithm that is not the key's."""
    impostor = SigningKey("PS256")
    impostor.private, impostor.kid = keycloak.keys[0].private, keycloak.keys[0].kid
    return keycloak.token(key=impostor)


def pem(key: RSAPublicKey, _jwk: dict[str, Any]) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def der(key: RSAPublicKey, _jwk: dict[str, Any]) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def modulus(_key: RSAPublicKey, jwk: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64decode(jwk["n"] + "==")


def jwk_text(_key: RSAPublicKey, jwk: dict[str, Any]) -> bytes:
    return json.dumps(jwk).encode()


def urls(keycloak: KeycloakServer) -> str:
    return f"{keycloak.url}/stranger/keys"


def realms_kid(keycloak: KeycloakServer) -> str:
    return keycloak.keys[0].kid


def not_mine(token: str) -> str:
    """The last character stands for bits that are not used: another one with the same signature."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) ^ 1]
