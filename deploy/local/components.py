"""The four services that the server leans on, on free ports, each with its data and log in one folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from deploy.local.programs import REPOSITORY, cached, find_java, find_prometheus, find_redis
from deploy.local.service import HOST, Service, accepts, answers_http, free_port

__all__ = ["AUDIENCE", "CLIENT_SECRET", "REALM", "keycloak", "openfga", "prometheus", "redis"]

REALM: Final = "demo"
AUDIENCE: Final = "mcp-server"
CLIENT_SECRET: Final = "mcp-server-secret"
"""Of the server as a client of the demo realm, where everyone can read it."""

# As bin/kc.sh runs it, with a small heap; run directly, because a shell in between would be the one that is ended.
_JVM: Final = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory="
    "io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
)


def redis(folder: Path) -> Service:
    """Redis, every write on disk before it is acknowledged. Raises Missing, as all of these do."""
    port = free_port()
    data = folder / "redis"
    data.mkdir(exist_ok=True)
    options = {
        "port": str(port),
        "bind": HOST,
        "dir": str(data),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Service("redis", f"redis://{HOST}:{port}/0", [find_redis(), *given], lambda: accepts(port), folder)


def openfga(folder: Path) -> Service:
    """OpenFGA with its store in memory."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [
        str(cached("openfga", "openfga") / "openfga"),
        "run",
        "--datastore-engine=memory",
        f"--http-addr={HOST}:{port}",
        f"--grpc-addr={HOST}:{free_port()}",
        "--playground-enabled=false",
        "--metrics-enabled=false",
    ]
    return Service("openfga", url, command, lambda: answers_http(f"{url}/healthz"), folder)


def keycloak(folder: Path) -> Service:
    """Keycloak with the demo realm, in a home of its own: the fetched distribution is only read."""
    distribution = cached("keycloak", "bin/kc.sh")
    home, port = folder / "keycloak", free_port()
    (home / "data" / "import").mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "deploy" / "keycloak" / "demo-realm.json", home / "data" / "import")
    for part in ("conf", "lib", "providers", "themes"):
        if not (home / part).exists():
            (home / part).symlink_to(distribution / part)
    url = f"http://{HOST}:{port}"
    command = [
        find_java(),
        *_JVM,
        f"-Dkc.home.dir={home}",
        f"-Djboss.server.config.dir={home / 'conf'}",
        "-cp",
        f"{distribution}/lib/quarkus-run.jar",
        "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
        "start",
        "--optimized",
        "--cache=local",
        f"--http-host={HOST}",
        "--http-enabled=true",
        f"--http-port={port}",
        f"--http-management-port={free_port()}",
        "--hostname-strict=false",
        "--import-realm",
    ]
    discovery = f"{url}/realms/{REALM}/.well-known/openid-configuration"
    return Service("keycloak", url, command, lambda: answers_http(discovery), folder, patience=300.0)


def prometheus(folder: Path, server_port: int) -> Service:
    """Prometheus, reading the server's metrics and the rules of deploy/prometheus."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    given = REPOSITORY / "deploy" / "prometheus"
    config = (given / "demo.yml").read_text().replace("server:8000", f"{HOST}:{server_port}")
    (folder / "prometheus.yml").write_text(config)
    for rules in ("rules.yml", "alerts.yml"):
        shutil.copy(given / rules, folder)
    command = [
        find_prometheus(),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={HOST}:{port}",
    ]
    return Service("prometheus", url, command, lambda: answers_http(f"{url}/-/ready"), folder)
