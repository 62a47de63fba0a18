"""A stand-in for Keycloak that is faithful on the wire: discovery, keys, tokens, what clients ask, key rotation.

URL layout, claims and error bodies are those of Keycloak 26's realm endpoints.
"""

import base64
import functools
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.http_server import HttpServer, Request, Response

__all__ = ["KeycloakServer", "SigningKey"]

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"

_WRONG: Final = "Invalid client or Invalid client credentials"
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

    `rewrite` is what the discovery document becomes before it is sent, `publish` what the list of keys becomes.
    """

    def __init__(self, realm: str = "demo", clients: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.realm = realm
        self.clients = dict(clients or {"agent": "agent-secret", "mcp-server": "mcp-server-secret"})
        self.keys = [_first_key()]
        self.rewrite: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.publish: Callable[[list[dict[str, Any]]], list[Any]] = list
        self.revoked: set[str] = set()
        self.refresh_tokens: set[str] = set()
        self.used_refresh_tokens: set[str] = set()
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

    def revoke(self, token: str) -> None:
        """Call this token inactive from now on, as after a logout."""
        self.revoked.add(str(_claims_of(token)["jti"]))

    def refresh_token(self) -> str:
        """A new refresh token of alice. It is good for one use: the realm rotates them."""
        token = uuid.uuid4().hex
        self.refresh_tokens.add(token)
        return token

    async def handle(self, request: Request) -> Response:
        root = f"/realms/{self.realm}"
        endpoint = request.path.removeprefix(f"{root}/protocol/openid-connect/")
        if request.path == f"{root}/.well-known/openid-configuration":
            return Response(self.rewrite(self._discovery()))
        if request.path == self.certs_path:
            keys = [*(key.jwk() for key in self.keys), self._encryption]
            return Response({"keys": self.publish(keys)}, headers={"cache-control": "no-cache"})
        if endpoint == "userinfo":
            return self._userinfo(request)
        if endpoint == "token" and request.method == "POST":
            if not request.form().get("grant_type"):
                return _refusal(400, "invalid_request", "Missing form parameter: grant_type")
            return self._for_client(request, self._grant, ("unauthorized_client", _WRONG))
        if endpoint == "token/introspect" and request.method == "POST":
            return self._for_client(
                request, self._introspect, ("invalid_client", "Client authentication failed.")
            )
        if request.path.startswith(f"{root}/"):
            return Response({"error": "HTTP 404 Not Found"}, 404)
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
            "introspection_endpoint": f"{endpoint}/token/introspect",
            "grant_types_supported": ["client_credentials", "refresh_token", EXCHANGE],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        }

    def _for_client(
        self,
        request: Request,
        answer: Callable[[str, dict[str, str]], Response],
        wrong_secret: tuple[str, str],
    ) -> Response:
        form = request.form()
        client, secret = _credentials(request, form)
        if client not in self.clients:
            return _refusal(401, "invalid_client", _WRONG)
        if self.clients[client] != secret:
            return _refusal(401, *wrong_secret)
        return answer(client, form)

    def _grant(self, client: str, form: dict[str, str]) -> Response:
        kind = form.get("grant_type")
        if kind == "client_credentials":
            return self._tokens(azp=client, preferred_username=f"service-account-{client}")
        if kind == "refresh_token":
            return self._refresh(form.get("refresh_token"))
        if kind == EXCHANGE:
            if "subject_token" not in form:
                said = "Parameter 'subject_token' required for standard token exchange"
                return _refusal(400, "invalid_request", said)
            if not self._is_active(form["subject_token"]):
                return _refusal(400, "invalid_request", "Invalid token")
            if form.get("audience") not in (None, "downstream"):
                return _refusal(
                    400, "invalid_request", f"Requested audience not available: {form['audience']}"
                )
            return self._tokens(aud=form["audience"], azp=client)
        return _refusal(400, "unsupported_grant_type", "Unsupported grant_type")

    def _refresh(self, token: str | None) -> Response:
        if token is None:
            return _refusal(400, "invalid_request", "No refresh token")
        if token in self.used_refresh_tokens:
            return _refusal(400, "invalid_grant", "Maximum allowed refresh token reuse exceeded")
        if token not in self.refresh_tokens:
            return _refusal(400, "invalid_grant", "Invalid refresh token")
        self.refresh_tokens.remove(token)
        self.used_refresh_tokens.add(token)
        return self._tokens(self.refresh_token())

    def _introspect(self, client: str, form: dict[str, str]) -> Response:
        token = form.get("token", "")
        if not token:
            return _refusal(400, "invalid_request", "Token not provided.")
        if not self._is_active(token) or client not in _claims_of(token)["aud"]:
            return Response({"active": False})
        return Response({**_claims_of(token), "active": True, "client_id": "agent", "username": "alice"})

    def _userinfo(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").partition(" ")[2]
        if not self._is_active(token):
            challenge = {"www-authenticate": 'Bearer realm="demo", error="invalid_token"'}
            return Response(b"", 401, challenge)
        return Response({"sub": _claims_of(token)["sub"], "preferred_username": "alice"})

    def _is_active(self, token: str) -> bool:
        try:
            claims = _claims_of(token)
        except jwt.PyJWTError:
            return False
        return claims["jti"] not in self.revoked and claims["exp"] > time.time()

    def _tokens(self, refresh_token: str | None = None, **changes: Any) -> Response:
        answer = {
            "access_token": self.token(**changes),
            "expires_in": 300,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "profile email",
        }
        return Response(answer if refresh_token is None else {**answer, "refresh_token": refresh_token})


def _refusal(status: int, error: str, description: str) -> Response:
    return Response({"error": error, "error_description": description}, status)


def _claims_of(token: str) -> dict[str, Any]:
    """The claims of a token that was made here, so its signature is not looked at."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


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
        return unquote_plus(client), unquote_plus(secret)
    return form.get("client_id", ""), form.get("client_secret", "")
