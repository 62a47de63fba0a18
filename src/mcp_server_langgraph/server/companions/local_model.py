"""``serve --local-model``: the small model of this machine at the end of the chain of models."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_server_langgraph.llm.local_weights import missing_for_local_model
from mcp_server_langgraph.resilience.errors import SettingsError
from mcp_server_langgraph.settings import LOCAL_MODEL

__all__ = ["with_local_model"]


def with_local_model(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with the local model as the last that is asked, or as the first where no provider is named.

    Raises SettingsError where its packages are missing.
    """
    missing = missing_for_local_model()
    if missing is not None:
        raise SettingsError([f"--local-model: {missing}"])
    if environ.get("LLM_PROVIDER", "").strip().lower() in ("", "offline", "local"):
        return {**environ, "LLM_PROVIDER": "local", "LLM_MODEL": LOCAL_MODEL}
    name = f"local:{LOCAL_MODEL}"
    others = [part.strip() for part in environ.get("LLM_FALLBACK_MODELS", "").split(",")]
    chain = [part for part in others if part and part != name]
    return {**environ, "LLM_FALLBACK_MODELS": ",".join([*chain, name])}
