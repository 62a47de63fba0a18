"""A real Prometheus in a folder of its own, to be killed, hung and restarted by tests."""

import http.client
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.support.components import require
from tests.support.ports import HOST, free_port

__all__ = ["PrometheusServer"]

_CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: self
    static_configs:
      - targets: ["{host}:{port}"]
"""


class PrometheusServer:
    """Prometheus on a free port, scraping itself every second.

    The port and the folder stay the same over restarts. The methods block, for less than half a minute.
    """

    def __init__(self, folder: Path) -> None:
        self._program = require("prometheus")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> "PrometheusServer":
        """Start the program and wait until it serves queries."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(_CONFIG.format(host=HOST, port=self.port))
        command = [
            self._program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        self._wait_until_ready()
        return self

    def kill(self) -> None:
        """End the program at once, as `kill -9` does."""
        process = self._running()
        process.kill()
        process.wait(10)
        self._process = None

    def pause(self) -> None:
        """Hang: connections are still accepted by the kernel, and nothing is answered."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the program, whatever state it is in."""
        if self._process is not None:
            self.kill()

    def __enter__(self) -> "PrometheusServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _wait_until_ready(self, within: float = 30.0) -> None:
        give_up = time.monotonic() + within
        while not self._is_ready():
            if time.monotonic() > give_up or self._running().poll() is not None:
                raise TimeoutError(f"not ready; see {self._folder / 'server.log'}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=1)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
