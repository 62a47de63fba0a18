"""What tests do with any server of the demo realm, by OpenID Connect: get, exchange and revoke tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.support.json_http import Answer, send
from tests.support.ports import HOST

__all__ = ["KeycloakSteering"]


class KeycloakSteering:
    """For a server with a `port`, with the clients of deploy/keycloak. The methods block."""

    port: int
    realm = "demo"
    audience = "mcp-server"
    clients: Final[Mapping[str, str]] = {"agent": "agent-secret", "mcp-server": "mcp-server-secret"}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/{self.realm}"

    def password_grant(
        self, user: str = "alice", password: str | None = None, client: str = "agent"
    ) -> Answer:
        """What the token endpoint says to a user's name and password (the same, unless given)."""
        return self.grant(
            client, grant_type="password", username=user, password=password or user, scope="openid"
        )

    def client_grant(self, client: str = "agent") -> Answer:
        """What the token endpoint says to a client that asks for itself."""
        return self.grant(client, grant_type="client_credentials")

    def token(self, user: str = "alice") -> str:
        """An access token of the user, asked for by the client `agent`."""
        return str(self.password_grant(user).expect(200)["access_token"])

    def grant(self, client: str, **form: str) -> Answer:
        """What the token endpoint says to the form and the client's credentials."""
        return self._post("token", client, form)

    def revoke(self, token: str, client: str = "agent") -> None:
        """Revoke one token, as its client may."""
        self._post("revoke", client, {"token": token}).expect(200)

    def _post(self, endpoint: str, client: str, form: Mapping[str, str]) -> Answer:
        secret = {"client_secret": self.clients[client]} if client in self.clients else {}
        url = f"{self.issuer}/protocol/openid-connect/{endpoint}"
        return send("POST", url, form={"client_id": client, **secret, **form})
