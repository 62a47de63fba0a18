"""From a server that goes away to the webhook that wakes somebody: real Prometheus, real Alertmanager, our rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.support.alertmanager_server import AlertmanagerServer
from tests.support.http_server import HttpServer, Request, Response
from tests.support.ports import HOST
from tests.support.prometheus_server import PrometheusServer

FOLDER = ROOT / "deploy" / "prometheus"


class Scraped(HttpServer):
    async def handle(self, request: Request) -> Response:
        return Response(b"mcp_server_calls_in_flight 0\n", headers={"content-type": "text/plain"})


class Webhook(HttpServer):
    """Keeps what it is told, by path."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, dict[str, Any]]] = []

    async def handle(self, request: Request) -> Response:
        body = request.json()
        self.told += [(request.path, alert["status"], alert) for alert in body["alerts"]]
        return Response()

    def heard(self, path: str, status: str) -> list[dict[str, Any]]:
        return [alert for where, what, alert in self.told if (where, what) == (path, status)]


def hurried(name: str, **changes: str) -> str:
    """The file under deploy/ with shorter waits, which must all be there."""
    text = (FOLDER / name).read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    return text


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.1)


@pytest.mark.real_time(limit=150)
async def test_a_server_that_goes_away_pages_and_is_resolved_when_it_is_back(tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yml"
    rules.write_text(hurried("alerts.yml", **{"for: 1m": "for: 0s"}))
    with Webhook() as webhook, Scraped() as scraped:
        routes = hurried(
            "alertmanager.yml",
            **{"group_wait: 10s": "group_wait: 0s", "group_interval: 1m": "group_interval: 1s"},
            **{"127.0.0.1:9095": f"{HOST}:{webhook.port}"},
        )
        with (
            AlertmanagerServer(tmp_path / "alertmanager", routes) as alertmanager,
            PrometheusServer(
                tmp_path / "prometheus",
                targets={"mcp": f"{HOST}:{scraped.port}"},
                rules=[rules],
                alertmanager=f"{HOST}:{alertmanager.port}",
            ),
        ):
            await until(lambda: scraped.count() >= 2)
            assert webhook.told == []
            scraped.stop()
            await until(lambda: webhook.heard("/page", "firing"))
            scraped.start()
            await until(lambda: webhook.heard("/page", "resolved"))
    [firing, *_] = webhook.heard("/page", "firing")
    assert firing["labels"]["alertname"] == "McpServerDown"
    assert firing["annotations"]["summary"] == f"{HOST}:{scraped.port} of mcp cannot be scraped"
    assert webhook.heard("/ticket", "firing") == []
