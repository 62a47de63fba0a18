"""A provider of language models, with another one behind it and without."""

from __future__ import annotations

import time
from pathlib import Path
from types import MappingProxyType
from typing import Self

from tests.faults.house import Call
from tests.faults.peer import ProviderProcess
from tests.faults.scene import Scene, url_of
from tests.llm.models import KEY
from tests.llm.provider_server import ProviderServer
from tests.support.faulty_proxy import FaultyProxy
from tests.support.process import Process

__all__ = ["LLMScene", "OnlyLLMScene"]


class LLMScene(Scene):
    service = "llm"
    breaker = "llm.openai.first"
    hurried = MappingProxyType({"LLM_OPENAI_ATTEMPT_TIMEOUT": "0.4"})
    slow_by_default = 70.0
    callers = ("asks what was asked before", "asks something new", "asks what was asked before")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._real = ProviderProcess(folder / "provider")
        self._other = ProviderServer()

    @property
    def process(self) -> Process:
        return self._real

    def __enter__(self) -> Self:
        self._other.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._other.__exit__()

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        return super().variables(proxy) | {
            "LLM_PROVIDER": "openai",
            "LLM_MODEL": "first",
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{url_of(proxy)}/v1",
            "LLM_FALLBACK_MODELS": "anthropic:second",
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": self._other.base_url("anthropic"),
        }

    def new(self) -> Call:
        return self.chat("alice", f"tell me about {time.monotonic_ns()}")


class OnlyLLMScene(LLMScene):
    """The same without another model."""

    service = "llm, no other"

    def variables(self, proxy: FaultyProxy) -> dict[str, str]:
        return {
            name: value for name, value in super().variables(proxy).items() if name != "LLM_FALLBACK_MODELS"
        }
