"""OpenFGA's own server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.json_http import send
from tests.support.openfga_server import DOCUMENT_MODEL
from tests.support.ports import HOST, free_port
from tests.support.process import Process

__all__ = ["OpenFGAProcess"]


class OpenFGAProcess(Process):
    """OpenFGA with one store that has a model already: `store_id`, `model_id`.

    `engine` "memory" forgets everything when the process ends; "sqlite" keeps it in the folder, over `kill` and
    `start` too. ``options`` are the server's flags, with underscores for hyphens.
    """

    def __init__(
        self,
        folder: Path,
        engine: Literal["memory", "sqlite"] = "memory",
        model: Mapping[str, Any] = DOCUMENT_MODEL,
        **options: str,
    ) -> None:
        super().__init__(folder, "openfga")
        self._grpc_port = free_port()
        self._engine = engine
        self._model = model
        self._options = options
        self.store_id = self.model_id = ""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> Self:
        """Start, and make store and model unless they are kept from before."""
        if self._engine == "sqlite" and not self.store_id:
            self._migrate()
        super().start()
        if self._engine == "memory" or not self.store_id:
            self.store_id = self.create_store()
            self.model_id = self.write_model(self._model)
        return self

    def command(self) -> list[str]:
        options = {
            **self._datastore(),
            "http_addr": f"{HOST}:{self.port}",
            "grpc_addr": f"{HOST}:{self._grpc_port}",
            "playground_enabled": "false",
            "metrics_enabled": "false",
            **self._options,
        }
        return [
            self.program,
            "run",
            *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()),
        ]

    def answers(self) -> bool:
        try:
            return send("GET", f"{self.url}/healthz").body == {"status": "SERVING"}
        except (OSError, HTTPException):
            return False

    def create_store(self, name: str = "test") -> str:
        """The id of a new store."""
        return str(self.call("POST", "/stores", {"name": name})["id"])

    def write_model(self, model: Mapping[str, Any], store: str | None = None) -> str:
        """The id of a new model in the store (its own one where None)."""
        path = f"/stores/{store or self.store_id}/authorization-models"
        return str(self.call("POST", path, model)["authorization_model_id"])

    def grant(self, user: str, relation: str, target: str) -> None:
        self.write([(user, relation, target)])

    def revoke(self, user: str, relation: str, target: str) -> None:
        self.write(deletes=[(user, relation, target)])

    def write(
        self, tuples: Iterable[tuple[str, str, str]] = (), deletes: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        """Write and delete tuples (user, relation, object); what is there, or gone, already is ignored."""
        body: dict[str, Any] = {}
        if added := _keys(tuples):
            body["writes"] = {"tuple_keys": added, "on_duplicate": "ignore"}
        if removed := _keys(deletes):
            body["deletes"] = {"tuple_keys": removed, "on_missing": "ignore"}
        self.call("POST", f"/stores/{self.store_id}/write", body)

    def tuples(self) -> set[tuple[str, str, str]]:
        """All that the store holds."""
        found: set[tuple[str, str, str]] = set()
        token = ""
        while True:
            body = {"page_size": 100, "continuation_token": token}
            page = self.call("POST", f"/stores/{self.store_id}/read", body)
            keys = [entry["key"] for entry in page["tuples"]]
            found |= {(key["user"], key["relation"], key["object"]) for key in keys}
            token = page["continuation_token"]
            if not token:
                return found

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer's body. Raises RuntimeError for a refusal."""
        return dict(send(method, self.url + path, json_body=body).expect())

    def _migrate(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        datastore = [f"--{name.replace('_', '-')}={value}" for name, value in self._datastore().items()]
        subprocess.run([self.program, "migrate", *datastore], check=True, capture_output=True, timeout=60)

    def _datastore(self) -> dict[str, str]:
        if self._engine == "memory":
            return {"datastore_engine": "memory"}
        return {"datastore_engine": "sqlite", "datastore_uri": f"file:{self.folder / 'openfga.sqlite'}"}


def _keys(tuples: Iterable[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [{"user": user, "relation": relation, "object": target} for user, relation, target in tuples]
