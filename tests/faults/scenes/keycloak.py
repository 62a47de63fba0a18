"""A realm whose keys are rotated, and tokens of old and new keys."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from tests.faults.house import Call
from tests.faults.peer import RealmProcess
from tests.faults.scene import Ask, Scene, url_of
from tests.support.faulty_proxy import FaultyProxy
from tests.support.process import Process

__all__ = ["KeycloakScene"]


_REFRESH: Final = 1.0


class KeycloakScene(Scene):
    service = breaker = "keycloak"
    operations = MappingProxyType({"keycloak": 2})  # the endpoints and the keys
    probes = 1  # the next refresh may have begun
    callers = (
        "a token signed with a known key, once the keys were due",
        "a token signed with a new key",
        "a token signed with a known key",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._realm = RealmProcess(folder / "realm")
        self.keycloak.rotate()

    @property
    def process(self) -> Process:
        return self._realm

    def __enter__(self) -> Self:
        self._publish()
        return super().__enter__()

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        changed = {"KEYCLOAK_URL": url_of(proxy), "KEYCLOAK_KEYS_REFRESH_SECONDS": str(_REFRESH)}
        given = super().variables(proxy) | changed
        self.issuer = f"{url_of(proxy)}/realms/demo"
        self._realm.called(self.issuer)
        return given

    async def prepare(self, ask: Ask) -> None:
        self._publish()
        await super().prepare(ask)
        self.keycloak.rotate()
        self._publish()
        await asyncio.sleep(_REFRESH)  # now the keys are due

    async def notice(self, ask: Ask) -> None:
        """Callers do not wait for the refresh of keys: it takes one until somebody knows that it failed."""
        give_up = time.monotonic() + 20.0
        while (await ask(self.known())).kind == "whole" and time.monotonic() < give_up:
            await asyncio.sleep(0.05)

    def _publish(self) -> None:
        self._realm.publish([key.jwk() for key in self.keycloak.keys])

    def known(self) -> Call:
        return self._chat(self.keycloak.keys[1])

    def new(self) -> Call:
        return self._chat(self.keycloak.keys[0])

    def _chat(self, key: Any) -> Call:
        return Call(
            "agent_chat", {"message": "hello"}, self.keycloak.token(key=key, iss=self.issuer, sub="alice")
        )
