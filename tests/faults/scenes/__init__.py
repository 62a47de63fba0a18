"""The stages, one for each service that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.faults.scene import Scene
from tests.faults.scenes.keycloak import KeycloakScene
from tests.faults.scenes.llm import LLMScene, OnlyLLMScene
from tests.faults.scenes.openfga import OpenFGAScene
from tests.faults.scenes.prometheus import PrometheusScene
from tests.faults.scenes.redis import RedisScene
from tests.support.redis_server import RedisServer

__all__ = ["SCENES", "on_stage"]

SCENES: Final[dict[str, type[Scene]]] = {
    scene.service: scene
    for scene in (LLMScene, OnlyLLMScene, OpenFGAScene, RedisScene, KeycloakScene, PrometheusScene)
}


@contextmanager
def on_stage(service: str, folder: Path, **redis: str) -> Iterator[Scene]:
    """The scene of that service, its processes started and at last stopped. ``redis``: options of Redis' server."""
    scene = SCENES[service](folder)
    scene.redis = RedisServer(folder / "redis", **redis)
    with scene:
        yield scene
