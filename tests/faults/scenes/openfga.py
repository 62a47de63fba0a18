"""OpenFGA's own server, and users whose permission is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tests.faults.house import Call
from tests.faults.scene import MODEL, USERS, Scene, url_of
from tests.support.faulty_proxy import FaultyProxy
from tests.support.openfga_process import OpenFGAProcess
from tests.support.process import Process

__all__ = ["OpenFGAScene"]


class OpenFGAScene(Scene):
    service = breaker = "openfga"
    probes = 1
    callers = ("a user whose permission was checked before", "another user", "a third user, some calls later")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._real = OpenFGAProcess(folder / "openfga", "sqlite", MODEL)
        self._turn = 0

    @property
    def process(self) -> Process:
        return self._real

    def __enter__(self) -> Self:
        super().__enter__()
        for user in USERS:
            self._real.grant(f"user:{user}", "can_chat", "service:agent")
        return self

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        changed = {"OPENFGA_API_URL": url_of(proxy), "OPENFGA_STORE_ID": self._real.store_id}
        return super().variables(proxy) | changed

    def new(self) -> Call:
        return self.chat("bob")

    def later(self) -> Call:
        self._turn += 1
        return self.chat(("carol", "dave", "erin")[self._turn % 3])
