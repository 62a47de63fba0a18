"""The stand-in for Keycloak's own server: npm's oidc-provider, with the demo realm on Keycloak's paths."""

from __future__ import annotations

import json
import shutil
from http.client import HTTPException
from pathlib import Path
from typing import Final

from tests.support.json_http import send
from tests.support.keycloak_home import REALM_FILE
from tests.support.keycloak_steering import KeycloakSteering
from tests.support.process import Process

__all__ = ["OidcProcess"]

_SERVER: Final = Path(__file__).parent / "oidc_provider" / "server.mjs"


class OidcProcess(KeycloakSteering, Process):
    """OpenID Connect as Keycloak speaks it, without its Admin API, sessions and token exchange.

    Keys are kept over `kill` and `start`; refresh tokens and what was revoked are not.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "oidc-provider")
        self._keys = folder / "keys.json"

    def command(self) -> list[str]:
        # It is run in the cached folder, where its node_modules are.
        node = shutil.which("node") or "node"
        return [
            "env",
            "-C",
            self.program,
            node,
            str(_SERVER),
            str(self.port),
            str(REALM_FILE),
            str(self._keys),
        ]

    def answers(self) -> bool:
        try:
            return send("GET", f"{self.issuer}/.well-known/openid-configuration").status == 200
        except (OSError, HTTPException):
            return False

    def rotate(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on, after a restart. Old keys stay published unless `keep_old` is False."""
        old = json.loads(self._keys.read_text())
        self.kill()
        self._keys.unlink()
        self.start()
        if keep_old:
            new = json.loads(self._keys.read_text())
            self.kill()
            self._keys.write_text(json.dumps([*new, *old]))
            self.start()
