"""A real Prometheus, and an agent's questions to it."""

from __future__ import annotations

import time
from pathlib import Path
from types import MappingProxyType

from tests.faults.house import Call
from tests.faults.scene import Ask, Scene, url_of
from tests.support.faulty_proxy import FaultyProxy
from tests.support.process import Process
from tests.support.prometheus_server import PrometheusServer

__all__ = ["PrometheusScene"]


class PrometheusScene(Scene):
    service = breaker = "prometheus"
    hurried = MappingProxyType({"PROMETHEUS_ATTEMPT_TIMEOUT": "0.3"})
    slow = 0.6
    slow_by_default = 6.0
    callers = ("asks what was asked before", "asks something new", "asks what was asked before")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._real = PrometheusServer(folder / "prometheus")

    @property
    def process(self) -> Process:
        return self._real

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        return super().variables(proxy) | {"PROMETHEUS_URL": url_of(proxy)}

    async def prepare(self, ask: Ask) -> None:
        await super().prepare(ask)
        await super().prepare(
            ask
        )  # the first answer of a server that has just started takes longer than any other

    def known(self) -> Call:
        return self.chat("alice", "metrics of `vector(1)`")

    def new(self) -> Call:
        return self.chat("alice", f"metrics of `vector({time.monotonic_ns()})`")
