"""A real Alertmanager."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.support.ports import HOST
from tests.support.process import Process

__all__ = ["AlertmanagerServer"]


class AlertmanagerServer(Process):
    """Alertmanager with this configuration, alone."""

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(folder, "alertmanager")
        self._config = config

    def command(self) -> list[str]:
        config = self.folder / "alertmanager.yml"
        config.write_text(self._config)
        return [
            self.program,
            f"--config.file={config}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",
        ]

    def answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=1)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
