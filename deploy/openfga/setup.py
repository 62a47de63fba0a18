"""Makes store, model and tuples of the demo in an OpenFGA, unless they are there: ``setup.py URL [ENV_FILE]``.

Prints the settings that the server needs (OPENFGA_STORE_ID, OPENFGA_MODEL_ID), or writes them to ENV_FILE. Only the
standard library: in deploy/compose.yaml it runs in a bare Python.
"""

from __future__ import annotations

import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

__all__ = ["set_up"]

STORE: Final = "mcp-server-langgraph"
_HERE: Final = Path(__file__).parent


def set_up(url: str) -> dict[str, str]:
    """The settings for the store at ``url``, which is made where there is none of that name."""
    store = _store(url)
    model = _model(f"{url}/stores/{store}")
    tuples = json.loads((_HERE / "tuples.json").read_text())
    body = {"writes": {"tuple_keys": tuples, "on_duplicate": "ignore"}, "authorization_model_id": model}
    _call(f"{url}/stores/{store}/write", body)
    return {"OPENFGA_STORE_ID": store, "OPENFGA_MODEL_ID": model}


def _store(url: str) -> str:
    named = _call(f"{url}/stores?{urllib.parse.urlencode({'name': STORE})}")["stores"]
    return str((named[0] if named else _call(f"{url}/stores", {"name": STORE}))["id"])


def _model(store: str) -> str:
    """The newest model if it is ours, or else ours as a new one: models are never changed."""
    ours = json.loads((_HERE / "model.json").read_text())
    newest = _call(f"{store}/authorization-models?page_size=1")["authorization_models"]
    if newest and _types(newest[0]) == _types(ours):
        return str(newest[0]["id"])
    return str(_call(f"{store}/authorization-models", ours)["authorization_model_id"])


def _types(model: dict[str, Any]) -> dict[str, list[str]]:
    """Types and their relations; OpenFGA adds fields of its own to what it was given."""
    return {each["type"]: sorted(each.get("relations") or {}) for each in model["type_definitions"]}


def _call(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def main(url: str, env_file: str | None = None) -> None:
    """Set up, and tell the settings."""
    lines = "".join(f"{name}={value}\n" for name, value in set_up(url.rstrip("/")).items())
    if env_file is None:
        print(lines, end="")
    else:
        Path(env_file).write_text(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
