"""OpenFGA's own server."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.json_http import send
from tests.support.openfga_server import DOCUMENT_MODEL
from tests.support.openfga_steering import OpenFGASteering
from tests.support.ports import HOST, free_port
from tests.support.process import Process

__all__ = ["OpenFGAProcess"]


class OpenFGAProcess(OpenFGASteering, Process):
    """OpenFGA with one store that has a model already: `store_id`, `model_id`.

    `engine` "memory" forgets everything when the process ends; "sqlite" keeps it in the folder, over `kill` and
    `start` too. ``options`` are the server's flags, with underscores for hyphens. ``keys``: it
    answers only to who gives one of them (``--authn-method=preshared``); what is asked here is asked with the first.
    """

    def __init__(
        self,
        folder: Path,
        engine: Literal["memory", "sqlite"] = "memory",
        model: Mapping[str, Any] = DOCUMENT_MODEL,
        keys: Sequence[str] = (),
        **options: str,
    ) -> None:
        super().__init__(folder, "openfga")
        self._grpc_port = free_port()
        self._engine = engine
        self._model = model
        self._options = options
        self.keys = keys

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> Self:
        """Start, and make store and model unless they are kept from before."""
        self.key = next(iter(self.keys), "")
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
            **self._authn(),
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

    def _migrate(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        datastore = [f"--{name.replace('_', '-')}={value}" for name, value in self._datastore().items()]
        subprocess.run([self.program, "migrate", *datastore], check=True, capture_output=True, timeout=120)

    def _authn(self) -> dict[str, str]:
        return {"authn_method": "preshared", "authn_preshared_keys": ",".join(self.keys)} if self.keys else {}

    def _datastore(self) -> dict[str, str]:
        if self._engine == "memory":
            return {"datastore_engine": "memory"}
        return {"datastore_engine": "sqlite", "datastore_uri": f"file:{self.folder / 'openfga.sqlite'}"}
