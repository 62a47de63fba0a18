"""Keycloak's own server."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Self

from tests.support.json_http import send
from tests.support.keycloak_home import copy_database, lay_out
from tests.support.keycloak_steering import KeycloakSteering
from tests.support.ports import HOST, free_port
from tests.support.process import Process

__all__ = ["KeycloakProcess"]

_ADMIN: Final = "admin"

# What bin/kc.sh sets, with a small heap and the quick compiler alone, for a server that lives for minutes.
_JVM: Final = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=256m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory="
    "io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "-Dpicocli.disable.closures=true",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--enable-native-access=ALL-UNNAMED",
)

_KEY_PROVIDERS: Final[dict[str, tuple[str, dict[str, list[str]]]]] = {
    "ES256": ("ecdsa-generated", {"ecdsaEllipticCurveKey": ["P-256"]}),
    "ES384": ("ecdsa-generated", {"ecdsaEllipticCurveKey": ["P-384"]}),
    "EdDSA": ("eddsa-generated", {"eddsaEllipticCurveKey": ["Ed25519"]}),
}


class KeycloakProcess(KeycloakSteering, Process):
    """Keycloak with the realm of deploy/keycloak, whose people and keys are kept over `kill` and `start`.

    Takes 10 to 30 s to start, for most of which it needs a processor: one for many tests. All have the same keys until
    they are rotated. The distribution is only read: `java` is run on it directly (a killed kc.sh would leave it
    behind), with a home of its own in the folder.
    """

    patience = 300.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "keycloak")
        self._home = folder / "keycloak"
        self._management_port = free_port()

    def start(self) -> Self:
        """Start, with the realm of deploy/keycloak the first time and with what is kept from before later."""
        lay_out(self._home, Path(self.program))
        copy_database(self._home, Path(self.program), self._import_realm)
        return super().start()

    def command(self) -> list[str]:
        return [
            shutil.which("java") or "java",
            *_JVM,
            f"-Dkc.home.dir={self._home}",
            f"-Djboss.server.config.dir={self._home / 'conf'}",
            "-cp",
            f"{self.program}/lib/quarkus-run.jar",
            "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
            "start",
            "--optimized",
            "--cache=local",
            f"--http-host={HOST}",
            "--http-enabled=true",
            f"--http-port={self.port}",
            f"--http-management-port={self._management_port}",
            "--hostname-strict=false",
            "--import-realm",
            f"--bootstrap-admin-username={_ADMIN}",
            f"--bootstrap-admin-password={_ADMIN}",
        ]

    def answers(self) -> bool:
        try:
            return send("GET", f"{self.issuer}/.well-known/openid-configuration").status == 200
        except (OSError, HTTPException):
            return False

    def logout(self, user: str = "alice") -> None:
        """End all sessions of the user, as an administrator may."""
        self.admin("POST", f"users/{self.user_id(user)}/logout")

    def user_id(self, user: str = "alice") -> str:
        """The `sub` of the user's tokens."""
        [found] = self.admin("GET", f"users?exact=true&username={user}")
        return str(found["id"])

    def rotate(self, algorithm: str = "RS256", *, keep_old: bool = True) -> None:
        """Sign with a new key from now on. Old keys stay published unless `keep_old` is False."""
        old = self._signing_keys()
        provider, config = _KEY_PROVIDERS.get(algorithm, ("rsa-generated", {"algorithm": [algorithm]}))
        config = {**config, "priority": [str(max(_priority(key) for key in old) + 1)]}
        self.admin("PUT", "", {"defaultSignatureAlgorithm": algorithm})
        key = {"name": algorithm, "providerId": provider, "providerType": "org.keycloak.keys.KeyProvider"}
        self.admin("POST", "components", {**key, "config": config})
        for stale in () if keep_old else old:
            self.admin("DELETE", f"components/{stale['id']}")

    def set_token_life(self, seconds: int) -> None:
        """Access tokens are valid for so long from now on; the realm's file says 60."""
        self.admin("PUT", "", {"accessTokenLifespan": seconds})

    def admin(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the Admin API answers below the realm. Raises RuntimeError for a refusal."""
        token = self.admin_token()
        url = f"{self.url}/admin/realms/{self.realm}/{path}".rstrip("/")
        return send(method, url, json_body=body, headers={"authorization": f"Bearer {token}"}).expect()

    def admin_token(self) -> str:
        """An access token of the administrator, whom another realm knows."""
        form = {"client_id": "admin-cli", "grant_type": "password", "username": _ADMIN, "password": _ADMIN}
        endpoint = f"{self.url}/realms/master/protocol/openid-connect/token"
        return str(send("POST", endpoint, form=form).expect(200)["access_token"])

    def _signing_keys(self) -> Sequence[Mapping[str, Any]]:
        found = self.admin("GET", "components?type=org.keycloak.keys.KeyProvider")
        return [
            key
            for key in found
            if key["providerId"] in {"rsa-generated", "ecdsa-generated", "eddsa-generated"}
        ]

    def _import_realm(self) -> None:
        """Make the database, and end so that it is whole."""
        super().start()
        self.terminate()


def _priority(key: Mapping[str, Any]) -> int:
    return int(key["config"].get("priority", ["0"])[0])
