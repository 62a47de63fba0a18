"""An environment that lacks a package."""

import importlib.util

import pytest

__all__ = ["without"]


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make `find_spec`, as modules of ours have imported it, not find the package."""
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: object) -> object:
        return None if name == package else real(name, *rest)  # type: ignore[arg-type]

    for module in ("llm.local_weights", "llm.packages", "server.companions.redis"):
        monkeypatch.setattr(f"mcp_server_langgraph.{module}.find_spec", find_spec)
