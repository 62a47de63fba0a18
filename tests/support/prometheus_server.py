"""A real Prometheus."""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.ports import HOST
from tests.support.process import Process

__all__ = ["PrometheusServer"]

_CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [{rules}]
scrape_configs:
  - job_name: self
    static_configs:
      - targets: ["{host}:{port}"]
"""
_JOB = """  - job_name: {job}
    static_configs:
      - targets: ["{target}"]
"""
_ALERTING = """alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{target}"]
"""


class PrometheusServer(Process):
    """Prometheus, scraping itself and ``targets`` (host:port by job; may be set until it starts) every second.

    It evaluates the files ``rules`` every second too, and tells the Alertmanager at ``alertmanager`` (host:port).
    """

    def __init__(
        self,
        folder: Path,
        *,
        targets: Mapping[str, str] | None = None,
        rules: Sequence[Path] = (),
        alertmanager: str | None = None,
    ) -> None:
        super().__init__(folder, "prometheus")
        self.targets = dict(targets or {})
        self._rules = [str(path) for path in rules]
        self._alertmanager = alertmanager

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        config = self.folder / "prometheus.yml"
        text = _CONFIG.format(host=HOST, port=self.port, rules=", ".join(self._rules))
        text += "".join(_JOB.format(job=job, target=target) for job, target in self.targets.items())
        if self._alertmanager is not None:
            text += _ALERTING.format(target=self._alertmanager)
        config.write_text(text)
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
