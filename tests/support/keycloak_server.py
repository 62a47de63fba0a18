"""A stand-in for Keycloak that is faithful on the wire: discovery, keys, tokens, key rotation.

URL layout, claims and error bodies are those of Keycloak 26's realm endpoints.
"""

import base64
import functools
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.http_server import HttpServer, Request, Response

__all__ = ["KeycloakServer", "SigningKey"]

_TO_JWK: Final[dict[str, Any]] = {"ES": ECAlgorithm.to_jwk, "Ed": OKPAlgorithm.to_jwk}


class SigningKey:
    """A key pair with its id. `algorithm` is one of RS256..RS512, PS256..PS512, ES256, ES384, EdDSA."""

    def __init__(self, algorithm: str = "RS256") -> None:
        self.kid = uuid.uuid4().hex
        self.algorithm = algorithm
        self.private: Any
        if algorithm.startswith("ES"):
            self.private = ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwk(self) -> dict[str, Any]:
        """The public half as Keycloak publishes it."""
        public = self.private.public_key()
        to_jwk = _TO_JWK.get(self.algorithm[:2], RSAAlgorithm.to_jwk)
        jwk = {**to_jwk(public, as_dict=True), "kid": self.kid, "alg": self.algorithm, "use": "sig"}
        return {name: value for name, value in jwk.items() if name != "key_ops"}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        return jwt.encode(
            dict(claims), self.private, self.algorithm, headers={"kid": self.kid, "typ": "JWT", **header}
        )


class KeycloakServer(HttpServer):
    """One realm with confidential clients (`clients`: id to secret). Tokens are valid for five minutes.

    `rewrite` is what the discovery document becomes before it is sent.
    """

    def __init__(self, realm: str = "demo", clients: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.realm = realm
        self.clients = dict(clients or {"agent": "agent-secret"})
        self.keys = [_first_key()]
        self.rewrite: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self._encryption = {**_encryption_key().jwk(), "use": "enc", "alg": "RSA-OAEP"}

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/{self.realm}"

    @property
    def certs_path(self) -> str:
        return f"/realms/{self.realm}/protocol/openid-connect/certs"

    def rotate(self, algorithm: str = "RS256", *, keep_old: bool = True) -> SigningKey:
        """Sign with a new key from now on. Old keys stay published unless `keep_old` is False."""
        key = SigningKey(algorithm)
        self.keys = [key, *(self.keys if keep_old else [])]
        return key

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of an access token as Keycloak writes them; a change to None leaves the claim out."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "exp": now + 300,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer,
            "aud": ["mcp-server", "account"],
            "sub": "5f0a2f3e-0000-4000-8000-000000000001",
            "typ": "Bearer",
            "azp": "agent",
            "acr": "1",
            "realm_access": {"roles": ["offline_access", "user"]},
            "resource_access": {"mcp-server": {"roles": ["operator"]}},
            "scope": "profile email",
            "email_verified": False,
            "preferred_username": "alice",
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(
        self, *, key: SigningKey | None = None, header: Mapping[str, Any] | None = None, **changes: Any
    ) -> str:
        """An access token, signed with the active key unless told otherwise."""
        return (key or self.keys[0]).sign(self.claims(**changes), **(header or {}))

    async def handle(self, request: Request) -> Response:
        root = f"/realms/{self.realm}"
        if request.path == f"{root}/.well-known/openid-configuration":
            return Response(self.rewrite(self._discovery()))
        if request.path == self.certs_path:
            keys = [*(key.jwk() for key in self.keys), self._encryption]
            return Response({"keys": keys}, headers={"cache-control": "no-cache"})
        if request.path == f"{root}/protocol/openid-connect/token" and request.method == "POST":
            return self._grant(request)
        if request.path.startswith("/realms/"):
            return Response({"error": "Realm does not exist"}, 404)
        return Response({"error": "Unable to find matching target resource method"}, 404)

    def _discovery(self) -> dict[str, Any]:
        endpoint = f"{self.issuer}/protocol/openid-connect"
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{endpoint}/auth",
            "token_endpoint": f"{endpoint}/token",
            "jwks_uri": f"{endpoint}/certs",
            "userinfo_endpoint": f"{endpoint}/userinfo",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        }

    def _grant(self, request: Request) -> Response:
        form = request.form()
        if form.get("grant_type") != "client_credentials":
            description = "Unsupported grant_type"
            return Response({"error": "unsupported_grant_type", "error_description": description}, 400)
        client, secret = _credentials(request, form)
        if client not in self.clients or self.clients[client] != secret:
            description = "Invalid client or Invalid client credentials"
            return Response({"error": "unauthorized_client", "error_description": description}, 401)
        token = self.token(azp=client, preferred_username=f"service-account-{client}")
        return Response(
            {
                "access_token": token,
                "expires_in": 300,
                "refresh_expires_in": 0,
                "token_type": "Bearer",
                "not-before-policy": 0,
                "scope": "profile email",
            }
        )


@functools.cache
def _first_key() -> SigningKey:
    """One for all servers of a test run: RSA keys take a quarter of a second to make."""
    return SigningKey()


@functools.cache
def _encryption_key() -> SigningKey:
    return SigningKey()


def _credentials(request: Request, form: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        client, _, secret = base64.b64decode(value).decode().partition(":")
        return client, secret
    return form.get("client_id", ""), form.get("client_secret", "")
