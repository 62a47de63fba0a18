"""A real Prometheus."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.support.ports import HOST
from tests.support.process import Process

__all__ = ["PrometheusServer"]

_CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: self
    static_configs:
      - targets: ["{host}:{port}"]
"""


class PrometheusServer(Process):
    """Prometheus, scraping itself every second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "prometheus")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        config = self.folder / "prometheus.yml"
        config.write_text(_CONFIG.format(host=HOST, port=self.port))
        return [
            self.program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
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
